"""Files that do harm when they are believed: they are refused, or shown for what they are."""

from __future__ import annotations

import os
import sys

import h5py
import numpy as np
import pytest
from helpers import make_transitions, write_d4rl

from vaco_curate.data.formats.environment import action_bounds
from vaco_curate.store.manifest import read_manifest, write_manifest


@pytest.fixture
def data(here):
    return write_d4rl(here / "data.hdf5", make_transitions())


def test_an_environment_of_a_dataset_imports_nothing(vaco, scored, monkeypatch):
    (scored / "harm.py").write_text("import pathlib; pathlib.Path('harm').touch()")
    monkeypatch.syspath_prepend(str(scored))
    assert action_bounds("harm:Pendulum-v1") == (None, None)
    manifest = read_manifest(scored / "pendulum.vaco")
    manifest["dataset"]["env_id"] = "harm:Pendulum-v1"
    write_manifest(scored / "pendulum.vaco", manifest)
    outcome = vaco("eval", "--updates", 5)
    assert outcome.code == 1
    assert "names a module, whose code would be run" in outcome.stderr
    assert not (scored / "harm").exists()
    assert "harm" not in sys.modules


def test_an_array_in_another_file_is_refused(vaco, data, here):
    (here / "secret").write_bytes(bytes(480))
    with h5py.File(data, "r+") as file:
        del file["rewards"]
        file.create_dataset("rewards", (120,), "f4", external=[(str(here / "secret"), 0, 480)])
    outcome = vaco("inspect", "data.hdf5")
    assert outcome.code == 1
    assert "data.hdf5: rewards: its numbers lie outside the file" in outcome.stderr


def test_a_missing_part_of_an_array_is_not_zeros(vaco, data, here):
    with h5py.File(here / "part.hdf5", "w") as part, h5py.File(data, "r+") as file:
        part["rewards"] = file["rewards"][:]
        layout = h5py.VirtualLayout((120,), "f4")
        layout[:] = h5py.VirtualSource("part.hdf5", "rewards", (120,))
        del file["rewards"]
        file.create_virtual_dataset("rewards", layout)
    assert vaco("inspect", "data.hdf5").code == 0
    (here / "part.hdf5").unlink()
    outcome = vaco("inspect", "data.hdf5")
    assert outcome.code == 1
    assert "of which part.hdf5 is missing" in outcome.stderr


def test_names_do_not_speak_to_the_terminal(vaco, data):
    with h5py.File(data, "r+") as file:
        file["infos/\x1b[2Jgone\x07"] = np.zeros(120)
    outcome = vaco("inspect", "data.hdf5")
    assert outcome.code == 0, outcome.stderr
    assert "\x1b" not in outcome.stdout
    assert "\\x1b[2Jgone" in outcome.stdout
    refused = vaco("inspect", "no\x1b[2J.hdf5")
    assert "\x1b[2J" not in refused.stderr
    assert "\\x1b[2J" in refused.stderr


def test_odd_names_are_refused(vaco, data, here):
    (here / "loop.hdf5").symlink_to("loop.hdf5")
    (here / os.fsdecode(b"bad\xff.hdf5")).write_bytes(data.read_bytes())
    for name, words in (
        ("loop.hdf5", "a link that leads to itself"),
        (os.fsdecode(b"bad\xff.hdf5"), "not UTF-8"),
    ):
        for command in (["inspect"], ["score", "--scorer", "none.vaco"], ["convert"]):
            out = ["out"] if command == ["convert"] else []
            outcome = vaco(*command, name, *out)
            assert outcome.code == 1
            if command[-1] != "none.vaco":
                assert words in outcome.stderr


def test_verify_does_not_read_devices_and_pipes(vaco, scored):
    os.mkfifo(scored / "pipe")
    for path in ("pipe", "/dev/zero"):
        manifest = read_manifest(scored / "pendulum.vaco")
        manifest["dataset"]["recordings"][0]["path"] = path
        manifest["files"][0]["name"] = path
        write_manifest(scored / "pendulum.vaco", manifest)
        outcome = vaco("verify", "pendulum.vaco")
        assert outcome.code == 1
        assert "missing" in outcome.stdout + outcome.stderr
