"""Curated transitions as a d3rlpy replay buffer, with or without weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, overload

import numpy as np
from d3rlpy.constants import ActionSpace
from d3rlpy.dataset import (
    Episode,
    EpisodeBase,
    InfiniteBuffer,
    PartialTrajectory,
    ReplayBuffer,
    TrajectoryMiniBatch,
    Transition,
    TransitionMiniBatch,
)

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.errors import CurateError, DatasetError


@dataclass(frozen=True)
class _Steps:
    """The steps of all d3rlpy episodes in one array each; an episode is a slice of them.

    d3rlpy takes the next row of an episode for the successor, and drops the last row of an episode
    without a true end. So each run of consecutive rows is an episode of its own, closed by one more
    step that holds the stored next observation and is never drawn as a transition.

    Attributes:
        observation: (steps, d) float32.
        action: (steps, k) float32.
        reward: (steps, 1) float32.
        first: (episodes,) first step of every episode.
        drawn: (rows,) the steps that are rows.
        is_terminal: (rows,) bool, true ends.
    """

    observation: Array
    action: Array
    reward: Array
    first: Array
    drawn: Array
    is_terminal: Array

    @classmethod
    def of(cls, data: Transitions) -> _Steps:
        """Of every row that has a Bellman target."""
        row = np.flatnonzero(data.is_learnable)
        starts = np.append(True, (np.diff(row) != 1) | np.isin(row[1:], data.path_start))
        terminal = data.terminated[row]
        closed = np.append(starts[1:], True) & ~terminal
        drawn = np.arange(len(row)) + np.cumsum(closed) - closed
        steps = len(row) + int(closed.sum())

        def column(rows: Array, closing: Array | None = None) -> Array:
            values = np.zeros((steps, rows.shape[1]), dtype=np.float32)
            values[drawn] = rows[row]
            if closing is not None:
                values[drawn[closed] + 1] = closing[row[closed]]
            return values

        return cls(
            column(data.observation, data.next_observation),
            column(data.action),
            column(data.reward[:, None]),
            drawn[starts],
            drawn,
            terminal,
        )

    def episodes(self) -> Iterator[Episode]:
        """Views, no copies."""
        ends = np.zeros(len(self.observation), dtype=bool)
        ends[self.drawn[self.is_terminal]] = True
        for first, end in zip(self.first, np.append(self.first[1:], len(self.observation)), strict=True):
            steps = slice(first, end)
            yield Episode(
                observations=self.observation[steps],
                actions=self.action[steps],
                rewards=self.reward[steps],
                terminated=bool(ends[end - 1]),
            )

    def batch(self, rows: Array, transitions: Sequence[Transition]) -> TransitionMiniBatch:
        """What ``TransitionMiniBatch.from_transitions`` makes of the same rows."""
        step, terminal = self.drawn[rows], self.is_terminal[rows]
        follows = np.where(terminal, step, step + 1)
        goes_on = ~terminal[:, None]
        return TransitionMiniBatch(
            observations=self.observation[step],
            actions=self.action[step],
            rewards=self.reward[step],
            next_observations=np.where(goes_on, self.observation[follows], 0),
            next_actions=np.where(goes_on, self.action[follows], 0),
            terminals=terminal[:, None].astype(np.float32),
            intervals=np.ones((len(rows), 1), dtype=np.float32),
            transitions=transitions,
        )


class WeightedReplayBuffer(ReplayBuffer):
    """A d3rlpy replay buffer that draws transitions in proportion to their weight.

    d3rlpy's losses take no weights, so the weight acts on the draw. Draws use numpy's global
    generator, as d3rlpy's own do (``d3rlpy.seed``).
    """

    def __init__(self, steps: _Steps, weight: Array) -> None:
        self._is_full = False
        super().__init__(InfiniteBuffer(), episodes=list(steps.episodes()), action_space=ActionSpace.CONTINUOUS)
        self._is_full, self._steps = True, steps
        self._share = np.cumsum(weight, dtype=np.float64) / weight.sum(dtype=np.float64)

    def _draw(self, count: int) -> Array:
        draws = np.random.rand(count)  # noqa: NPY002 (d3rlpy.seed seeds the global generator)
        return np.minimum(np.searchsorted(self._share, draws, side="right"), len(self._share) - 1)

    def transition(self, row: int) -> Transition:
        """One of the rows."""
        episode, step = self._buffer[row]
        return self._transition_picker(episode, step)

    def sample_transition(self) -> Transition:
        """One transition, drawn by weight."""
        return self.transition(int(self._draw(1)[0]))

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        """A minibatch drawn by weight."""
        rows = self._draw(batch_size)
        return self._steps.batch(rows, _Transitions(self, rows))

    def append(self, observation: Any, action: Any, reward: Any) -> None:
        """Refused: what is appended has no weight, and would never be drawn.

        Raises:
            CurateError: always.
        """
        raise CurateError(
            "a buffer of curated rows takes no new ones: they would never be drawn",
            fix="collect them in a buffer of their own, d3rlpy.dataset.create_fifo_replay_buffer",
        )

    def append_episode(self, episode: EpisodeBase) -> None:
        """Refused, as ``append``, when all rows are in it.

        Raises:
            CurateError: they are.
        """
        if self._is_full:
            self.append(None, None, None)
        super().append_episode(episode)

    def dump(self, f: BinaryIO) -> None:
        """Refused: d3rlpy's files hold no weights, and a buffer that is loaded from one draws all rows alike.

        Raises:
            CurateError: always.
        """
        raise CurateError(
            "d3rlpy's files hold no weights: a buffer loaded from one would draw all rows alike",
            fix="keep the folder of curated rows, and make the buffer with load_curated(FOLDER)",
        )

    def sample_trajectory(self, length: int) -> PartialTrajectory:
        """Refused: curated rows have holes, and the closing steps of its episodes are not data.

        Raises:
            CurateError: always.
        """
        raise CurateError(
            "curated rows are single transitions: no trajectories can be drawn from them",
            fix="use an algorithm that learns from transitions, or filter with --level episode",
        )

    def sample_trajectory_batch(self, batch_size: int, length: int) -> TrajectoryMiniBatch:
        """Refused, as ``sample_trajectory``.

        Raises:
            CurateError: always.
        """
        return TrajectoryMiniBatch.from_partial_trajectories(
            [self.sample_trajectory(length) for _ in range(batch_size)]
        )


class _Transitions(Sequence[Transition]):
    """The transitions of a minibatch, made when they are asked for: few algorithms look at them."""

    def __init__(self, buffer: WeightedReplayBuffer, rows: Array) -> None:
        self._buffer, self._rows = buffer, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Transition: ...
    @overload
    def __getitem__(self, index: slice) -> _Transitions: ...
    def __getitem__(self, index: int | slice) -> Transition | _Transitions:
        if isinstance(index, slice):
            return _Transitions(self._buffer, self._rows[index])
        return self._buffer.transition(int(self._rows[index]))


def replay_buffer(data: Transitions, weight: Array) -> WeightedReplayBuffer:
    """Every row that has a Bellman target, drawn by weight and with its own successor.

    Args:
        weight: (n,) non-negative.

    Raises:
        DatasetError: no row has a Bellman target.
    """
    if not data.is_learnable.any():
        raise DatasetError(f"{data.source}: no row has a successor or a true end, d3rlpy could draw none")
    return WeightedReplayBuffer(_Steps.of(data), weight[data.is_learnable])
