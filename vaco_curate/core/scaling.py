"""How raw observations, actions and rewards map to what the networks see, recorded with the scorer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vaco_curate.core.rewards import EQUAL, magnitude
from vaco_curate.core.transitions import Array, Transitions, blocks

NEARLY, NEGLIGIBLE = 1e-6, 1e-8
"""Range of an action, relative to its size and to the largest range of all, up to which it is constant; of an
observation the deviation, relative to its mean and to the median of all."""


@dataclass(frozen=True)
class Scaling:
    """Affine maps between dataset units and network units.

    Attributes:
        observation_mean, observation_std: (d,) per dimension over the training data; a constant
            dimension has std 1, so that it maps to 0.
        action_low, action_high: (k,) bounds that map to -1 and 1.
        action_bounds_from: "action space" or "data range".
        reward_shift, reward_scale: the value phase learns (reward + shift) * scale.
    """

    observation_mean: Array
    observation_std: Array
    action_low: Array
    action_high: Array
    action_bounds_from: str
    reward_shift: float
    reward_scale: float

    def observation(self, observation: Array) -> Array:
        """(n, d) raw -> (n, d) float32, mean 0 and std 1 on the training data."""
        normalized = (observation - self.observation_mean) / self.observation_std
        return np.asarray(normalized, dtype=np.float32)

    def action(self, action: Array) -> Array:
        """(n, k) raw -> (n, k) float32; the bounds map to -1 and 1."""
        span = self.action_high - self.action_low
        return np.asarray(2.0 * (action - self.action_low) / span - 1.0, dtype=np.float32)

    def raw_action(self, action: Array) -> Array:
        """(n, k) in [-1, 1] -> (n, k) float32 in the units of the environment."""
        span = self.action_high - self.action_low
        return np.asarray(self.action_low + 0.5 * (action + 1.0) * span, dtype=np.float32)

    def reward(self, reward: Array) -> Array:
        """(n,) raw -> (n,) float32 as the value phase learns it."""
        return np.asarray((reward + self.reward_shift) * self.reward_scale, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; ``from_json`` reads it back exactly."""
        return {
            field.name: value.tolist() if isinstance(value := getattr(self, field.name), np.ndarray) else value
            for field in fields(self)
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Scaling:
        """Inverse of ``to_json``."""
        values: dict[str, Any] = {
            name: np.asarray(value, np.float64) if isinstance(value, list) else value
            for name, value in facts.items()
        }
        return cls(**values)


def fit_scaling(data: Transitions, *, reward_shift: float) -> Scaling:
    """Scaling for a training dataset.

    Rewards follow IQL, reward * 1000 / (max return - min return), with the longest episode in place of 1000,
    which is the longest one of its tasks: rewards are of the order of one whatever the length. Returns that are
    equal but for rounding give no range: their size stands for it.

    Source: IQL (arXiv:2110.06169), appendix B, for the constant 1000 and AntMaze's shift of -1.
    """
    mean, std = mean_and_deviation(data.observation)
    low, high, bounds_from = _action_bounds(data)
    return Scaling(
        observation_mean=mean,
        observation_std=np.where(constant_columns(mean, std), 1.0, std),
        action_low=low,
        action_high=high,
        action_bounds_from=bounds_from,
        reward_shift=reward_shift,
        reward_scale=_reward_scale(data),
    )


def constant_columns(mean: Array, std: Array) -> Array:
    """Which columns vary no more than rounding makes them, or hardly at all beside what is usual here, (d,).

    Units do not matter: meters and nanometers are scaled alike.
    """
    usual = np.median(std[std > 0.0]) if (std > 0.0).any() else 0.0
    return np.asarray((std <= NEARLY * np.abs(mean)) | (std <= NEGLIGIBLE * usual))


def mean_and_deviation(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of each column, in float64; some rows at a time.

    Args:
        values: (n, d).
    """
    count, parts = len(values), list(blocks(len(values)))
    mean = sum(np.add.reduce(values[rows], axis=0, dtype=np.float64) for rows in parts) / count
    squares = sum(np.square(values[rows] - mean).sum(axis=0) for rows in parts)
    return np.asarray(mean), np.sqrt(np.asarray(squares) / count)


def _reward_scale(data: Transitions) -> float:
    returns, rounding = data.episode_return, EQUAL * magnitude(data)
    if rounding == 0.0:
        return 1.0
    sizes = float(np.ptp(returns)), float(np.abs(returns).max()), magnitude(data)
    spread = next(size for size in sizes if size > rounding)
    return float(data.episode_length.max()) / spread


def _action_bounds(data: Transitions) -> tuple[Array, Array, str]:
    low, high, bounds_from = data.action_low, data.action_high, "action space"
    if low is None or high is None or not (np.isfinite(low).all() and np.isfinite(high).all()):
        low, high, bounds_from = data.action.min(axis=0), data.action.max(axis=0), "data range"
    low, high = low.astype(np.float64), high.astype(np.float64)
    span, size = high - low, np.maximum(np.abs(low), np.abs(high))
    constant = (span <= NEARLY * size) | (span <= NEGLIGIBLE * span.max())
    return np.where(constant, low - 1.0, low), np.where(constant, high + 1.0, high), bounds_from
