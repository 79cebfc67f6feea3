"""Each gets a message that says what, where and how to fix; nothing is written or lost."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from helpers import make_transitions, tiny_settings, write_d4rl

from vaco_curate.manifest import read_manifest

CONFIG = json.dumps(tiny_settings().to_json())


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
    "nan": ({"observations": nan_in_row_7(make_transitions())}, "first in row 7"),
    "huge": ({"rewards": np.full(120, 1e20, np.float32)}, "exceeds 1e+15 in 120 row(s), first in row 0"),
    "infinity": (
        {"rewards": np.full(120, np.inf, np.float32)},
        "NaN or infinite in 120 row(s), first in row 0",
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
            ["score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--force"],
            "would replace the run of the scorer",
        ),
        (["score", "pendulum.hdf5", "--out", ".", "--force"], "will not be replaced"),
        (
            ["score", "pendulum.hdf5", "--out", "new", "--column", "action=a"],
            "--column names the columns of Parquet",
        ),
        (["filter", "--top", "0%"], "--top 0%"),
        (["filter", "--top", "-5%"], "--top -5%"),
        (["filter", "--top", "101%"], "is not above 0 % and at most 100 %"),
        (["filter", "--top", "1e400%"], "is not above 0 % and at most 100 %"),
        (["filter", "--top", "0"], "--top 0 keeps nothing"),
        (["filter", "--threshold", "nan"], "--threshold nan"),
        (["filter", "--threshold", "1e9"], "keeps nothing"),
        (["filter", "--top", "50%", "--out", "pendulum.vaco", "--force"], "would replace the run"),
        (["filter", "--top", "50%", "--out", "x", "--excluded", "x/y"], "--out x and --excluded x/y overlap"),
        (["filter", "nowhere", "--top", "50%"], "nowhere: not a folder that vaco-curate wrote"),
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
        (["report", "nowhere"], "nowhere: not a folder that vaco-curate wrote"),
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


def test_an_existing_output_needs_force_and_survives_a_refusal(vaco, scored):
    assert vaco("filter", "--top", "50%").code == 0
    kept = (scored / "pendulum.top50pct" / "part-00000.parquet").read_bytes()
    again = vaco("filter", "--top", "50%")
    assert again.code == 1
    assert "--force" in again.stderr
    assert (scored / "pendulum.top50pct" / "part-00000.parquet").read_bytes() == kept
    assert vaco("filter", "--top", "50%", "--force").code == 0


def test_force_never_replaces_a_folder_that_is_not_ours(vaco, scored):
    (scored / "precious").mkdir()
    (scored / "precious" / "thesis.tex").write_text("years")
    outcome = vaco("filter", "--top", "50%", "--out", "precious", "--force")
    assert outcome.code == 1
    assert "was not written by vaco-curate" in outcome.stderr
    (scored / "precious" / "manifest.json").write_text('{"name": "a web extension"}')
    outcome = vaco("filter", "--top", "50%", "--out", "precious", "--force")
    assert outcome.code == 1
    assert "was not written by vaco-curate" in outcome.stderr
    assert (scored / "precious" / "thesis.tex").read_text() == "years"


def test_force_never_replaces_a_run_by_a_filter_or_the_dataset_by_either(vaco, scored):
    shutil.copytree(scored / "pendulum.vaco", scored / "other.vaco")
    outcome = vaco("filter", "pendulum.vaco", "--top", "50%", "--out", "other.vaco", "--force")
    assert outcome.code == 1
    assert "holds 'run', it will not be replaced by 'curated'" in outcome.stderr

    vaco("filter", "pendulum.vaco", "--top", "50%", "--out", "half")
    (scored / "tiny.json").write_text(CONFIG)
    vaco("score", "half", "--config", "tiny.json")
    before = sorted((scored / "half").iterdir())
    for command in (["filter", "half.vaco", "--top", "5"], ["reweight", "half.vaco"]):
        outcome = vaco(*command, "--out", "half", "--force")
        assert outcome.code == 1
        assert "would replace the dataset" in outcome.stderr
    assert sorted((scored / "half").iterdir()) == before


def test_resume_never_removes_a_folder_that_is_not_ours(vaco, here, pendulum):
    shutil.copy(pendulum, here / "pendulum.hdf5")
    (here / "pendulum.vaco.partial").mkdir()
    (here / "pendulum.vaco.partial" / "thesis.tex").write_text("years")
    outcome = vaco("score", "pendulum.hdf5", "--resume")
    assert outcome.code == 1
    assert (here / "pendulum.vaco.partial" / "thesis.tex").read_text() == "years"


def test_foreign_manifests_in_the_current_directory_are_passed_over(vaco, scored):
    (scored / "extension").mkdir()
    (scored / "extension" / "manifest.json").write_text("[]")
    shutil.copytree(scored / "pendulum.vaco", scored / ".pendulum.vaco.previous")
    shutil.copytree(scored / "pendulum.vaco", scored / "later.vaco.partial")
    outcome = vaco("filter", "--top", "50%", "--dry-run")
    assert outcome.code == 0, outcome.stderr
    assert "using the newest run here: pendulum.vaco\n" in outcome.stderr


def test_a_curated_folder_is_not_evaluated_with_another_run(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "kept")
    (scored / "tiny.json").write_text(CONFIG)
    assert vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--seed", "1", "--force").code == 0
    outcome = vaco("eval", "kept", "--updates", 5)
    assert outcome.code == 1, outcome.stdout
    assert "pendulum.vaco is no longer the one that made it" in outcome.stderr


def test_a_run_complete_but_not_yet_renamed_is_finished_by_resume(vaco, scored):
    (scored / "pendulum.vaco").rename(scored / "pendulum.vaco.partial")
    before = (scored / "pendulum.vaco.partial" / "scores.parquet").read_bytes()
    outcome = vaco("score", "pendulum.hdf5", "--resume", "--json")
    assert outcome.code == 0, outcome.stderr
    assert (scored / "pendulum.vaco" / "scores.parquet").read_bytes() == before


def test_resume_never_gives_the_result_of_another_dataset(vaco, scored):
    (scored / "pendulum.vaco").rename(scored / "r.vaco.partial")
    write_d4rl(scored / "other.hdf5", make_transitions())
    for arguments in (["other.hdf5"], ["pendulum.hdf5", "--seed", "5"]):
        outcome = vaco("score", *arguments, "--out", "r.vaco", "--resume")
        assert outcome.code == 1
        assert "began with another" in outcome.stderr
    assert (scored / "r.vaco.partial").is_dir()


def test_force_never_deletes_results_that_lie_inside_the_replaced_folder(vaco, scored):
    assert vaco("filter", "--top", "10%", "--out", "pendulum.vaco/best").code == 0
    (scored / "tiny.json").write_text(CONFIG)
    outcome = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--force")
    assert outcome.code == 1
    assert "also holds best" in outcome.stderr
    assert (scored / "pendulum.vaco" / "best" / "part-00000.parquet").is_file()


def test_the_advice_for_an_unfinished_run_works(vaco, scored):
    (scored / "pendulum.vaco").rename(scored / "pendulum.vaco.partial")
    manifest = read_manifest(scored / "pendulum.vaco.partial")
    (scored / "pendulum.vaco.partial" / "manifest.json").write_text(json.dumps(manifest | {"complete": False}))
    outcome = vaco("filter", "pendulum.vaco.partial", "--top", "50%")
    assert outcome.code == 1
    advice = outcome.stderr.partition("fix: vaco-curate ")[2].split()
    assert advice[:1] + advice[2:] == ["score", "--out", "pendulum.vaco", "--resume"]


@pytest.mark.parametrize("step", ["the old one is moved away", "the new one is put in its place"])
def test_an_interrupt_while_an_output_is_put_in_place_keeps_the_old_one(vaco, scored, monkeypatch, step):
    vaco("filter", "--top", "50%", "--out", "kept")
    before = (scored / "kept" / "part-00000.parquet").read_bytes()
    real = Path.rename

    def rename(self, target):
        moves_old = self.name == "kept" and Path(target).parent != scored
        moves_new = self.name != "kept" and Path(target).name == "kept" and Path(target).parent == scored
        restores = self.name == "kept" and self.parent != scored
        if not restores and (moves_old if "old" in step else moves_new):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    assert vaco("filter", "--top", "10%", "--out", "kept", "--force").code == 130
    monkeypatch.undo()
    assert (scored / "kept" / "part-00000.parquet").read_bytes() == before
    assert not any(path.name.startswith(".") for path in scored.iterdir())


MANIFEST = '{"made_by": "vaco-curate", "kind": "run", "complete": true}'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("scorer/scorer.json", "{}"),
        ("evaluations.json", "{"),
        ("metrics.parquet", "x"),
        ("manifest.json", MANIFEST),
    ],
)
def test_damaged_parts_of_a_run_are_refused(vaco, scored, file, text):
    (scored / "pendulum.vaco" / file).write_text(text)
    outcome = vaco("reweight") if file == "scorer/scorer.json" else vaco("report")
    assert outcome.code == 1
    assert file.rpartition("/")[2].partition(".")[0] in outcome.stderr


def test_a_selection_refuses_a_dataset_that_is_not_the_one_scored(vaco, scored):
    import h5py

    with h5py.File(scored / "pendulum.hdf5", "r+") as file:
        file["rewards"][3] = 7.0
    manifest = read_manifest(scored / "pendulum.vaco")
    manifest["dataset"]["path"] = str(scored / "pendulum.hdf5")
    (scored / "pendulum.vaco" / "manifest.json").write_text(json.dumps(manifest))
    for command in (["filter", "--top", "50%"], ["reweight"], ["report"], ["eval"]):
        outcome = vaco(*command)
        assert outcome.code == 1
        assert "made for a different dataset" in outcome.stderr
        assert outcome.stderr.count("fingerprint") == 2


def test_a_moved_dataset_is_asked_for_and_found(vaco, scored):
    manifest = read_manifest(scored / "pendulum.vaco")
    manifest["dataset"]["path"] = "/gone/pendulum.hdf5"
    (scored / "pendulum.vaco" / "manifest.json").write_text(json.dumps(manifest))
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
    (scored / "pendulum.vaco" / "scores.parquet").write_bytes(b"PAR1")
    outcome = vaco("filter", "--top", "50%")
    assert outcome.code == 1
    assert "not a readable score table" in outcome.stderr


LONG = json.dumps(tiny_settings().to_json() | {"value": {"updates": 100_000, "hidden": [32, 32]}})


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.05)


def test_ctrl_c_exits_with_130_and_the_run_goes_on_with_resume(vaco, start, here, pendulum):
    shutil.copy(pendulum, here / "pendulum.hdf5")
    (here / "long.json").write_text(LONG)
    process = start("score", "pendulum.hdf5", "--config", "long.json", cwd=here)
    wait_for(here / "pendulum.vaco.partial" / "checkpoint.safetensors")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume" in stderr
    assert "Traceback" not in stderr
    assert not (here / "pendulum.vaco").exists()

    unfinished = vaco("filter", "--top", "50%")
    assert unfinished.code == 1
    assert "unfinished: pendulum.vaco.partial" in unfinished.stderr
    again = vaco("score", "pendulum.hdf5", "--config", "long.json")
    assert again.code == 1
    assert "--resume" in again.stderr
    (here / "other.json").write_text(CONFIG)
    other = vaco("score", "pendulum.hdf5", "--config", "other.json", "--resume")
    assert other.code == 1
    assert "began with another settings" in other.stderr
    manifest_path = here / "pendulum.vaco.partial" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["settings"]["value"]["updates"] = 1
    manifest_path.write_text(json.dumps(manifest))  # end the value phase at once, to keep the test short
    assert vaco("score", "pendulum.hdf5", "--resume").code == 0
    assert (here / "pendulum.vaco" / "scores.parquet").is_file()
    assert not (here / "pendulum.vaco.partial").exists()


def test_resume_remembers_how_the_dataset_was_read(vaco, here, pendulum, monkeypatch):
    from vaco_curate.formats import read_dataset
    from vaco_curate.stages import score

    data = read_dataset(str(pendulum))
    frame = {"obs": data.observation.tolist(), "act": data.action.tolist(), "rew": data.reward}
    pl.DataFrame(frame).write_parquet(here / "log.parquet")
    (here / "tiny.json").write_text(CONFIG)
    begin = ["score", "log.parquet", "--config", "tiny.json", "--seed", "4", "--max-episode-steps", "200"]
    begin += ["--column", "observation=obs,action=act,reward=rew"]
    assert vaco(*begin, "--out", "whole").code == 0

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(score, "_score_into", interrupted)
        assert vaco(*begin).code == 130
    resumed = vaco("score", "log.parquet", "--resume")
    assert resumed.code == 0, resumed.stderr
    whole, again = (pl.read_parquet(here / run / "scores.parquet") for run in ("whole", "log.vaco"))
    assert whole.equals(again)


def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_is_refused_and_loses_nothing(start, scored):
    """A limit on file size stands for the disk: writes fail in the same calls, with EFBIG for ENOSPC."""
    before = {path: path.read_bytes() for path in scored.rglob("*") if path.is_file()}
    for command in (["filter", "pendulum.vaco", "--top", "90%"], ["score", "pendulum.hdf5", "--out", "new"]):
        process = start(*command, cwd=scored, preexec_fn=limit_file_size)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1, stderr
        assert "no space left to write" in stderr
        assert "Traceback" not in stderr
    assert not (scored / "pendulum.top90pct").exists()
    assert not (scored / "new").exists()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_interrupted_filter_leaves_the_previous_output(scored, monkeypatch, vaco):
    from vaco_curate.stages import select

    vaco("filter", "--top", "50%", "--out", "kept")
    before = (scored / "kept" / "part-00000.parquet").read_bytes()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(select, "write_kept", interrupted)
    assert vaco("filter", "--top", "10%", "--out", "kept", "--force").code == 130
    assert (scored / "kept" / "part-00000.parquet").read_bytes() == before
    assert not any(path.name.startswith(".") for path in scored.iterdir())


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
