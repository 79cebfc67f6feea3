"""Reading from and writing to an object store: S3's interface, served on this machine."""

from __future__ import annotations

import importlib.util

import polars as pl
import pytest
from helpers import contents, make_transitions, tiny_settings, write_d4rl

from vaco_curate import (
    Cut,
    apply_scorer,
    convert_dataset,
    filter_dataset,
    load_curated,
    read_dataset,
    score_dataset,
    verify_folder,
)
from vaco_curate.errors import CurateError, RunError
from vaco_curate.stages import scoring, shards
from vaco_curate.store.files import place


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket ``s3://test``."""
    server_module = pytest.importorskip("moto.server", reason="the dev extra is not installed")
    fsspec = pytest.importorskip("s3fs", reason="the s3 extra is not installed")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.S3FileSystem().mkdir("test")
        yield "s3://test"
        fsspec.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bucket):
    """A dataset here, in shards here and in the store, and a scorer."""
    folder = tmp_path_factory.mktemp("store")
    write_d4rl(folder / "data.hdf5", make_transitions(episodes=24, length=25))
    convert_dataset(folder / "data.hdf5", folder / "rows", rows_per_shard=200)
    convert_dataset(folder / "data.hdf5", f"{bucket}/rows", rows_per_shard=200)
    score_dataset(folder / "data.hdf5", out=folder / "scorer.vaco", settings=tiny_settings(), device="cpu")
    return folder


def test_a_dataset_in_a_store_reads_as_here(folder, bucket):
    assert contents(f"{bucket}/rows", "data") == contents(folder / "rows", "data")
    assert read_dataset(f"{bucket}/rows").fingerprint == read_dataset(str(folder / "rows")).fingerprint
    first = f"{bucket}/rows/data/part-00000.parquet"
    assert len(read_dataset(first)) == 200


def test_scores_and_filters_are_written_to_a_store_as_here(folder, bucket):
    apply_scorer(folder / "rows", folder / "scorer.vaco", out=folder / "here.vaco", device="cpu")
    apply_scorer(f"{bucket}/rows", folder / "scorer.vaco", out=f"{bucket}/run.vaco", device="cpu")
    assert contents(f"{bucket}/run.vaco", "scores") == contents(folder / "here.vaco", "scores")
    filter_dataset(folder / "here.vaco", Cut(rows=100), out=folder / "kept")
    filter_dataset(f"{bucket}/run.vaco", Cut(rows=100), out=f"{bucket}/kept")
    assert contents(f"{bucket}/kept", "data") == contents(folder / "kept", "data")
    assert len(load_curated(f"{bucket}/kept")) == 100
    assert verify_folder(f"{bucket}/kept").failed == []
    frame = pl.read_parquet(place(f"{bucket}/kept/_selection.pq").read_bytes())
    assert frame["keep"].sum() == 100
    with pytest.raises(RunError, match="exists already"):
        filter_dataset(f"{bucket}/run.vaco", Cut(rows=100), out=f"{bucket}/kept")
    with pytest.raises(RunError, match="cannot be replaced in one step"):
        filter_dataset(f"{bucket}/run.vaco", Cut(rows=50), out=f"{bucket}/kept", if_exists="replace")
    with pytest.raises(CurateError, match='file_format="d4rl" is not written to an object store'):
        filter_dataset(f"{bucket}/run.vaco", Cut(rows=50), out=f"{bucket}/other", file_format="d4rl")
    assert len(load_curated(f"{bucket}/kept")) == 100


def test_what_is_not_finished_in_a_store_is_not_read_and_is_gone_on_with(
    small_units, folder, bucket, monkeypatch
):
    class Stop(Exception):  # noqa: N818
        pass

    real = shards.run_jobs

    def two_units(engine, make_worker, count, *, device):
        yield from real("local", make_worker, 2)
        raise Stop

    arguments = {"out": f"{bucket}/halted.vaco", "device": "cpu"}
    with monkeypatch.context() as patch:
        patch.setattr(shards, "run_jobs", two_units)
        with pytest.raises(Stop):
            apply_scorer(f"{bucket}/rows", folder / "scorer.vaco", **arguments)
    with pytest.raises(RunError, match="not finished"):
        filter_dataset(f"{bucket}/halted.vaco", Cut(rows=10), out=folder / "no")
    scored = []
    score = scoring.ScoreShards._score

    def counted(self, unit, to):
        scored.append(unit.first_row)
        return score(self, unit, to)

    monkeypatch.setattr(scoring.ScoreShards, "_score", counted)
    apply_scorer(f"{bucket}/rows", folder / "scorer.vaco", **arguments)
    assert scored == [400], "the others were done"
    assert contents(f"{bucket}/halted.vaco", "scores").keys() == contents(folder / "rows", "data").keys()


def test_other_formats_and_trainings_are_refused_in_a_store(folder, bucket):
    place(f"{bucket}/data.hdf5").write_bytes((folder / "data.hdf5").read_bytes())
    with pytest.raises(CurateError, match="only Parquet is read from an object store"):
        read_dataset(f"{bucket}/data.hdf5")
    with pytest.raises(CurateError, match=r"s3://test/none(.|\n)*only Parquet|no such"):
        read_dataset(f"{bucket}/none")
    with pytest.raises(CurateError, match="training needs a folder of this machine"):
        score_dataset(folder / "data.hdf5", out=f"{bucket}/trained.vaco", settings=tiny_settings())


@pytest.mark.parametrize("address", ["nosuchstore://bucket/rows", "http://host/x.parquet", "az://box/rows"])
def test_stores_of_other_kinds_are_refused_by_name(address):
    with pytest.raises(CurateError, match=r"is not supported, only s3:// and gs:// are"):
        read_dataset(address)


@pytest.mark.parametrize(("address", "client"), [("gs://bucket/rows", "gcsfs"), ("s3://bucket/rows", "s3fs")])
def test_a_store_without_its_package_names_it(monkeypatch, address, client):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == client else find_spec(name))
    with pytest.raises(CurateError, match=f"pip install {client}$"):
        read_dataset(address)


def test_a_store_that_cannot_be_used_is_one_message(monkeypatch, vaco):
    s3fs = pytest.importorskip("s3fs", reason="the s3 extra is not installed")
    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    outcome = vaco("inspect", "s3://bucket/rows.parquet")
    assert outcome.code == 1
    assert "the object store cannot be used" in outcome.stderr
    assert "credentials" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "s3://bucket/run.vaco: the object store" in vaco("verify", "s3://bucket/run.vaco").stderr
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_file_that_needs_this_machine_is_refused_before_the_store_is_asked(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(CurateError, match="only Parquet is read from an object store"):
        read_dataset("s3://bucket/rows.hdf5")
