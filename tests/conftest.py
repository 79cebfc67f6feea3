"""Fixtures that many tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from helpers import tiny_settings
from hypothesis import settings

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
