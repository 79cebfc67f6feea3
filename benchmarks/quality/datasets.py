"""The datasets of the board: real ones, mixtures made from them by label, and one with noisy rewards.

Labels say who generated a row. They choose the rows of a mixture and judge scores; no training sees them.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from lander import record_lander

from vaco_curate import Environment, read_dataset
from vaco_curate.core.transitions import ROW_COLUMNS, Array, Transitions
from vaco_curate.demo import record_pendulum

STITCH = "pointmaze-umaze-stitch"
SWITCH = "walker2d-switch"
NOISY = "hopper-mixed-noisy"
START_CELLS = ((1, 1), (1, 2))
GOAL_CELL = (3, 1)


@dataclass(frozen=True)
class Source:
    """Where a dataset of the board comes from.

    Attributes:
        file: without its suffix.
        about: who made it; of a mixture, of the file that it is drawn from.
        best: behaviors that the figures look for, the best first.
        best_share: a mixture of the best behavior and ``random`` with this share of its rows from the best;
            None for the file as it is.
        noisy: whether every reward has noise added, by which returns vary as much as they did without.
    """

    file: str
    best: tuple[str, ...]
    about: str
    best_share: float | None = None
    noisy: bool = False

    @property
    def made_of(self) -> str:
        """Its behaviors."""
        if self.noisy:
            return f"{self.about}; every reward with noise"
        if self.best_share is None:
            return self.about
        return f"{self.best_share:.0%} {self.best[0]}, the rest random, of {self.about}"


SOURCES = {
    "hopper-mixed": Source("hopper-mixed", ("tqc", "trpo"), "Hopper-v5: random, a2c, sac, ppo, trpo, tqc"),
    "halfcheetah-mixed": Source(
        "halfcheetah-mixed", ("tqc", "sac"), "HalfCheetah-v5: random, a2c, trpo, ppo, sac, tqc"
    ),
    **{
        f"{name}-10-percent-best": Source(f"{name}-mixed", ("tqc",), f"{name}-mixed", best_share=0.1)
        for name in ("hopper", "halfcheetah")
    },
    "lander-10-percent-best": Source(
        "lander", ("heuristic",), "LunarLanderContinuous-v3, recorded here from a script", best_share=0.1
    ),
    STITCH: Source(
        STITCH,
        ("to_middle", "middle_to_goal"),
        "PointMaze_UMaze-v3: 60 % first half of the way, 20 % second half, 20 % random",
    ),
    SWITCH: Source(
        SWITCH,
        ("trpo", "sac", "tqc"),
        "Walker2d-v5: a2c, ars, trpo, sac and tqc by turns of about 60 steps within every episode",
    ),
    NOISY: Source("hopper-mixed", ("tqc", "trpo"), "hopper-mixed", noisy=True),
    "pendulum": Source("pendulum", ("good",), "Pendulum-v1: random and good"),
    "pendulum-50-percent-best": Source("pendulum", ("good",), "pendulum", best_share=0.5),
}
SMOKE = ("pendulum", "pendulum-50-percent-best")
BOARD = tuple(name for name in SOURCES if name not in SMOKE)
RECORDED: dict[str, Callable[[Path], None]] = {
    "lander": record_lander,
    "pendulum": functools.partial(record_pendulum, episodes=60, seed=0),
}
"""Files that the board records itself."""


@dataclass(frozen=True)
class Labelled:
    """A dataset whose makers are known.

    Attributes:
        label: (n,) index into ``names``.
        best: indices of the behaviors that the figures look for.
        environments: where policies are judged.
    """

    data: Transitions
    label: Array
    names: tuple[str, ...]
    best: tuple[int, ...]
    environments: tuple[Environment, ...] = field(default=())

    @property
    def is_best(self) -> Array:
        """(n,) bool."""
        return np.isin(self.label, self.best)

    @property
    def is_maze(self) -> bool:
        """Whether success counts, not the return."""
        return "to_middle" in self.names

    def rows_by(self, behavior: str) -> Array:
        """(n,) bool."""
        return np.asarray(self.label == self.names.index(behavior))

    def keep_episodes(self, keep: Array) -> Labelled:
        """The given episodes, (episodes,) bool."""
        rows = np.repeat(keep, self.data.episode_length)
        columns: dict[str, Any] = {name: getattr(self.data, name)[rows] for name in ROW_COLUMNS}
        return dataclasses.replace(self, data=dataclasses.replace(self.data, **columns), label=self.label[rows])


def load(name: str, folder: Path, work: Path) -> Labelled:
    """A dataset of the board by its name.

    Args:
        folder: of the HDF5 files.
        work: where what the board records itself is kept.
    """
    source = SOURCES[name]
    path = (work if source.file in RECORDED else folder) / f"{source.file}.hdf5"
    if source.file in RECORDED and not path.exists():
        partial = path.with_name(f"{path.stem}-{os.getpid()}.partial")  # others may record it, too
        RECORDED[source.file](partial)
        partial.replace(path)
    whole = _read(path, source)
    if source.file == "lander":
        whole = _between(whole, "random", "heuristic")
    if source.noisy:
        whole = _with_noise(whole)
    return whole if source.best_share is None else _mixture(whole, source.best_share)


def _read(path: Path, source: Source) -> Labelled:
    data = read_dataset(str(path))
    with h5py.File(path) as file:
        label = file["infos/behavior"][:]
        names = tuple(file.attrs["behaviors"].split(","))
    assert data.env_id is not None
    environments: tuple[Environment, ...] = (Environment(data.env_id),)
    if source.file == STITCH:
        environments = tuple(
            Environment(
                data.env_id,
                {"continuing_task": False},
                {"reset_cell": np.array(cell), "goal_cell": np.array(GOAL_CELL)},
            )
            for cell in START_CELLS
        )
    best = tuple(names.index(behavior) for behavior in source.best)
    return Labelled(data, label, names, best, environments)


def _between(whole: Labelled, lowest: str, highest: str) -> Labelled:
    """Returns normalized by the means of two behaviors."""
    references = tuple(
        float(whole.data.episode_return[whole.rows_by(name)[whole.data.episode_start]].mean())
        for name in (lowest, highest)
    )
    return dataclasses.replace(whole, data=dataclasses.replace(whole.data, reference_returns=references))


def _with_noise(whole: Labelled) -> Labelled:
    """Rewards with Gaussian noise, drawn once, that adds to returns the variance that they have without it.

    Noise of deviation s adds s^2 times its length to the variance of an episode's return.
    """
    data = whole.data
    deviation = data.episode_return.std() / np.sqrt(data.episode_length.mean())
    noise = np.random.default_rng(0).normal(0.0, deviation, len(data))
    reward = (data.reward + noise).astype(data.reward.dtype)
    return dataclasses.replace(whole, data=dataclasses.replace(data, reward=reward))


def _mixture(whole: Labelled, best_share: float) -> Labelled:
    """As many rows as there are, of the best behavior and the random one; whole episodes, drawn once."""
    length, label = whole.data.episode_length, whole.label[whole.data.episode_start]
    best = np.flatnonzero(label == whole.best[0])
    random = np.flatnonzero(label == whole.names.index("random"))
    rows = min(length[best].sum() / best_share, length[random].sum() / (1.0 - best_share))
    keep = np.zeros(len(length), dtype=bool)
    generator = np.random.default_rng(0)
    for share, episodes in ((best_share, best), (1.0 - best_share, random)):
        order = generator.permutation(episodes)
        total = np.cumsum(length[order])
        keep[order[: 1 + int(np.argmin(np.abs(total - share * rows)))]] = True
    mixture = whole.keep_episodes(keep)
    assert mixture.is_best.any()
    assert not mixture.is_best.all()
    return mixture
