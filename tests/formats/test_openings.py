"""A command opens a source once, reads its files once for their hashes, and reads one version of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import h5py
import pytest
from helpers import make_transitions, write_d4rl

from vaco_curate.data.formats import openings, read_dataset
from vaco_curate.stages import convert

CONFIG = '{"value": {"updates": 20}, "bilevel": {"updates": 0}}'


@pytest.fixture
def opened(monkeypatch):
    """[name, file] of all HDF5 files that are opened for reading meanwhile."""
    files = []

    class Recorded(h5py.File):
        def __init__(self, name, mode="r", **options):
            super().__init__(name, mode, **options)
            if mode == "r":
                files.append((Path(name).name, self))

    monkeypatch.setattr(h5py, "File", Recorded)
    return files


@pytest.mark.parametrize(
    "command",
    [
        ["score", "pendulum.hdf5", "--config", "tiny.json", "--out", "new.vaco"],
        ["score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "new.vaco"],
        ["filter", "--top", "50%"],
        ["convert", "pendulum.hdf5", "converted"],
        ["inspect", "pendulum.hdf5"],
        ["report", "pendulum.vaco"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_a_command_opens_a_file_once_and_closes_it(vaco, scored, opened, command):
    (scored / "tiny.json").write_text(CONFIG)
    outcome = vaco(*command)
    assert outcome.code == 0, outcome.stderr
    assert [name for name, _ in opened] == ["pendulum.hdf5"]
    assert not any(file for _, file in opened)


def test_few_files_are_open_at_a_time(tmp_path, opened, monkeypatch):
    monkeypatch.setattr(openings, "MOST_OPEN", 2)
    most = 0
    close = h5py.File.close

    def counted(file):
        nonlocal most
        most = max(most, sum(bool(one) for _, one in opened))
        close(file)

    monkeypatch.setattr(h5py.File, "close", counted)
    for name in "abcde":
        write_d4rl(tmp_path / f"{name}.hdf5", make_transitions())
    assert len(read_dataset(str(tmp_path))) == 5 * len(make_transitions())
    assert most == 3, "two, and the one that is read"
    assert not any(file for _, file in opened)


@pytest.mark.parametrize("source", ["pendulum.hdf5", "converted"])
def test_a_source_is_read_once_for_its_hashes(vaco, scored, monkeypatch, source):
    assert vaco("convert", "pendulum.hdf5", "converted").code == 0
    (scored / "tiny.json").write_text(CONFIG)
    hashed = []
    real = hashlib.file_digest

    def recorded(file, name):
        hashed.append(Path(file.name).resolve())
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", recorded)
    assert vaco("score", source, "--config", "tiny.json", "--out", "new.vaco").code == 0
    rows = scored / ("pendulum.hdf5" if source == "pendulum.hdf5" else "converted/data/part-00000.parquet")
    assert hashed.count(rows.resolve()) == 1


@pytest.mark.parametrize("replaced", [True, False], ids=["replaced", "written to"])
def test_a_source_that_changes_while_it_is_read_is_noticed(vaco, scored, monkeypatch, replaced):
    real = convert._episodes
    source = scored / "pendulum.hdf5"

    def changed_meanwhile(dataset):
        found = real(dataset)
        if replaced:
            (scored / "new").write_bytes(source.read_bytes())
            (scored / "new").rename(source)
        else:
            os.utime(source, ns=(0, 0))
        return found

    monkeypatch.setattr(convert, "_episodes", changed_meanwhile)
    outcome = vaco("convert", "pendulum.hdf5", "converted")
    assert outcome.code == 1
    assert "pendulum.hdf5: changed while it was read" in outcome.stderr
    assert not (scored / "converted").exists()
