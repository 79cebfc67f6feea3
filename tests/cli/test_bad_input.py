"""Each gets a message that says what, where and how to fix; nothing is written or lost."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate.store.manifest import read_manifest, write_manifest

REPLACE = ("--if-exists", "replace")


def nan_in_row_7(data):
    values = data.observation.copy()
    values[7, 1] = np.nan
    return values


BAD_FILES = {
    "missing key": ({"actions": None}, "missing actions"),
    "lengths differ": ({"rewards": np.zeros(7, np.float32)}, "columns differ in length"),
    "integer actions": ({"actions": np.zeros((120, 2), np.int32)}, "continuous control"),
    "zero rows": (
        {
            "observations": np.zeros((0, 4), np.float32),
            "actions": np.zeros((0, 2), np.float32),
            "rewards": np.zeros(0, np.float32),
            "terminals": np.zeros(0, bool),
            "timeouts": np.zeros(0, bool),
        },
        "zero rows",
    ),
    "nan": ({"observations": nan_in_row_7(make_transitions())}, "NaN or infinite in row 7 (episode 0, step 7)"),
    "huge": (
        {"rewards": np.full(120, 1e20, np.float32)},
        "exceeds 1e+15 in row 0 (episode 0, step 0) and 99 more up to row 99",
    ),
    "infinity": (
        {"rewards": np.full(120, np.inf, np.float32)},
        "NaN or infinite in row 0 (episode 0, step 0) and 99 more up to row 99",
    ),
}


@pytest.mark.parametrize("command", ["score", "inspect"])
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_dataset_is_refused_and_nothing_is_written(vaco, here, command, kind):
    changes, message = BAD_FILES[kind]
    write_d4rl(here / "d.hdf5", make_transitions(), **changes)
    outcome = vaco(command, "d.hdf5")
    assert outcome.code == 1
    assert outcome.stderr.startswith("Error: d.hdf5: ")
    assert message in outcome.stderr
    assert [path.name for path in here.iterdir()] == ["d.hdf5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere.hdf5"], "nowhere.hdf5: no such file"),
        (["score", "pendulum.hdf5", "--seed", "-1"], "--seed -1"),
        (["score", "pendulum.hdf5", "--max-episode-steps", "0"], "--max-episode-steps 0"),
        (["score", "pendulum.hdf5", "--seed", str(10**20)], "below 2**62"),
        (["score", "pendulum.hdf5"], "pendulum.vaco exists already"),
        (["score", "pendulum.hdf5", "--resume"], "pendulum.vaco is finished"),
        (
            ["score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--if-exists", "replace"],
            "would replace the run of the scorer",
        ),
        (["score", "pendulum.hdf5", "--out", ".", "--if-exists", "replace"], "will not be replaced"),
        (
            ["score", "pendulum.hdf5", "--out", "new", "--column", "action=a"],
            "missing column a, which --column action=a names",
        ),
        (["filter", "--top", "0%"], "--top is 0 % of the rows"),
        (["filter", "--top", "-5%"], "--top is -5 % of the rows"),
        (["filter", "--top", "101%"], "--top is more than all rows"),
        (["filter", "--top", "1e400%"], "--top is more than all rows"),
        (["filter", "--top", "0"], "--top 0 keeps nothing"),
        (["filter", "--threshold", "nan"], "--threshold nan"),
        (["filter", "--threshold", "1e9"], "keeps nothing"),
        (
            ["filter", "--top", "50%", "--out", "pendulum.vaco", *REPLACE],
            "would replace the run",
        ),
        (["filter", "--top", "50%", "--out", "x", "--excluded", "x/y"], "--out x and --excluded x/y overlap"),
        (["filter", "nowhere", "--top", "50%"], "nowhere: there is no such folder"),
        (["reweight", "--temperature", "0"], "--temperature 0"),
        (["reweight", "--clip", "0.5"], "--clip 0.5"),
        (["eval", "--episodes", "0"], "--episodes 0"),
        (["eval", "--seeds", "-2"], "--seeds -2"),
        (["eval", "--updates", "0"], "--updates 0"),
        (["eval", "--against", "magic"], "--against magic"),
        (["eval", "--env", "CartPole-v1"], "takes discrete actions"),
        (
            ["eval", "--env", "Pendulum-v1", "--reset-options", '{"x_init": "far"}'],
            "cannot be reset and stepped",
        ),
        (["eval", "--env", "NoSuchThing-v1"], "the environment NoSuchThing-v1 cannot be made"),
        (["eval", "--env", "Hopper-v5"], "Hopper-v5 does not fit the dataset"),
        (["report", "nowhere"], "nowhere: there is no such folder"),
    ],
)
def test_absurd_requests_are_refused_with_exit_code_1_and_write_nothing(vaco, scored, arguments, message):
    before = sorted(scored.rglob("*"))
    outcome = vaco(*arguments)
    assert outcome.code == 1
    assert "Error:" in outcome.stderr
    assert message in outcome.stderr
    assert sorted(scored.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["filter"],
        ["filter", "--top", "50%", "--threshold", "1"],
        ["filter", "--top", "half"],
        ["score"],
        ["score", "pendulum.hdf5", "--preset", "slow"],
        ["score", "pendulum.hdf5", "--column", "observation"],
        ["score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--preset", "quick"],
        ["eval", "--reset-options", "[1]"],
        ["eval", "--env-kwargs", "{}", "--reset-options", '{"a": 1}'],
        ["nonsense"],
    ],
)
def test_wrong_usage_has_exit_code_2(vaco, scored, arguments):
    outcome = vaco(*arguments)
    assert outcome.code == 2
    assert "Error" in outcome.stderr


def test_foreign_manifests_in_the_current_directory_are_passed_over(vaco, scored):
    (scored / "extension").mkdir()
    (scored / "extension" / "_manifest.json").write_text("[]")
    shutil.copytree(scored / "pendulum.vaco", scored / ".pendulum.vaco.previous")
    shutil.copytree(scored / "pendulum.vaco", scored / "later.vaco.partial")
    outcome = vaco("filter", "--top", "50%", "--dry-run")
    assert outcome.code == 0, outcome.stderr
    assert "using the newest run here: pendulum.vaco\n" in outcome.stderr


def test_a_curated_folder_is_not_evaluated_with_another_run(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "kept")
    (scored / "tiny.json").write_text(CONFIG)
    assert vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--seed", "1", *REPLACE).code == 0
    outcome = vaco("eval", "kept", "--updates", 5)
    assert outcome.code == 1, outcome.stdout
    assert "pendulum.vaco is no longer the one that made it" in outcome.stderr


MANIFEST = '{"made_by": "vaco-curate", "kind": "run", "complete": true}'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("scorer/scorer.json", "{}"),
        ("evaluations.json", "{"),
        ("metrics.parquet", "x"),
        ("_manifest.json", MANIFEST),
    ],
)
def test_damaged_parts_of_a_run_are_refused(vaco, scored, file, text):
    (scored / "pendulum.vaco" / file).write_text(text)
    outcome = vaco("eval") if file == "scorer/scorer.json" else vaco("report")
    assert outcome.code == 1
    assert file.rpartition("/")[2].partition(".")[0] in outcome.stderr


def test_a_selection_refuses_a_dataset_that_is_not_the_one_scored(vaco, scored):
    import h5py

    with h5py.File(scored / "pendulum.hdf5", "r+") as file:
        file["rewards"][3] = 7.0
    manifest = read_manifest(scored / "pendulum.vaco")
    manifest["dataset"]["address"] = str(scored / "pendulum.hdf5")
    write_manifest(scored / "pendulum.vaco", manifest)
    for command in (["filter", "--top", "50%"], ["reweight"], ["report"], ["eval"]):
        outcome = vaco(*command)
        assert outcome.code == 1
        assert "made for a different dataset" in outcome.stderr
        assert outcome.stderr.count("fingerprint") == 2


def test_a_moved_dataset_is_asked_for_and_found(vaco, scored):
    manifest = read_manifest(scored / "pendulum.vaco")
    manifest["dataset"]["address"] = manifest["dataset"]["recordings"][0]["path"] = "/gone/pendulum.hdf5"
    write_manifest(scored / "pendulum.vaco", manifest)
    refused = vaco("filter", "--top", "50%")
    assert refused.code == 1
    assert "--dataset" in refused.stderr
    assert vaco("filter", "--top", "50%", "--dataset", "pendulum.hdf5").code == 0


def test_a_scorer_is_not_applied_to_vectors_of_other_sizes(vaco, scored):
    write_d4rl(scored / "other.hdf5", make_transitions())
    outcome = vaco("score", "other.hdf5", "--scorer", "pendulum.vaco")
    assert outcome.code == 1
    assert "observation 4, action 2" in outcome.stderr
    assert not (scored / "other.vaco").exists()


def test_without_a_run_the_message_says_how_to_make_one(vaco, here):
    outcome = vaco("filter", "--top", "50%")
    assert outcome.code == 1
    assert "vaco-curate score DATASET" in outcome.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"settings": [1]}', "JSON object"),
        ('{"value": {"learning_rate": 1e999}}', "finite float"),
        ('{"value": {"update": 3}}', "unknown setting value.update"),
    ],
)
def test_a_bad_config_is_refused(vaco, scored, text, message):
    (scored / "c.json").write_text(text)
    outcome = vaco("score", "pendulum.hdf5", "--out", "new", "--config", "c.json")
    assert outcome.code == 1
    assert message in outcome.stderr
    assert not (scored / "new").exists()


def test_a_damaged_score_table_is_refused(vaco, scored):
    (scored / "pendulum.vaco" / "scores/pendulum.parquet").write_bytes(b"PAR1")
    outcome = vaco("filter", "--top", "50%")
    assert outcome.code == 1
    assert "scores/pendulum.parquet: changed since it was written" in outcome.stderr


def test_a_folder_without_write_permission_is_refused(vaco, scored, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    outcome = vaco("filter", "--top", "50%")
    assert outcome.code == 1
    assert "Permission denied" in outcome.stderr


def test_truncated_files_of_every_kind_end_in_a_message(vaco, here, pendulum):
    whole = pendulum.read_bytes()
    (here / "cut.hdf5").write_bytes(whole[: len(whole) // 3])
    pl.DataFrame({"a": [1.0]}).write_parquet(here / "whole.parquet")
    (here / "cut.parquet").write_bytes((here / "whole.parquet").read_bytes()[:-9])
    for name in ("cut.hdf5", "cut.parquet"):
        outcome = vaco("score", name)
        assert outcome.code == 1
        assert "not" in outcome.stderr
        assert "Traceback" not in outcome.stderr
