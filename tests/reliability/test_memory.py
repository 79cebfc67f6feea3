"""What would fill memory is read into mapped files, and gives the same results."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vaco_curate import load_curated
from vaco_curate.core.transitions import ROW_COLUMNS
from vaco_curate.data.formats import cache
from vaco_curate.stages.runs import open_run


@pytest.fixture
def small_machine(monkeypatch, tmp_path):
    """A machine with no memory, and the cache folder in which its files must lie."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(cache, "memory_of_machine", lambda: 0)
    return folder


def results(vaco, scored):
    inspected = json.loads(vaco("inspect", "pendulum.hdf5", "--json").stdout)
    evaluated = vaco("eval", "pendulum.vaco", "--updates", 20, "--seeds", 1, "--episodes", 1, "--json")
    assert evaluated.code == 0, evaluated.stderr
    reported = vaco("report", "pendulum.vaco", "--json")
    assert reported.code == 0, reported.stderr
    return inspected, json.loads(evaluated.stdout)["policies"], json.loads(reported.stdout)


def test_commands_give_the_same_from_mapped_files_and_leave_none(vaco, scored, request):
    in_memory = results(vaco, scored)
    folder = request.getfixturevalue("small_machine")
    assert results(vaco, scored) == in_memory
    assert not [path for path in folder.rglob("*") if path.is_file() and "native" not in str(path)]


def test_curated_rows_and_a_dataset_to_evaluate_are_mapped(vaco, scored, request):
    assert vaco("filter", "--top", "50%", "--out", "kept").code == 0
    plain = load_curated("kept")
    folder = request.getfixturevalue("small_machine")
    curated = load_curated("kept")
    for name in ROW_COLUMNS:
        column = getattr(curated.transitions, name)
        assert isinstance(column, np.memmap), name
        assert np.array_equal(column, getattr(plain.transitions, name))
    assert np.array_equal(curated[3]["observation"], plain[3]["observation"])
    data, scratch = open_run(scored / "pendulum.vaco").dataset()
    assert isinstance(data.observation, np.memmap)
    assert scratch == folder / "vaco-curate"


def test_a_disk_that_cannot_hold_them_is_refused(vaco, scored, small_machine, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    outcome = vaco("inspect", "pendulum.hdf5")
    assert outcome.code == 1
    assert "where 0 MB are free" in outcome.stderr
    assert "XDG_CACHE_HOME" in outcome.stderr
