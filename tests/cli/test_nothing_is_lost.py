"""What was finished is never lost: existing outputs, interrupts, resumes, a full disk."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
from pathlib import Path

import polars as pl
import pytest
from helpers import CONFIG, make_transitions, tiny_settings, write_d4rl

from vaco_curate.core.fast import native
from vaco_curate.store import folders
from vaco_curate.store.manifest import read_manifest, write_manifest


def test_an_existing_output_needs_force_and_survives_a_refusal(vaco, scored):
    assert vaco("filter", "--top", "50%").code == 0
    kept = (scored / "pendulum.top50pct" / "data/pendulum.parquet").read_bytes()
    again = vaco("filter", "--top", "50%")
    assert again.code == 1
    assert "--if-exists replace" in again.stderr
    assert (scored / "pendulum.top50pct" / "data/pendulum.parquet").read_bytes() == kept
    assert vaco("filter", "--top", "50%", "--if-exists", "replace").code == 0


def test_force_never_replaces_a_folder_that_is_not_ours(vaco, scored):
    (scored / "precious").mkdir()
    (scored / "precious" / "thesis.tex").write_text("years")
    outcome = vaco("filter", "--top", "50%", "--out", "precious", "--if-exists", "replace")
    assert outcome.code == 1
    assert "was not written by vaco-curate" in outcome.stderr
    (scored / "precious" / "_manifest.json").write_text('{"name": "a web extension"}')
    outcome = vaco("filter", "--top", "50%", "--out", "precious", "--if-exists", "replace")
    assert outcome.code == 1
    assert "was not written by vaco-curate" in outcome.stderr
    assert (scored / "precious" / "thesis.tex").read_text() == "years"


def test_force_never_replaces_a_run_by_a_filter_or_the_dataset_by_either(vaco, scored):
    shutil.copytree(scored / "pendulum.vaco", scored / "other.vaco")
    outcome = vaco("filter", "pendulum.vaco", "--top", "50%", "--out", "other.vaco", "--if-exists", "replace")
    assert outcome.code == 1
    assert "holds 'run', it will not be replaced by 'curated'" in outcome.stderr

    vaco("filter", "pendulum.vaco", "--top", "50%", "--out", "half")
    (scored / "tiny.json").write_text(CONFIG)
    vaco("score", "half", "--config", "tiny.json")
    before = sorted((scored / "half").iterdir())
    for command in (["filter", "half.vaco", "--top", "5"], ["reweight", "half.vaco"]):
        outcome = vaco(*command, "--out", "half", "--if-exists", "replace")
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


def test_a_run_complete_but_not_yet_renamed_is_finished_by_resume(vaco, scored):
    (scored / "pendulum.vaco").rename(scored / "pendulum.vaco.partial")
    before = (scored / "pendulum.vaco.partial" / "scores/pendulum.parquet").read_bytes()
    outcome = vaco("score", "pendulum.hdf5", "--resume", "--json")
    assert outcome.code == 0, outcome.stderr
    assert (scored / "pendulum.vaco" / "scores/pendulum.parquet").read_bytes() == before


def test_resume_never_gives_the_result_of_another_dataset(vaco, scored):
    (scored / "pendulum.vaco").rename(scored / "r.vaco.partial")
    write_d4rl(scored / "other.hdf5", make_transitions())
    for arguments in (["other.hdf5"], ["pendulum.hdf5", "--seed", "5"]):
        outcome = vaco("score", *arguments, "--out", "r.vaco", "--resume")
        assert outcome.code == 1
        assert "began with other values of" in outcome.stderr
    assert (scored / "r.vaco.partial").is_dir()


def test_resume_with_other_kernels_says_what_differs(vaco, scored, monkeypatch):
    (scored / "pendulum.vaco").rename(scored / "r.vaco.partial")
    monkeypatch.setattr(native, "load", lambda: None)
    outcome = vaco("score", "pendulum.hdf5", "--out", "r.vaco", "--resume")
    assert outcome.code == 1
    assert "began with another arithmetic" in outcome.stderr
    assert "now:   torch kernels" in outcome.stderr


def test_force_never_deletes_results_that_lie_inside_the_replaced_folder(vaco, scored):
    assert vaco("filter", "--top", "10%", "--out", "best").code == 0
    (scored / "best").rename(scored / "pendulum.vaco" / "best")
    (scored / "tiny.json").write_text(CONFIG)
    outcome = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--if-exists", "replace")
    assert outcome.code == 1
    assert "also holds best" in outcome.stderr
    assert (scored / "pendulum.vaco" / "best" / "data/pendulum.parquet").is_file()


def test_the_advice_for_an_unfinished_run_works(vaco, scored):
    (scored / "pendulum.vaco").rename(scored / "pendulum.vaco.partial")
    manifest = read_manifest(scored / "pendulum.vaco.partial")
    write_manifest(scored / "pendulum.vaco.partial", manifest | {"complete": False})
    outcome = vaco("filter", "pendulum.vaco.partial", "--top", "50%")
    assert outcome.code == 1
    advice = outcome.stderr.partition("fix: vaco-curate ")[2].split()
    assert advice[:1] + advice[2:] == ["score", "--out", "pendulum.vaco", "--resume"]


@pytest.mark.parametrize("step", ["the old one is moved away", "the new one is put in its place"])
def test_an_interrupt_while_an_output_is_put_in_place_keeps_the_old_one(vaco, scored, monkeypatch, step):
    vaco("filter", "--top", "50%", "--out", "kept")
    before = (scored / "kept" / "data/pendulum.parquet").read_bytes()
    real = Path.rename

    def rename(self, target):
        if self.name == ("kept" if "old" in step else ".kept.fresh"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr(folders, "exchanged", lambda one, other: False)  # as on other systems than Linux
    assert vaco("filter", "--top", "10%", "--out", "kept", "--if-exists", "replace").code == 130
    monkeypatch.undo()
    assert (scored / "kept" / "data/pendulum.parquet").read_bytes() == before
    assert not any(path.name.startswith(".") for path in scored.iterdir())


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
    assert "began with other values of: settings" in other.stderr
    manifest = read_manifest(here / "pendulum.vaco.partial")
    manifest["settings"]["value"]["updates"] = 1  # end the value phase at once, to keep the test short
    write_manifest(here / "pendulum.vaco.partial", manifest)
    assert vaco("score", "pendulum.hdf5", "--resume").code == 0
    assert (here / "pendulum.vaco" / "scores/pendulum.parquet").is_file()
    assert not (here / "pendulum.vaco.partial").exists()


def test_resume_remembers_how_the_dataset_was_read(vaco, here, pendulum, monkeypatch):
    from vaco_curate.data.formats import read_dataset
    from vaco_curate.stages import train

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
        patch.setattr(train, "score_into", interrupted)
        assert vaco(*begin).code == 130
    resumed = vaco("score", "log.parquet", "--resume")
    assert resumed.code == 0, resumed.stderr
    whole, again = (pl.read_parquet(here / run / "scores" / "log.parquet") for run in ("whole", "log.vaco"))
    assert whole.equals(again)


def limit_file_size():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_is_refused_and_loses_nothing(start, scored):
    """A limit on file size stands for the disk: writes fail in the same calls, with EFBIG for ENOSPC."""
    before = {path: path.read_bytes() for path in scored.rglob("*") if path.is_file()}
    (scored / "tiny.json").write_text(CONFIG)
    score = ["score", "pendulum.hdf5", "--config", "tiny.json", "--out", "new"]
    for command in (["filter", "pendulum.vaco", "--top", "90%"], score):
        process = start(*command, cwd=scored, preexec_fn=limit_file_size)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1, stderr
        assert "no space left to write" in stderr
        assert "Traceback" not in stderr
    assert not (scored / "pendulum.top90pct").exists()
    assert not (scored / "new").exists()
    assert all(path.read_bytes() == content for path, content in before.items())


def test_an_interrupted_filter_leaves_the_previous_output(scored, monkeypatch, vaco):
    from vaco_curate.stages import write

    vaco("filter", "--top", "50%", "--out", "kept")
    before = (scored / "kept" / "data/pendulum.parquet").read_bytes()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_write_rows", interrupted)
    assert vaco("filter", "--top", "10%", "--out", "kept", "--if-exists", "replace").code == 130
    assert (scored / "kept" / "data/pendulum.parquet").read_bytes() == before
    assert not any(path.name.startswith(".") for path in scored.iterdir())


def unfinished(vaco, folder, monkeypatch, *arguments):
    """Leave a run that was stopped after its training."""
    from vaco_curate.stages import train

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "score_into", stopped)
        outcome = vaco("score", "pendulum.hdf5", *arguments)
    assert outcome.code == 130
    return outcome


def test_resume_with_replace_goes_on_with_the_same_run_and_replaces_any_other(vaco, scored, monkeypatch):
    (scored / "tiny.json").write_text(CONFIG)
    options = ("--config", "tiny.json", "--device", "cpu", "--resume", "--if-exists", "replace")
    job = ("score", "pendulum.hdf5", *options)
    run = scored / "pendulum.vaco"
    assert vaco(*job).code == 0, "finished, of the same data"
    unfinished(vaco, scored, monkeypatch, *options)
    checkpoint = scored / "pendulum.vaco.partial" / "checkpoint.safetensors"
    shutil.copy(checkpoint, scored / "kept")
    same = vaco(*job)
    assert same.code == 0, same.stderr
    assert "begins anew" not in same.stderr
    assert "it is replaced" not in same.stderr
    unfinished(vaco, scored, monkeypatch, *options)
    write_d4rl(scored / "pendulum.hdf5", make_transitions())
    grown = vaco(*job)
    assert grown.code == 0, grown.stderr
    assert "other values of: dataset; it is replaced" in grown.stderr
    assert read_manifest(run)["dataset"]["rows"] == len(make_transitions())
    write_d4rl(scored / "pendulum.hdf5", make_transitions(episodes=9))
    again = vaco(*job)
    assert again.code == 0, "finished, of other data"
    assert "there is no unfinished run of pendulum.vaco to resume: it begins anew" in again.stderr


def test_refusals_say_what_would_work(vaco, scored, monkeypatch):
    (scored / "tiny.json").write_text(CONFIG)
    score = ("score", "pendulum.hdf5", "--config", "tiny.json", "--device", "cpu")
    in_the_way = vaco(*score)
    assert "--if-exists skip" in in_the_way.stderr
    assert "--if-exists replace" in in_the_way.stderr
    assert vaco(*score, "--if-exists", "replace").code == 0
    write_d4rl(scored / "pendulum.hdf5", make_transitions(episodes=8))
    assert "dataset: its contents have changed" in vaco(*score, "--if-exists", "skip").stderr
    assert "check the path" in vaco("verify", "nothing").stderr
    (scored / "folder").mkdir()
    assert "name a folder that" in vaco("verify", "folder").stderr
    unfinished(vaco, scored, monkeypatch, "--config", "tiny.json", "--out", "new.vaco")
    assert "--resume" in vaco("filter", "new.vaco", "--top", "50%").stderr


def test_a_damaged_output_is_mended_as_skip_says(vaco, scored):
    command = ("filter", "--top", "50%", "--out", "half")
    assert vaco(*command).code == 0
    (scored / "half" / "_selection.pq").write_bytes(b"x")
    assert "--if-exists replace" in vaco(*command, "--if-exists", "skip").stderr
    assert vaco(*command, "--if-exists", "replace").code == 0
    assert vaco("verify", "half").code == 0


def test_an_earlier_checkpoint_is_told_of_when_a_command_is_stopped_before_it_trains(vaco, scored, monkeypatch):
    from vaco_curate.stages import train

    (scored / "tiny.json").write_text(CONFIG)
    options = ("--config", "tiny.json", "--out", "new.vaco", "--resume")
    unfinished(vaco, scored, monkeypatch, *options)

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "open_scorable", stopped)
        told = vaco("score", "pendulum.hdf5", *options).stderr
        assert "what was trained is kept" in told
        assert "to go on: vaco-curate score pendulum.hdf5" in told
        fresh = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--out", "fresh.vaco").stderr
    assert "nothing is kept" in fresh


def test_a_full_disk_offers_to_resume_only_where_something_is_kept(vaco, scored, monkeypatch):
    import errno

    from vaco_curate.core.training import loop
    from vaco_curate.stages import train

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    (scored / "tiny.json").write_text(CONFIG)
    score = ("score", "pendulum.hdf5", "--config", "tiny.json", "--device", "cpu", "--resume", "--out", "new")
    for owner, name, kept in ((loop, "save_checkpoint", False), (train, "score_into", True)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, full)
            outcome = vaco(*score)
        assert outcome.code == 1
        assert "new: no space left to write" in outcome.stderr
        assert ("go on from the last checkpoint" in outcome.stderr) == kept
