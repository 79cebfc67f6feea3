"""Fixtures that many tests share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_settings
from hypothesis import settings

from vaco_curate.data.formats import dataset
from vaco_curate.demo import record_pendulum
from vaco_curate_cli.main import main


@dataclass
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def json(self):
        return json.loads(self.stdout)


settings.register_profile("untimed", deadline=None)  # a busy machine is no fault
settings.load_profile("untimed")
torch.set_num_threads(1)  # tiny matrices on several threads wait for each other more than they compute


@pytest.fixture(scope="session")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's dataset with 20 episodes, as a D4RL-layout file."""
    path = tmp_path_factory.mktemp("pendulum") / "pendulum.hdf5"
    record_pendulum(path, episodes=20)
    return path


@pytest.fixture(scope="session")
def pendulum_run(pendulum: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the pendulum dataset; copy it before changing anything in it."""
    from vaco_curate import score_dataset

    out = tmp_path_factory.mktemp("run") / "pendulum.vaco"
    score_dataset(str(pendulum), out=out, settings=tiny_settings(), device="cpu")
    return out


@pytest.fixture
def float64() -> Iterator[None]:
    """Modules and tensors in float64, with fixed initial values."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield
    torch.set_default_dtype(before)


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
def small_units(monkeypatch) -> None:
    """A unit for each file, however few rows it has."""
    monkeypatch.setattr(dataset, "UNIT_ROWS", 1)


@pytest.fixture
def start():
    """Start a command in a process of its own."""

    def call(*arguments: object, **options) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", "from vaco_curate_cli.start import start; start()", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
            **{"stdout": subprocess.PIPE, **options},
        )

    return call


def pytest_addoption(parser):
    parser.addoption("--flips", type=int, default=6, help="Flipped bytes for each file (tests/reliability).")
    parser.addoption(
        "--kills", type=int, default=2, help="Points at which a command is killed (tests/reliability)."
    )


@pytest.fixture
def flips(request) -> int:
    """How many bytes of a file to flip, one after the other."""
    return request.config.getoption("--flips")


@pytest.fixture
def kills(request) -> int:
    """At how many of a command's changes of the file system to kill it."""
    return request.config.getoption("--kills")
