from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from vaco_curate_cli.main import main


@dataclass
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self):
        return json.loads(self.stdout)


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
def vaco():
    """Run a command in this process."""

    def call(*arguments: object) -> Outcome:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call


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
