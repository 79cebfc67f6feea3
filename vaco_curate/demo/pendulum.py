"""A mixture of good, mediocre and random controllers in Pendulum-v1, recorded in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array

ENV_ID = "Pendulum-v1"
STEPS = 200
MAXIMUM_TORQUE = 2.0
GRAVITY_ACCELERATION = 15.0  # 3 g / (2 l) of the environment's rod, with g = 10 and l = 1


@dataclass(frozen=True)
class Behavior:
    """A controller and its share of the episodes.

    Attributes:
        torque: (observation (n, 3), generator) -> torque (n, 1).
        share: of the episodes.
    """

    torque: Callable[[Array, np.random.Generator], Array]
    share: float


def swing_up(observation: Array) -> Array:
    """Pump energy until the rod can stand up, then balance it; (n, 3) -> (n, 1).

    Source: Astrom and Furuta 2000, "Swinging up a pendulum by energy control", for the energy law.
    """
    angle = np.arctan2(observation[:, 1], observation[:, 0])
    speed = observation[:, 2]
    energy = 0.5 * speed**2 + GRAVITY_ACCELERATION * (np.cos(angle) - 1.0)
    direction = np.where(speed >= 0.0, 1.0, -1.0)
    pump = np.clip(-energy, -MAXIMUM_TORQUE, MAXIMUM_TORQUE) * direction
    balance = -12.0 * angle - 3.0 * speed
    torque = np.where(np.cos(angle) > 0.9, balance, pump)
    return np.clip(torque, -MAXIMUM_TORQUE, MAXIMUM_TORQUE)[:, None]


def _noisy(noise: float, strength: float) -> Callable[[Array, np.random.Generator], Array]:
    def torque(observation: Array, generator: np.random.Generator) -> Array:
        wanted = strength * swing_up(observation)
        return np.clip(
            wanted + noise * generator.standard_normal(wanted.shape), -MAXIMUM_TORQUE, MAXIMUM_TORQUE
        )

    return torque


def _random(observation: Array, generator: np.random.Generator) -> Array:
    return generator.uniform(-MAXIMUM_TORQUE, MAXIMUM_TORQUE, (len(observation), 1))


BEHAVIORS: Mapping[str, Behavior] = {
    "random": Behavior(_random, 0.4),
    "mediocre": Behavior(_noisy(noise=1.0, strength=0.4), 0.35),
    "good": Behavior(_noisy(noise=0.3, strength=1.0), 0.25),
}


def record_pendulum(path: Path, *, episodes: int = 200, seed: int = 0) -> None:
    """Record the mixture as a D4RL-layout HDF5 file, episodes in random order.

    ``infos/behavior`` says which controller made a row, so that scores can be checked; nothing in
    vaco-curate reads it.

    Args:
        episodes: of 200 steps each, about; every behavior gets its share, rounded.
    """
    import gymnasium  # deferred: heavy
    import h5py  # deferred: only files need it

    generator = np.random.default_rng(seed)
    parts = []
    for number, behavior in enumerate(BEHAVIORS.values()):
        count = max(1, round(behavior.share * episodes))
        envs = gymnasium.make_vec(ENV_ID, num_envs=count, vectorization_mode="sync")
        parts += _record(envs, behavior, number, seed + number, generator)
        envs.close()
    order = generator.permutation(len(parts))
    columns = {key: np.concatenate([parts[i][key] for i in order]) for key in parts[0]}
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file.create_dataset(key, data=values, compression="gzip")
        file.attrs["env_id"] = ENV_ID
        file.attrs["behaviors"] = ",".join(BEHAVIORS)


def _record(
    envs: Any, behavior: Behavior, number: int, seed: int, generator: np.random.Generator
) -> list[dict[str, Array]]:
    """One dict of D4RL columns for each sub-environment's first episode."""
    observation, _ = envs.reset(seed=seed)
    count = len(observation)
    steps: list[tuple[Array, Array, Array]] = []
    for _ in range(STEPS):
        torque = behavior.torque(observation, generator).astype(np.float32)
        following, reward, _, _, _ = envs.step(torque)
        steps.append((observation.copy(), torque, np.asarray(reward, np.float32)))
        observation = following
    observations, actions, rewards = (np.stack(column, axis=1) for column in zip(*steps, strict=True))
    timeouts = np.zeros(STEPS, dtype=bool)
    timeouts[-1] = True
    return [
        {
            "observations": observations[episode].astype(np.float32),
            "actions": actions[episode],
            "rewards": rewards[episode],
            "terminals": np.zeros(STEPS, dtype=bool),
            "timeouts": timeouts,
            "infos/behavior": np.full(STEPS, number, dtype=np.int8),
        }
        for episode in range(count)
    ]
