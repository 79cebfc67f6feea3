"""What would fill memory is read into mapped files, and gives the same results."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from vaco_curate import load_curated
from vaco_curate.core.transitions import ROW_COLUMNS
from vaco_curate.data.formats import cache
from vaco_curate.stages import inspect
from vaco_curate.stages.runs import open_run
from vaco_curate.store import memory


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


@pytest.mark.parametrize(
    ("group", "file"),
    [("0::/jobs/7\n", "jobs/memory.max"), ("3:memory:/jobs/7\n2:cpu:/\n", "memory/memory.limit_in_bytes")],
    ids=["version 2", "version 1"],
)
def test_the_limit_of_a_container_counts(tmp_path, monkeypatch, group, file):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / "self").write_text(group)
    monkeypatch.setattr(memory, "GROUP", tmp_path / "self")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    whole = memory.memory_of_machine()
    for limit, expected in (("max", whole), ("123456789", 123_456_789), (str(2**63 - 4096), whole)):
        (tmp_path / file).write_text(f"{limit}\n")
        assert memory.memory_of_machine() == expected


def test_the_limit_of_the_shell_counts():
    code = "from vaco_curate.store.memory import memory_of_machine; print(memory_of_machine())"
    limited = subprocess.run(
        ["sh", "-c", 'ulimit -d 2000000; exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(limited.stdout) == 2_000_000 * 1024


@pytest.mark.parametrize("allocate", [np.ones, torch.ones], ids=["numpy", "torch"])
def test_memory_that_is_not_there_is_one_message(vaco, scored, monkeypatch, allocate):
    monkeypatch.setattr(inspect, "outliers", lambda data: allocate(1 << 55))
    outcome = vaco("inspect", "pendulum.hdf5")
    assert outcome.code == 1
    assert outcome.stderr.startswith("Error: not enough memory: ")
