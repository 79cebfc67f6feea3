from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from formats.test_robomimic import write_robomimic
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate import load_curated
from vaco_curate.data.formats import WRITERS, open_dataset, read_dataset

REPLACE = ("--if-exists", "replace")


@pytest.mark.parametrize("file_format", WRITERS)
def test_identical_rows_get_identical_scores_in_every_format(vaco, scored, file_format):
    """Minari and npz leave out the last row of an episode where its successor is unknown, and no other."""
    outcome = vaco("convert", "pendulum.hdf5", "other", "--format", file_format, "--json")
    assert outcome.code == 0, outcome.stderr
    data = read_dataset(str(scored / "pendulum.hdf5"))
    kept = data.is_learnable if file_format in ("minari", "npz") else np.ones(len(data), bool)
    assert outcome.json["episodes"] == 20
    again = vaco("score", "other", "--scorer", "pendulum.vaco", "--out", "other.vaco", "--json")
    assert again.code == 0, again.stderr
    assert again.json["rows"] == kept.sum()
    mine, theirs = (
        pl.concat([pl.read_parquet(file) for file in sorted((scored / run / "scores").glob("*.parquet"))])
        for run in ("pendulum.vaco", "other.vaco")
    )
    for name in ("score", "q_value", "advantage"):
        assert (mine[name].to_numpy()[kept] == theirs[name].to_numpy()).all(), name


def test_shards_hold_whole_episodes(vaco, here):
    write_d4rl(here / "d.hdf5", make_transitions(episodes=7, length=30))
    assert vaco("convert", "d.hdf5", "shards", "--rows-per-shard", "70").code == 0
    rows = [pq.read_metadata(path).num_rows for path in sorted((here / "shards" / "data").iterdir())]
    assert rows == [60, 60, 60, 30]
    assert read_dataset(str(here / "shards")).fingerprint == read_dataset(str(here / "d.hdf5")).fingerprint
    assert vaco("convert", "d.hdf5", "small", "--rows-per-shard", "7").code == 0
    assert len(list((here / "small" / "data").iterdir())) == 7


def test_converting_refuses_what_is_in_the_way_and_what_it_comes_from(vaco, here):
    write_d4rl(here / "d.hdf5", make_transitions())
    assert vaco("convert", "d.hdf5", "out").code == 0
    assert "exists already" in vaco("convert", "d.hdf5", "out").stderr
    assert vaco("convert", "d.hdf5", "out", "--if-exists", "replace").code == 0
    assert "would replace" in vaco("convert", "out", "out", "--if-exists", "replace").stderr
    assert "must be at least 1" in vaco("convert", "d.hdf5", "new", "--rows-per-shard", "0").stderr
    assert not (here / "new").exists()


def test_verify_finds_every_change(vaco, scored):
    assert vaco("filter", "--top", "50%", "--out", "half").code == 0
    for folder in ("half", "pendulum.vaco"):
        outcome = vaco("verify", folder)
        assert outcome.code == 0, outcome.stderr
        assert "as recorded" in outcome.stdout
    file = scored / "half" / "data" / "pendulum.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    (scored / "half" / "_selection.pq").unlink()
    (scored / "half" / "data" / "more.parquet").write_bytes(b"x")
    outcome = vaco("verify", "half", "--json")
    assert outcome.code == 1
    states = {check["what"]: check["state"] for check in outcome.json["checks"] if check["good"] is False}
    assert states == {
        "data/pendulum.parquet": "changed",
        "_selection.pq": "missing",
        "data/more.parquet": "not in the manifest",
    }


def test_verify_follows_a_folder_to_its_dataset_and_its_run(vaco, scored):
    (scored / "tiny.json").write_text(CONFIG)
    shutil.copy(scored / "pendulum.hdf5", scored / "own.hdf5")
    assert vaco("score", "own.hdf5", "--config", "tiny.json").code == 0
    assert vaco("filter", "own.vaco", "--top", "50%", "--out", "half").code == 0
    assert vaco("score", "own.hdf5", "--config", "tiny.json", "--seed", "1", "--if-exists", "replace").code == 0
    outcome = vaco("verify", "half")
    assert outcome.code == 1
    assert "another by now" in outcome.stderr
    shutil.rmtree(scored / "own.vaco")
    (scored / "own.hdf5").write_bytes(b"other")
    outcome = vaco("verify", "half")
    assert "no longer here, not checked" in outcome.stdout
    assert "own.hdf5: changed since" in outcome.stderr
    (scored / "own.hdf5").unlink()
    assert vaco("verify", "half").code == 0


def test_an_evaluation_and_a_report_do_not_make_a_run_another(vaco, scored):
    shutil.copytree(scored / "pendulum.vaco", scored / "own.vaco")
    assert vaco("report", "own.vaco").code == 0
    arguments = ("--against", "", "--updates", 5, "--seeds", 1, "--episodes", 1)
    assert vaco("eval", "own.vaco", *arguments).code == 0
    assert vaco("verify", "own.vaco").code == 0


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["filter", "--top", "200", "--format", "d4rl"], ["data/pendulum.hdf5", "_selection.pq"]),
        (["filter", "--top", "50%", "--level", "episode", "--format", "minari"], ["data/main_data.hdf5"]),
        (["reweight", "--format", "d4rl"], ["data/pendulum.hdf5"]),
        (["reweight", "--format", "weights"], ["weights.parquet"]),
        (["reweight", "--format", "npy"], ["weights.npy"]),
    ],
)
def test_other_formats_are_written_and_verified(vaco, scored, arguments, files):
    outcome = vaco(*arguments, "--out", "out", "--json")
    assert outcome.code == 0, outcome.stderr
    assert all((scored / "out" / name).is_file() for name in files)
    assert vaco("verify", "out").code == 0
    if "data" in files[0]:
        assert len(read_dataset(str(scored / "out"))) > 0


def test_a_filter_of_transitions_is_not_written_as_minari(vaco, scored):
    outcome = vaco("filter", "--top", "50", "--format", "minari", "--out", "out")
    assert outcome.code == 1
    assert "--level episode" in outcome.stderr
    assert not (scored / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["filter", "--top", "200", "--format", "d4rl"],
        ["filter", "--top", "200", "--selection-only"],
        ["reweight", "--format", "npy"],
        ["reweight", "--format", "weights"],
    ],
)
def test_every_output_can_be_evaluated(vaco, scored, arguments):
    assert vaco(*arguments, "--out", "out").code == 0
    options = ("--against", "", "--updates", 5, "--seeds", 1, "--episodes", 1, "--json")
    outcome = vaco("eval", "out", *options)
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["policies"][0]["rows"] == (200 if "--top" in arguments else 4000)


def test_rows_in_d4rls_layout_load_as_curated_ones_and_so_do_minaris(vaco, scored):
    assert vaco("filter", "--top", "200", "--format", "d4rl", "--out", "flat").code == 0
    curated = load_curated(scored / "flat")
    assert len(curated) == 200
    assert (curated.index == np.sort(curated.index)).all()
    assert vaco("filter", "--top", "50%", "--level", "episode", "--format", "minari", "--out", "m").code == 0
    curated = load_curated(scored / "m")
    assert len(curated) == 1990
    assert set(np.bincount(curated.index // 200)) == {0, 199}, "the last observation of each is a successor"


def test_a_filter_key_is_not_written_for_another_dataset(vaco, here):
    source = write_robomimic(here / "demo.hdf5")
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", source, "--config", "tiny.json", "--out", "demo.vaco").code == 0
    arguments = (
        "filter",
        "demo.vaco",
        "--top",
        "50%",
        "--level",
        "episode",
        "--format",
        "robomimic",
        "--out",
        "best",
    )
    assert vaco(*arguments).code == 0
    assert "mask/best" in open_dataset(str(here / "best")).further.labels
    assert vaco("verify", "best").code == 0
    with h5py.File(source, "r+") as file:
        file["data/demo_4/actions"][0] += 1
    refused = vaco(*arguments, "--if-exists", "replace")
    assert refused.code == 1
    assert "made for a different dataset" in refused.stderr


def test_verify_follows_converted_data_to_where_it_comes_from(vaco, scored):
    assert vaco("convert", "pendulum.hdf5", "rows").code == 0
    assert vaco("score", "rows", "--scorer", "pendulum.vaco", "--out", "again.vaco").code == 0
    outcome = vaco("verify", "again.vaco")
    assert outcome.code == 0
    assert outcome.stdout.count("as recorded") >= 5
    assert vaco("convert", "pendulum.hdf5", "rows", "--rows-per-shard", "500", *REPLACE).code == 0
    outcome = vaco("verify", "again.vaco")
    assert outcome.code == 1
    assert "another by now" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filter", "--top", "5", "--engine", "ray", "--selection-only"], "--engine ray is for writing rows"),
        (["reweight", "--engine", "ray", "--format", "npy"], "--engine ray is for writing rows"),
        (["filter", "--top", "5", "--by", "random", "--seed", "-1"], "--seed -1"),
        (["filter", "--top", "5", "--level", "window:0"], "--level window:0"),
        (["filter", "--top", "5", "--per", "task"], "no column task"),
        (["filter", "--budget", "5", "--keep-successors", "2"], "--budget limits the rows"),
        (["filter", "--top", "5", "--min-episode-length", "0"], "--min-episode-length 0"),
        (
            ["inspect", "pendulum.hdf5", "--drop-columns", "camera"],
            "--drop-columns camera: this file has no observation of several parts",
        ),
    ],
)
def test_options_that_say_nothing_are_refused(vaco, scored, arguments, message):
    outcome = vaco(*arguments)
    assert outcome.code == 1
    assert message in outcome.stderr


def test_verify_goes_back_to_what_a_folder_was_made_from_and_what_that_was_made_from(vaco, scored):
    assert vaco("convert", "pendulum.hdf5", "rows").code == 0
    assert vaco("score", "rows", "--scorer", "pendulum.vaco", "--out", "second.vaco").code == 0
    assert vaco("filter", "second.vaco", "--top", "50%", "--out", "kept").code == 0
    whole = vaco("verify", "kept", "--json")
    assert whole.code == 0
    names = [check["what"] for check in json.loads(whole.stdout)["checks"]]
    assert len(names) == len(set(names))
    policy = scored / "pendulum.vaco" / "policy" / "policy.safetensors"  # of the run of the scorer of the run
    content = policy.read_bytes()
    policy.write_bytes(content[:-1] + b"x")
    damaged = vaco("verify", "kept")
    assert damaged.code == 1
    run, scorer = scored / "second.vaco", scored / "pendulum.vaco"
    assert f"run {run}: scorer {scorer}: policy/policy.safetensors: changed" in damaged.stderr
    policy.write_bytes(content)
    (scored / "second.vaco" / "scores" / "part-00000.parquet").unlink()
    assert "scores/part-00000.parquet: missing" in vaco("verify", "kept").stderr
