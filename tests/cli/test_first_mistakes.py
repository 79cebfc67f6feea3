"""What is typed in a first hour, and what it is answered with."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from helpers import CONFIG, make_transitions, write_d4rl


@pytest.mark.parametrize("command", ["inspect", "score"])
def test_a_run_is_no_dataset(vaco, scored, command):
    refused = vaco(command, "pendulum.vaco", *(["--out", "x"] if command == "score" else []))
    assert refused.code == 1
    assert "pendulum.vaco: is a run of score, no dataset" in refused.stderr
    assert "/pendulum.hdf5\n  fix: name that" in refused.stderr


def test_a_dataset_is_no_run(vaco, scored):
    refused = vaco("filter", "pendulum.hdf5", "--top", "10%")
    assert "score it first: vaco-curate score pendulum.hdf5" in refused.stderr
    assert vaco("convert", "pendulum.hdf5", "rows").code == 0
    assert "fix: vaco-curate score rows" in vaco("filter", "rows", "--top", "10%").stderr


def test_a_format_that_is_not_read_is_named_without_a_fix_for_another(vaco, here):
    with h5py.File(here / "demos.h5", "w") as file:
        file["traj_0/success"] = np.zeros(3, bool)
    refused = vaco("inspect", "demos.h5")
    assert "a trajectory file of ManiSkill, which is not read" in refused.stderr
    assert "--column" not in refused.stderr
    assert "--success" not in refused.stderr


def test_an_unfinished_run_says_which_settings_it_began_with(vaco, scored, monkeypatch):
    from vaco_curate.stages import train

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    (scored / "tiny.json").write_text(CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(train, "score_into", stopped)
        assert vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--out", "x").code == 130
    other = json.loads(CONFIG)
    other["value"]["discount"] = 0.5
    (scored / "tiny.json").write_text(json.dumps(other))
    refused = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--out", "x", "--resume")
    assert "began with other values of: settings" in refused.stderr
    assert "settings: value: discount: 0.99 there, 0.5 asked for" in refused.stderr


def test_reasons_are_true_of_a_filter_of_the_worst(vaco, scored):
    made = vaco("filter", "--bottom", "10%", "--dry-run")
    assert "rows dropped: outside the cut" in made.stdout
    assert ", up to " in made.stdout
    assert ", down to " in vaco("filter", "--top", "10%", "--dry-run").stdout


def test_whole_episodes_of_good_and_bad_rows_are_cautioned(vaco, scored):
    from vaco_curate.store.manifest import read_manifest, write_manifest

    run = scored / "pendulum.vaco"
    for kind, told in (("some steps", 1), ("whole episodes", 0)):
        write_manifest(run, read_manifest(run) | {"persists_over": kind})
        made = vaco("filter", "--top", "50%", "--level", "episode", "--dry-run")
        assert made.stderr.count("whole episodes keep both") == told
        assert "keep both" not in vaco("filter", "--top", "50%", "--dry-run").stderr


def test_advice_is_given_to_who_does_not_follow_it(vaco, scored):
    from vaco_curate.store.manifest import read_manifest, write_manifest

    run = scored / "pendulum.vaco"
    write_manifest(run, read_manifest(run) | {"persists_over": "whole episodes", "warnings": []})
    assert "what earned most" not in vaco("filter", "--top", "10%", "--dry-run").stderr
    for other in (("--top", "25%"), ("--top", "10%ep"), ("--threshold", "0"), ("--top", "100")):
        assert "what earned most" in vaco("filter", *other, "--dry-run").stderr
    assert "what earned most" not in vaco("filter", "--bottom", "25%", "--dry-run").stderr


@pytest.mark.parametrize(
    ("updates", "reached"), [(2, "(nor was looked at)"), (400, "(rank correlation 0.")], ids=["few", "more"]
)
def test_a_training_that_has_not_settled_says_so(vaco, here, updates, reached):
    write_d4rl(here / "d.hdf5", make_transitions())
    settings = json.loads(CONFIG)
    settings["value"] |= {"updates": updates, "settled_at": 1.0, "polyak": 0.5}
    settings["bilevel"] |= {"updates": 0}
    (here / "own.json").write_text(json.dumps(settings))
    assert vaco("score", "d.hdf5", "--config", "own.json", "--out", "x").code == 0
    notes = json.loads((here / "x" / "_manifest.json").read_text())["notes"]
    (note,) = [note for note in notes if "had not settled" in note]
    assert note.startswith(f"the value phase made all its {updates:,} updates")
    assert reached in note
