"""A fleet does what one process does, byte for byte, also when one of its workers is killed on the way."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import contents, make_transitions, tiny_settings, write_d4rl

from vaco_curate import (
    Cut,
    apply_scorer,
    convert_dataset,
    filter_dataset,
    open_dataset,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.errors import CurateError, DatasetError, SettingsError
from vaco_curate.stages import scoring, shards, write
from vaco_curate.store.engines import run_jobs
from vaco_curate.store.manifest import read_manifest

pytestmark = pytest.mark.usefixtures("small_units")


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of this machine with room for two workers."""
    ray = pytest.importorskip("ray", reason="the ray extra is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # of ``KilledOnce``
        ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset of eight shards and a scorer."""
    folder = tmp_path_factory.mktemp("fleet")
    row = np.arange(24 * 25)
    write_d4rl(folder / "data.hdf5", make_transitions(episodes=24, length=25), **{"infos/row": row})
    convert_dataset(folder / "data.hdf5", folder / "rows", rows_per_shard=75)
    score_dataset(folder / "data.hdf5", out=folder / "scorer.vaco", settings=tiny_settings(), device="cpu")
    return folder


@dataclass(frozen=True)
class KilledOnce:
    """Does a job, but the first worker that comes to the given one is killed there, half way."""

    worker: object
    number: int
    mark: Path

    def __call__(self, number: int):
        if number == self.number:
            try:
                self.mark.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        return self.worker(number)


def kill_a_worker(monkeypatch, mark: Path) -> None:
    real = shards.run_jobs

    def with_a_killing(engine, make_worker, count, *, device):
        return real(engine, lambda: KilledOnce(make_worker(), 3, mark), count, device=device)

    monkeypatch.setattr(shards, "run_jobs", with_a_killing)


def test_local_and_ray_runs_write_the_same_bytes_though_a_worker_is_killed(cluster, folder, monkeypatch):
    apply_scorer(folder / "rows", folder / "scorer.vaco", out=folder / "local.vaco", device="cpu")
    with monkeypatch.context() as patch:
        kill_a_worker(patch, folder / "killed-scoring")
        apply_scorer(
            folder / "rows", folder / "scorer.vaco", out=folder / "ray.vaco", device="cpu", engine="ray"
        )
    assert (folder / "killed-scoring").exists(), "no worker was killed"
    assert len(contents(folder / "ray.vaco", "scores")) == 8
    assert contents(folder / "ray.vaco", "scores") == contents(folder / "local.vaco", "scores")
    local, ray = (read_manifest(folder / run)["dataset"] for run in ("local.vaco", "ray.vaco"))
    assert local == ray

    cut = Cut(rows=200)
    filter_dataset(folder / "local.vaco", cut, out=folder / "local", excluded=folder / "local-rest")
    with monkeypatch.context() as patch:
        kill_a_worker(patch, folder / "killed-filter")
        filter_dataset(folder / "ray.vaco", cut, out=folder / "ray", excluded=folder / "ray-rest", engine="ray")
    assert (folder / "killed-filter").exists(), "no worker was killed"
    for mine, theirs in (("local", "ray"), ("local-rest", "ray-rest")):
        assert contents(folder / mine, "data") == contents(folder / theirs, "data")
    rows = pq.read_table(folder / "ray" / "data")
    assert rows["infos/row"].to_pylist() == rows["index"].to_pylist()
    assert (folder / "local" / "_selection.pq").read_bytes() == (folder / "ray" / "_selection.pq").read_bytes()

    reweight_dataset(folder / "local.vaco", out=folder / "local-weighted")
    reweight_dataset(folder / "local.vaco", out=folder / "ray-weighted", engine="ray")
    assert contents(folder / "local-weighted", "data") == contents(folder / "ray-weighted", "data")


@dataclass(frozen=True)
class KilledAtChange:
    """Does jobs; in each, the first worker is killed at its n-th change of the file system."""

    worker: object
    change: int
    marks: Path

    def __call__(self, number: int):
        left = self.change
        changes = {"os.rename", "os.mkdir", "os.remove", "os.rmdir"}

        def hook(event, arguments):
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY
            if writes or event in changes:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        mark = self.marks / str(number)
        if not mark.exists():
            mark.touch()
            sys.addaudithook(hook)
        return self.worker(number)


def test_workers_that_are_killed_at_any_change_lose_nothing(cluster, folder, tmp_path, monkeypatch, kills):
    if kills <= 2:
        pytest.skip("only in make test-long")
    here = tmp_path / "here.vaco"
    apply_scorer(folder / "rows", folder / "scorer.vaco", out=here, device="cpu")
    expected, real = contents(here, "scores"), shards.run_jobs
    for change in range(1, min(kills, 6) + 1):
        marks, there = tmp_path / f"marks-{change}", tmp_path / f"there-{change}.vaco"
        marks.mkdir()

        def with_killings(engine, make_worker, count, *, device, at=change, marks=marks):
            return real(engine, lambda: KilledAtChange(make_worker(), at, marks), count, device=device)

        monkeypatch.setattr(shards, "run_jobs", with_killings)
        apply_scorer(folder / "rows", folder / "scorer.vaco", out=there, device="cpu", engine="ray")
        assert len(list(marks.iterdir())) == 8, "no worker was killed"
        assert contents(there, "scores") == expected, f"killed at change {change}"
        assert not [path.name for path in (there / "scores").iterdir() if path.suffix != ".parquet"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_workers_of_ray_score_on_their_gpus(cluster, folder):
    scorer, here, there = folder / "scorer.vaco", folder / "cuda.vaco", folder / "ray-cuda.vaco"
    apply_scorer(folder / "rows", scorer, out=here, device="cuda")
    apply_scorer(folder / "rows", scorer, out=there, engine="ray")
    assert read_manifest(there)["device"] == torch.cuda.get_device_name()
    assert contents(there, "scores") == contents(here, "scores")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpus_that_a_cluster_does_not_have_are_refused(cluster, folder):
    with pytest.raises(SettingsError, match="no machine of the Ray cluster has one"):
        apply_scorer(
            folder / "rows", folder / "scorer.vaco", out=folder / "no.vaco", device="cuda", engine="ray"
        )
    assert not list(folder.glob("no.vaco*")), "something was begun"


def test_what_a_job_refuses_comes_back_as_it_was_said(cluster, folder):
    other = folder / "other.hdf5"
    write_d4rl(other, make_transitions(observation_size=7))
    with pytest.raises(CurateError, match="vectors of other sizes") as raised:
        apply_scorer(other, folder / "scorer.vaco", out=folder / "other.vaco", device="cpu", engine="ray")
    assert "observation 7, action 2" in raised.value.details[1]


class Stop(Exception):  # noqa: N818
    pass


def test_what_is_complete_is_not_done_again(folder, monkeypatch):
    """Without Ray: the jobs are the same, and so is the folder that is kept."""
    done: list[int] = []

    def until_the_fourth(engine, make_worker, count, *, device):
        worker = make_worker()
        for number in range(count):
            if len(done) == 4 and number == 4:
                done.append(-1)
                raise Stop
            yield worker(number)
            done.append(number)

    scored: list[int] = []
    real = scoring.ScoreShards._score

    def counted(self, unit, folder):
        scored.append(unit.first_row)
        return real(self, unit, folder)

    monkeypatch.setattr(shards, "run_jobs", until_the_fourth)
    monkeypatch.setattr(scoring.ScoreShards, "_score", counted)
    arguments = {"out": folder / "resumed.vaco", "device": "cpu", "engine": "ray"}
    with pytest.raises(Stop):
        apply_scorer(folder / "rows", folder / "scorer.vaco", **arguments)
    assert not (folder / "resumed.vaco").exists()
    apply_scorer(folder / "rows", folder / "scorer.vaco", **arguments)
    assert scored == [75 * number for number in range(8)], "each once"
    whole = folder / "whole.vaco"
    apply_scorer(folder / "rows", folder / "scorer.vaco", out=whole, device="cpu")
    assert contents(folder / "resumed.vaco", "scores") == contents(whole, "scores")
    assert not (folder / "resumed.vaco.shards.partial").exists()


def test_something_else_that_was_begun_is_not_mixed_with_it(folder, monkeypatch):
    def nothing(engine, make_worker, count, *, device):
        raise Stop
        yield

    run, out = folder / "scorer.vaco", folder / "mixed"
    with monkeypatch.context() as patch:
        patch.setattr(shards, "run_jobs", nothing)
        with pytest.raises(Stop):
            filter_dataset(run, Cut(rows=100), out=out, engine="ray")
    with pytest.raises(CurateError, match="the unfinished output of another command"):
        filter_dataset(run, Cut(rows=50), out=out, engine="ray")
    monkeypatch.setattr(
        shards, "run_jobs", lambda engine, make, count, *, device: run_jobs("local", make, count)
    )
    filter_dataset(run, Cut(rows=50), out=out, engine="ray", if_exists="replace")
    assert read_manifest(out)["rows"]["kept"] == 50


def test_shards_that_share_an_episode_are_one_unit(folder):
    rows = folder / "rows" / "data"
    names = sorted(rows.iterdir())
    table = pq.read_table(names[0])
    (folder / "cut").mkdir(exist_ok=True)
    for number, (start, stop) in enumerate([(0, 30), (30, 50), (50, 75)]):
        pq.write_table(table.slice(start, stop - start), folder / "cut" / f"{number}.parquet")
    units = open_dataset(str(folder / "cut")).units()
    assert [unit.shard_names for unit in units] == [("0", "1"), ("2",)]
    assert [unit.first_row for unit in units] == [0, 50]
    assert [len(piece) for piece in units[0].pieces()] == [25, 25]


def test_an_unknown_engine_and_a_changed_dataset_are_refused(folder):
    with pytest.raises(SettingsError, match="engine fleet"):
        list(run_jobs("fleet", lambda: None, 1))
    write_d4rl(folder / "data2.hdf5", make_transitions(episodes=3, length=25))
    other = str(folder / "data2.hdf5")
    with pytest.raises(DatasetError, match="different dataset"):
        filter_dataset(folder / "scorer.vaco", Cut(rows=10), out=folder / "no", dataset=other)


def test_of_a_unit_that_is_half_done_the_other_half_is_done(folder):
    filter_dataset(folder / "scorer.vaco", Cut(rows=200), out=folder / "decided", selection_only=True)
    kept, rest = folder / "half" / "kept", folder / "half" / "rest"
    selection = folder / "decided" / "_selection.pq"
    units = open_dataset(str(folder / "rows")).units()
    writer = partial(write.WriteShards, units, selection, "parquet", ("score", "rank"), {}, {})
    for data in (kept, rest):
        data.mkdir(parents=True)
    worker = shards.Marked(writer, [kept, rest])
    first = worker(1)
    (file,) = kept.glob("*.parquet")
    written = file.stat()
    rest_before = contents(rest, ".")
    for path in rest.iterdir():
        path.unlink()
    assert worker(1) == first
    assert file.stat() == written, "it was done"
    assert contents(rest, ".") == rest_before
    assert worker(1) == first
