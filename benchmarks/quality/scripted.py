"""Environments of Gymnasium, recorded from a scripted controller at several grades and from random actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vaco_curate.transitions import Array

ROWS = 40_000
"""Of each behavior; its last episode is finished."""

Controller = Callable[[Array], Array]
"""(d,) observation -> (k,) action, one for an episode."""
Grade = Callable[[Array, list[Array], np.random.Generator], Array]
"""The controller's action now, those of the episode so far (this one included) -> the action that is taken."""


@dataclass(frozen=True)
class Script:
    """Who records an environment.

    Attributes:
        environment: with actions in [-1, 1].
        controller: of an episode in it.
    """

    environment: str
    controller: Callable[[Any], Controller]


def _lander(env: Any) -> Controller:
    from gymnasium.envs.box2d.lunar_lander import heuristic  # deferred: heavy

    return lambda observation: np.asarray(heuristic(env, observation), dtype=np.float64)


def _mountain_car(_: Any) -> Controller:
    """Full throttle the way the car rolls."""
    return lambda observation: np.array([1.0 if observation[1] >= 0.0 else -1.0])


def _reacher(_: Any) -> Controller:
    """Torques down the gradient of the squared distance to the target, damped."""

    def act(observation: Array) -> Array:
        (cos_1, cos_2), (sin_1, sin_2) = observation[:2], observation[2:4]
        fore = 0.11 * np.array([-sin_1 * cos_2 - cos_1 * sin_2, cos_1 * cos_2 - sin_1 * sin_2])
        upper = 0.1 * np.array([-sin_1, cos_1])
        distance = observation[8:10]
        return np.array(-20.0 * np.stack([upper + fore, fore]) @ distance - 0.08 * observation[6:8])

    return act


PENDULUM_GAINS = np.array([0.087, 1.011, 4.528, 0.179, 0.624, 0.679])
"""Of position, both angles and their velocities: the linear-quadratic regulator at the upright position, for
costs of 1 of the angles and 0.1 of all else."""


def _double_pendulum(_: Any) -> Controller:
    def act(observation: Array) -> Array:
        angles = np.arctan2(observation[1:3], observation[3:5])
        return np.array([-PENDULUM_GAINS @ np.concatenate([observation[:1], angles, observation[5:8]])])

    return act


SWIMMER_GAINS = np.array(
    [[0.27, 0.1, -0.51, 0.06, 0.09, -0.23, 0.23, -0.16], [0.02, 0.44, 0.04, 0.12, 0.29, -0.25, 0.18, -0.03]]
)
"""Found by random search over linear policies (Mania, Guy and Recht 2018)."""


def _swimmer(_: Any) -> Controller:
    return lambda observation: SWIMMER_GAINS @ observation


SCRIPTS = {
    "lander": Script("LunarLanderContinuous-v3", _lander),
    "mountain-car": Script("MountainCarContinuous-v0", _mountain_car),
    "reacher": Script("Reacher-v5", _reacher),
    "double-pendulum": Script("InvertedDoublePendulum-v5", _double_pendulum),
    "swimmer": Script("Swimmer-v5", _swimmer),
}


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


def record_script(path: Path, script: Script, rows: int = ROWS) -> None:
    """Write a D4RL-layout file with who acted in every row; the same for the same versions."""
    import gymnasium  # deferred: heavy

    generator = np.random.default_rng(0)
    columns: dict[str, list[Any]] = {
        name: []
        for name in ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
    }
    label: list[int] = []
    episode = 0
    with gymnasium.make(script.environment) as env:
        for number, grade in enumerate(GRADES.values()):
            first = len(label)
            while len(label) - first < rows:
                observation, _ = env.reset(seed=episode)
                episode += 1
                controller = script.controller(env.unwrapped)
                earlier: list[Array] = []
                ended = False
                while not ended:
                    earlier.append(controller(observation))
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
        file.attrs["env_id"] = script.environment
