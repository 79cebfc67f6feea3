"""``Transitions``: the columnar dataset every reader returns and everything else starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaco_curate.errors import DatasetError

Array = NDArray[Any]


@dataclass(frozen=True)
class Transitions:
    """All rows of an offline dataset, in the order of the source, checked once on construction.

    Row ``i`` is raw row ``i`` of the source: nothing is dropped or reordered, so that scores and
    selections can be joined back to it. Rows of an episode are contiguous.

    Attributes:
        observation: (n, d) floats, as stored.
        action: (n, k) floats, as stored.
        reward: (n,) floats, as stored.
        terminated: (n,) bool, true end of the task: no bootstrap.
        truncated: (n,) bool, time limit: the task went on, the recording did not.
        next_observation: (n, d); zeros where ``has_successor`` is false.
        has_successor: (n,) bool, whether the state after the row is known.
        episode_id: (n,) int64.
        step_index: (n,) int64, position in the episode.
        source: what the user called the dataset, for messages.
        path: the file or folder that was read, None for rows made in memory.
        format: name of the reader.
        env_id: Gymnasium environment, when the dataset names one.
        env_kwargs: for ``gymnasium.make``, when the dataset has them.
        action_low, action_high: (k,) bounds of the action space, when known.
        reference_returns: returns of a random and of an expert policy, when the dataset has them.
        notes: what the reader had to assume, in plain words.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: Array
    has_successor: Array
    episode_id: Array
    step_index: Array
    source: str
    format: str
    path: Path | None = None
    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    action_low: Array | None = None
    action_high: Array | None = None
    reference_returns: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_shapes(self)
        _check_numbers(self)
        _check_range(self)
        _check_episodes(self)

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def observation_size(self) -> int:
        """d, the length of an observation vector."""
        return int(self.observation.shape[1])

    @property
    def action_size(self) -> int:
        """k, the length of an action vector."""
        return int(self.action.shape[1])

    @property
    def is_learnable(self) -> Array:
        """(n,) bool: rows with a Bellman target, that is a successor or a true end."""
        usable: Array = self.has_successor | self.terminated
        return usable

    @cached_property
    def episode_start(self) -> Array:
        """(episodes,) first row of each episode."""
        changes = np.flatnonzero(self.episode_id[1:] != self.episode_id[:-1]) + 1
        return np.concatenate([[0], changes])

    @cached_property
    def episode_length(self) -> Array:
        """(episodes,) rows of each episode."""
        return np.diff(np.append(self.episode_start, len(self)))

    @cached_property
    def episode_return(self) -> Array:
        """(episodes,) undiscounted sum of rewards, float64."""
        return np.add.reduceat(self.reward.astype(np.float64), self.episode_start)

    @cached_property
    def path_start(self) -> Array:
        """``paths_from`` the dataset's own deviation."""
        return self.paths_from(self.observation.std(axis=0, dtype=np.float64))

    def paths_from(self, deviation: Array) -> Array:
        """(paths,) first row of each run of rows in which every row's successor is the next row.

        An episode has several where it has holes, goes on after a true end, or where a stored next
        observation is not the observation of the next row.

        Args:
            deviation: (d,) of the observations, the scale on which two states are the same.
        """
        follows = (self.episode_id[1:] == self.episode_id[:-1]) & (np.diff(self.step_index) == 1)
        follows &= self.has_successor[:-1] & ~self.terminated[:-1]
        tolerance = SAME_STATE * deviation + 1e-6
        jump = np.abs(self.next_observation[:-1] - self.observation[1:])
        follows &= (jump <= tolerance).all(axis=1)
        return np.concatenate([[0], np.flatnonzero(~follows) + 1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the columns' contents: equal for equal rows, whatever file they came from."""
        digest = hashlib.sha256()
        for name in COLUMNS:
            column = getattr(self, name)
            digest.update(f"{name} {column.dtype} {column.shape}\n".encode())
            digest.update(np.ascontiguousarray(column).view(np.uint8).data)
        return digest.hexdigest()


LARGEST = 1e15
"""Largest absolute value of a number in a dataset."""

SAME_STATE = 1e-3
"""Difference, in standard deviations, up to which a stored successor is the next row's observation."""

COLUMNS = (
    "observation",
    "action",
    "reward",
    "terminated",
    "truncated",
    "next_observation",
    "has_successor",
    "episode_id",
    "step_index",
)


def check_same_length(source: str, **columns: Array) -> None:
    """Refuse columns of different lengths, with the length of each."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetError(
            f"{source}: columns differ in length",
            details=tuple(f"{name}: {length} rows" for name, length in lengths.items()),
            fix="the file is damaged or was written by halves: export it again",
        )


def _check_shapes(data: Transitions) -> None:
    if len(data) == 0:
        raise DatasetError(f"{data.source}: the dataset has zero rows")
    check_same_length(data.source, **{name: getattr(data, name) for name in COLUMNS})
    if data.next_observation.shape != data.observation.shape:
        raise DatasetError(
            f"{data.source}: next_observation has shape {data.next_observation.shape}, "
            f"observation {data.observation.shape}"
        )
    if data.observation_size == 0 or data.action_size == 0:
        raise DatasetError(f"{data.source}: observations and actions need at least one dimension")


def _check_numbers(data: Transitions) -> None:
    for name in ("observation", "action", "reward", "next_observation"):
        column = getattr(data, name)
        finite = np.isfinite(column).reshape(len(data), -1).all(axis=1)
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise DatasetError(
                f"{data.source}: {name} is NaN or infinite in {(~finite).sum()} row(s), first in row {row}",
                details=(f"{name}[{row}] = {column[row]}",),
                fix="remove or repair the episodes that hold these rows",
            )


def _check_range(data: Transitions) -> None:
    """Networks compute in float32; squares of observations must fit as well."""
    for name in ("observation", "action", "reward", "next_observation"):
        column = getattr(data, name)
        huge = (np.abs(column) > LARGEST).reshape(len(data), -1).any(axis=1)
        if huge.any():
            row = int(np.flatnonzero(huge)[0])
            raise DatasetError(
                f"{data.source}: {name} exceeds {LARGEST:g} in {huge.sum()} row(s), first in row {row}",
                details=(f"{name}[{row}] = {column[row]}",),
                fix="repair these rows: such values are damage, or need other units",
            )


def _check_episodes(data: Transitions) -> None:
    if len(np.unique(data.episode_id)) != len(data.episode_start):
        _, first = np.unique(data.episode_id[data.episode_start], return_index=True)
        repeated = np.setdiff1d(np.arange(len(data.episode_start)), first)[0]
        row = int(data.episode_start[repeated])
        raise DatasetError(
            f"{data.source}: episode {data.episode_id[row]} has rows apart, again at row {row}",
            fix="sort the rows by episode and step",
        )
    inside = data.episode_id[1:] == data.episode_id[:-1]
    backwards = np.flatnonzero(inside & (np.diff(data.step_index) <= 0))
    if backwards.size:
        row = int(backwards[0]) + 1
        raise DatasetError(
            f"{data.source}: step_index does not increase at row {row} (episode {data.episode_id[row]})",
            fix="sort the rows by episode and step",
        )
