from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scored(here, pendulum, pendulum_run) -> Path:
    """A current directory with the pendulum dataset and a finished run on it."""
    shutil.copy(pendulum, here / "pendulum.hdf5")
    shutil.copytree(pendulum_run, here / "pendulum.vaco")
    return here


@pytest.fixture
def start():
    """Start a command in a process of its own."""

    def call(*arguments: object, **options) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", "from vaco_curate_cli.main import main; main()", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
            **options,
        )

    return call
