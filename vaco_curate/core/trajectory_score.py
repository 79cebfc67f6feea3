"""The score of a row: the advantage of the trajectory around it, over a temperature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.advantage import FITTED_ROWS, Persistence, TDErrors
from vaco_curate.core.paths import Paths
from vaco_curate.core.transitions import Array

LARGEST_RANGE = 50.0
"""Largest difference of scores, in nats: what is worse counts as this much worse."""

LARGEST_RISE = 15.0
"""Largest score above the mean of the middle third, in nats, to which a sample size may lead."""

USUAL = (0.025, 0.975)
"""Shares of the rows between which advantages count in full."""

PLATEAU = 0.5
"""Largest elasticity of the sample size at which it counts as that of few rows that are far better."""


@dataclass(frozen=True)
class Temperature:
    """How advantages become scores: over a temperature, and saturated where they are unusual.

    Attributes:
        usual_low, usual_high: advantages beyond which others are unusual.
        deviation: mean absolute one from the median, the unusual counted as the usual next to them.
        inverse: of the temperature: score for an advantage of one.
        level: added to the score, such that weights have mean one over the rows that it was fitted to.
        lowest, highest: scores of those rows; others are kept within.
    """

    usual_low: float
    usual_high: float
    deviation: float
    inverse: float
    level: float
    lowest: float
    highest: float

    @classmethod
    def fit(cls, paths: Paths, advantage: Array, sample_size: float, *, plateau: bool) -> Temperature:
        """For an advantage of each row, (n,).

        Args:
            sample_size, plateau: of ``inverse_temperature_for``.
        """
        low, high = _usual(paths, advantage)
        usual = np.clip(advantage, low, high)
        deviation = float(np.abs(usual - np.median(usual)).mean()) or 1.0  # 0 where nearly all tie
        signal = saturated(advantage, low, high, deviation)
        some = paths.drawn(FITTED_ROWS).rows()
        inverse = inverse_temperature_for(signal[some], sample_size, plateau=plateau)
        score = inverse * (signal - signal.max())
        score = np.maximum(score, -LARGEST_RANGE)
        score -= np.log(np.exp(score).mean())
        lowest, highest = float(score.min()), float(score.max())
        return cls(low, high, deviation, inverse, highest - inverse * float(signal.max()), lowest, highest)

    def __call__(self, advantage: Array) -> Array:
        """Scores of advantages, (n,)."""
        signal = saturated(advantage, self.usual_low, self.usual_high, self.deviation)
        return np.clip(self.inverse * signal + self.level, self.lowest, self.highest)


@dataclass(frozen=True)
class TrajectoryScore:
    """How the TD errors of one member's V make scores.

    A score is a log weight. The weight is meant to stand for how often a better policy would come to the row,
    over how often the data do. Unusual advantages are saturated, lest a few rows rule all others.

    Source: ours (docs/method.md).
    """

    persistence: Persistence
    temperature: Temperature

    @classmethod
    def fit(
        cls, paths: Paths, errors: TDErrors, known: Array, terminated: Array, *, sample_size: float
    ) -> TrajectoryScore:
        """Measured on a dataset.

        Args:
            errors, known, terminated: of ``Persistence.fit``.
            sample_size: of ``inverse_temperature_for``.
        """
        persistence = Persistence.fit(paths, errors, known, terminated)
        advantage = persistence.smoothed(paths, errors, known)
        plateau = math.isinf(persistence.scale)
        return cls(persistence, Temperature.fit(paths, advantage, sample_size, plateau=plateau))

    def __call__(self, paths: Paths, errors: TDErrors, known: Array) -> Array:
        """Scores, (n,) float64, of the rows of paths with the given TD errors."""
        return self.temperature(self.persistence.smoothed(paths, errors, known))


def saturated(advantage: Array, low: float, high: float, deviation: float) -> Array:
    """Advantages whose unusual values are drawn to within one deviation of the usual ones.

    A between low and high stays; x deviations above, it becomes high + deviation * x / (1 + x), and likewise
    below: order is kept, and slope where the unusual begins.

    Args:
        advantage: (n,).
        low, high: of the usual values.
        deviation: positive.
    """
    usual = np.clip(advantage, low, high)
    beyond = (advantage - usual) / deviation
    return np.asarray(usual + deviation * beyond / (1.0 + np.abs(beyond)))


def _usual(paths: Paths, advantage: Array) -> tuple[float, float]:
    """Lowest and highest of the usual advantages: a fortieth of the rows, and always one path of more than two,
    lies below and above.
    """
    low, high = np.quantile(advantage, USUAL)
    if len(paths) > 2:
        low = max(low, np.partition(np.minimum.reduceat(advantage, paths.start), 1)[1])
        high = min(high, np.partition(np.maximum.reduceat(advantage, paths.start), -2)[-2])
    return float(min(low, high)), float(max(low, high))


def inverse_temperature_for(signal: Array, sample_size: float, *, plateau: bool) -> float:
    """1 / T such that the weights exp(signal / T) have the wanted effective sample size.

    Where many rows are nearly as good as the best, it has a larger one: T is bounded by ``LARGEST_RISE``, for
    only noise is left to tell the good from the good. Where few rows are far better than all others, T is
    lowered further, until the others do not outweigh them wherever they meet: the sample size then hardly falls
    any more, for it is that of the few. That plateau is looked for down to T / 8, as the first minimum of the
    elasticity -d log(sample size) / d log(1 / T) that is at most ``PLATEAU``.

    Args:
        signal: (n,) larger is better.
        sample_size: wanted effective sample size as a share of the rows, in (0, 1).
        plateau: whether to look for that of few rows. Of whole paths alone: the tail of what is smoothed over
            less looks like one.

    Returns:
        0 when the signal is constant.
    """
    centered = signal - signal.max()
    span = -centered.min()
    if span <= 1e-9 * np.abs(signal).max():  # rounding
        return 0.0

    def share(inverse_temperature: float) -> float:
        weight = np.exp(inverse_temperature * centered)
        return float(weight.sum() ** 2 / (len(signal) * np.square(weight).sum()))

    ordered = np.sort(signal)
    center = ordered[len(signal) // 3 : len(signal) - len(signal) // 3].mean()
    above = signal.max() - center
    low, high = 1e-9 / span, LARGEST_RISE / (above if above > 1e-6 * span else span)
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if share(middle) > sample_size else (low, middle)
    if share(low) > 1.01 * sample_size or not plateau:
        return float(low)
    candidates = low * 2.0 ** np.arange(0.0, 3.25, 0.25)
    elasticity = -np.gradient(np.log([share(candidate) for candidate in candidates]), np.log(candidates))
    before, here, after = elasticity[:-2], elasticity[1:-1], elasticity[2:]
    found = np.flatnonzero((here <= PLATEAU) & (here < before) & (here <= after))
    return float(candidates[1 + found[0]] if len(found) else low)
