"""Curated transitions as a d3rlpy replay buffer, with or without weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from d3rlpy.constants import ActionSpace
from d3rlpy.dataset import (
    Episode,
    InfiniteBuffer,
    PartialTrajectory,
    ReplayBuffer,
    TrajectoryMiniBatch,
    Transition,
    TransitionMiniBatch,
)

from vaco_curate.errors import CurateError, DatasetError
from vaco_curate.transitions import Array, Transitions


class WeightedReplayBuffer(ReplayBuffer):
    """A d3rlpy replay buffer that draws transitions in proportion to their weight.

    d3rlpy's losses take no weights, so the weight acts on the draw. Draws use numpy's global
    generator, as d3rlpy's own do (``d3rlpy.seed``).
    """

    def __init__(self, episodes: list[Episode], weight: Array) -> None:
        super().__init__(InfiniteBuffer(), episodes=episodes, action_space=ActionSpace.CONTINUOUS)
        self._share = np.cumsum(weight, dtype=np.float64) / weight.sum(dtype=np.float64)

    def sample_transition(self) -> Transition:
        """One transition, drawn by weight."""
        draw = np.random.rand()  # noqa: NPY002 (d3rlpy.seed seeds the global generator)
        row = min(int(np.searchsorted(self._share, draw, side="right")), len(self._share) - 1)
        episode, step = self._buffer[row]
        return self._transition_picker(episode, step)

    def sample_transition_batch(self, batch_size: int) -> TransitionMiniBatch:
        """A minibatch drawn by weight."""
        return TransitionMiniBatch.from_transitions([self.sample_transition() for _ in range(batch_size)])

    def sample_trajectory(self, length: int) -> PartialTrajectory:
        """Refused: curated rows have holes, and the closing steps of its episodes are not data.

        Raises:
            CurateError: always.
        """
        raise CurateError(
            "curated rows are transitions, no trajectories can be drawn from them",
            fix="use an algorithm of transitions, or build episodes from 'filter --level episode'",
        )

    def sample_trajectory_batch(self, batch_size: int, length: int) -> TrajectoryMiniBatch:
        """Refused, as ``sample_trajectory``.

        Raises:
            CurateError: always.
        """
        return TrajectoryMiniBatch.from_partial_trajectories(
            [self.sample_trajectory(length) for _ in range(batch_size)]
        )


def replay_buffer(data: Transitions, weight: Array) -> WeightedReplayBuffer:
    """Every row that has a Bellman target, drawn by weight and with its own successor.

    d3rlpy takes the next row of an episode for the successor, and drops the last row of an episode
    without a true end. So each run of consecutive rows becomes an episode of its own, closed by one more
    step that holds the stored next observation and is never drawn as a transition.

    Args:
        weight: (n,) non-negative.

    Raises:
        DatasetError: no row has a Bellman target.
    """
    if not data.is_learnable.any():
        raise DatasetError(f"{data.source}: no row has a successor or a true end, d3rlpy could draw none")
    episodes = list(_episodes(data))
    return WeightedReplayBuffer(episodes, weight[data.is_learnable])


def _episodes(data: Transitions) -> Iterator[Episode]:
    """One d3rlpy episode for each run of rows in which every row's successor is the next row."""
    learnable = np.flatnonzero(data.is_learnable)
    joined = (np.diff(learnable) == 1) & ~np.isin(learnable[1:], data.path_start)
    for rows in np.split(learnable, np.flatnonzero(~joined) + 1):
        last = rows[-1]
        observation, action, reward = data.observation[rows], data.action[rows], data.reward[rows]
        terminated = bool(data.terminated[last])
        if not terminated:
            observation = np.concatenate([observation, data.next_observation[last : last + 1]])
            action = np.concatenate([action, np.zeros_like(action[:1])])
            reward = np.append(reward, np.zeros_like(reward[:1]))
        yield Episode(
            observations=observation.astype(np.float32),
            actions=action.astype(np.float32),
            rewards=reward.astype(np.float32)[:, None],
            terminated=terminated,
        )
