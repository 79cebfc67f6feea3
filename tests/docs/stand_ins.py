"""The data that each page names, small: a page's commands find it under the page's names.

A function of a page writes the files into the current folder. It gives the arrays that the page's snippets
take for a reader's own, by name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
from field.episodes import Episode, episode
from field.lerobot_cases import feature, lerobot_with_other_names, write_episodes
from field.robomimic_cases import write_demos
from helpers import make_transitions, write_d4rl

from vaco_curate import convert_dataset
from vaco_curate.demo import record_pendulum

NAMED_BY_OTHERS = {"obs": "observations", "act": "actions", "rew": "rewards"}


def _dataset(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The demo's dataset, for pages that need an environment or returns that differ."""
    shutil.copy(request.getfixturevalue("pendulum"), "dataset.hdf5")
    return {}


def _play(request: pytest.FixtureRequest) -> dict[str, Any]:
    """``play.hdf5``, with more episodes than a warning is given for."""
    record_pendulum("play.hdf5", episodes=60)
    return {}


def _buffer() -> None:
    """``buffer.hdf5``, whose arrays have other names."""
    path = write_d4rl(Path("buffer.hdf5"), make_transitions())
    with h5py.File(path, "r+") as file:
        for theirs, usual in NAMED_BY_OTHERS.items():
            file.move(usual, theirs)


def _benchmark(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Files in D4RL's layout with the sizes of Hopper, and a Minari store that holds one of them."""
    hopper = make_transitions(episodes=60, length=20, observation_size=11, action_size=3)
    for name in ("hopper-medium-replay-v2", "antmaze-umaze-v2"):
        write_d4rl(Path(f"{name}.hdf5"), hopper)
    _buffer()
    request.getfixturevalue("monkeypatch").setenv("MINARI_DATASETS_PATH", str(Path("store").absolute()))
    Path("store/mujoco/hopper").mkdir(parents=True)
    convert_dataset("hopper-medium-replay-v2.hdf5", "store/mujoco/hopper/medium-v0", file_format="minari")
    return {}


def _demonstrations(count: int = 40) -> list[Episode]:
    """Random walks, three quarters of which end with a success."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(15, 40, count).tolist()
    found = [episode(generator, length, d=5, k=3, end="terminal") for length in lengths]
    for number, one in enumerate(found):
        one.reward[:] = 0
        one.reward[-1] = number % 4 != 0
    return found


def _record(folder: str) -> None:
    """A LeRobot recording with ``next.success`` on its last frames."""
    flag = {"next.success": feature("bool", 1)}
    write_episodes(Path(folder), _demonstrations(), flag, lambda number, one: {"next.success": one.reward > 0})


def _robot(request: pytest.FixtureRequest) -> dict[str, Any]:
    """``recorded``, a LeRobot folder, and ``demos.hdf5``, which has a camera."""
    _record("recorded")
    parts = {"object": slice(0, 3), "robot0_eef_pos": slice(3, 5)}
    path = write_demos(Path("demos.hdf5"), _demonstrations(), parts=parts)
    with h5py.File(path, "r+") as file:
        for group in file["data"].values():
            group["obs/agentview_image"] = np.zeros((len(group["actions"]), 4, 4, 3), np.uint8)
    return {}


def _files(request: pytest.FixtureRequest) -> dict[str, Any]:
    """``big.hdf5``, and a folder of logs."""
    Path("logs").mkdir()
    for name in ("big.hdf5", "logs/monday.hdf5", "logs/tuesday.hdf5"):
        shutil.copy(request.getfixturevalue("pendulum"), name)
    return {}


def _memory(request: pytest.FixtureRequest) -> dict[str, Any]:
    """``recorded``; arrays with D4RL's names, and tables with names of their own and a success flag."""
    _record("recorded")
    data = make_transitions()
    solved = data.terminated.astype(int)
    table = pl.DataFrame({"obs": data.observation.tolist(), "act": data.action.tolist(), "solved": solved})
    return {
        "states": data.observation,
        "actions": data.action,
        "rewards": data.reward,
        "ends": data.terminated,
        "table": table,
        "other_table": table,
    }


def _formats(request: pytest.FixtureRequest) -> dict[str, Any]:
    """``buffer.hdf5``, ``robot`` and ``flat.parquet`` with names of their own, and ``my_robot``."""
    _buffer()
    lerobot_with_other_names(Path("robot"))
    _record("my_robot")
    data = make_transitions()
    columns = {f"obs_{i}": data.observation[:, i] for i in range(4)} | {
        f"act_{i}": data.action[:, i] for i in range(2)
    }
    pl.DataFrame(columns | {"reward": data.reward, "done": data.terminated}).write_parquet("flat.parquet")
    return {}


STAND_INS: Mapping[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "README": _dataset,
    "index": _dataset,
    "faq": _dataset,
    "how-much-to-keep": _dataset,
    "weights-or-filter": _dataset,
    "settings": _dataset,
    "d4rl-and-minari": _benchmark,
    "robot-demonstrations": _robot,
    "cluster": _files,
    "pipeline": _play,
    "learners": _memory,
    "formats": _formats,
}
