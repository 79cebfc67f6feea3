"""LunarLander, recorded from Gymnasium's own script at several grades and from random actions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vaco_curate.core.transitions import Array

ENVIRONMENT = "LunarLanderContinuous-v3"
ROWS = 40_000
"""Of each behavior; its last episode is finished."""

Grade = Callable[[Array, list[Array], np.random.Generator], Array]
"""The script's action now, those of the episode so far (this one included) -> the action that is taken."""


def _noisy(scale: float, noise: float) -> Grade:
    return lambda action, earlier, generator: scale * action + generator.normal(0.0, noise, len(action))


GRADES: dict[str, Grade] = {
    "random": lambda action, earlier, generator: generator.uniform(-1.0, 1.0, len(action)),
    "half": lambda action, earlier, generator: (
        action if generator.random() < 0.5 else generator.uniform(-1.0, 1.0, len(action))
    ),
    "weak": _noisy(0.6, 0.3),
    "delayed": lambda action, earlier, generator: (
        earlier[max(0, len(earlier) - 8)] + generator.normal(0.0, 0.1, len(action))
    ),
    "noisy": _noisy(1.0, 0.6),
    "heuristic": _noisy(1.0, 0.05),
}


def record_lander(path: Path, rows: int = ROWS) -> None:
    """Write a D4RL-layout file with who acted in every row; the same for the same versions."""
    import gymnasium  # deferred: heavy
    from gymnasium.envs.box2d.lunar_lander import heuristic

    generator = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    }
    label: list[int] = []
    episode = 0
    with gymnasium.make(ENVIRONMENT) as env:
        for number, grade in enumerate(GRADES.values()):
            first = len(label)
            while len(label) - first < rows:
                observation, _ = env.reset(seed=episode)
                episode += 1
                earlier: list[Array] = []
                ended = False
                while not ended:
                    earlier.append(np.asarray(heuristic(env.unwrapped, observation), dtype=np.float64))
                    action = np.clip(grade(earlier[-1], earlier, generator), -1.0, 1.0).astype(np.float32)
                    successor, reward, terminated, truncated, _ = env.step(action)
                    ended = terminated or truncated
                    row = (observation, action, reward, terminated, ended and not terminated, successor)
                    for column, value in zip(columns.values(), row, strict=True):
                        column.append(value)
                    label.append(number)
                    observation = successor
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            flag = name in ("terminals", "timeouts")
            file.create_dataset(name, data=np.array(values, dtype=bool if flag else np.float32))
        file.create_dataset("infos/behavior", data=np.array(label))
        file.attrs["behaviors"] = ",".join(GRADES)
        file.attrs["env_id"] = ENVIRONMENT
