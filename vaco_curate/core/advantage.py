"""The advantage of a trajectory around each of its rows: TD errors, smoothed as far as behavior persists.

The sum of undiscounted TD errors over a stretch of a path is what it earned there, plus how much more its
end is worth than its start. A single one is noisy. But behavior persists: what an actor did before and does
after a row tells how good it is there. For how long it persists, and how much of a TD error is noise, shows in
the data without any label: by how well what lies behind a row predicts what lies ahead of it.

Source: ours (docs/method.md). TD errors without a discount are rewards shaped by the potential V (Ng, Harada,
Russell, ICML 1999). Smoothing is Nadaraya and Watson's kernel estimate along the path, shrinkage that of
random-effects models; over whole paths it is of the family of trajectory weighting (Hong, Agrawal, Tachet des
Combes, Laroche, ICLR 2023, arXiv:2306.13085).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.paths import Paths
from vaco_curate.core.transitions import Array

SCALES = (10.0, 30.0, 100.0, 300.0, math.inf)
"""Steps over which behavior may persist; infinite: whole paths. Below ten, errors of V are as alike."""

NEARLY_AS_GOOD = 0.9
"""The longest scale that predicts at least this share of what the best one does is chosen: the longer, the less
noise."""

SHRINKAGES = np.geomspace(1.0, 1e5, 51)
"""Numbers of rows at which evidence may count half."""

USUAL = (0.001, 0.999)
"""Quantiles that TD errors are clipped at, lest single ones rule a path."""

FITTED_ROWS = 1 << 18
"""Rows that persistence is measured on, of paths drawn at random where there are more."""


@dataclass(frozen=True)
class TDErrors:
    """TD errors of rows with and without the discount of V, (n,) or (K, n) float64 in scaled reward units.

    Attributes:
        discounted: r_t + discount V(s_{t+1}) - V(s_t), which compare an action with what the data do in the
            same state. Persistence is measured on them.
        undiscounted: r_t + V(s_{t+1}) - V(s_t), which credit an actor for reaching good states. Scores are made
            of them: where only one actor visits a state, V has learned what that actor earns, and the discount
            takes it away again at every step.
    """

    discounted: Array
    undiscounted: Array

    @classmethod
    def of(
        cls, reward: Array, value: Array, last_value: Array, terminated: Array, paths: Paths, discount: float
    ) -> TDErrors:
        """Of the rows of paths, by the values of K members, with V = 0 after a true end.

        Args:
            reward, terminated: (n,), rewards as V has learned them.
            value: (K, n) V of the rows' states.
            last_value: (K, paths) V of the state after each path.
            paths: ``packed``.
            discount: of V.
        """
        next_value = np.roll(value, -1, axis=-1)
        next_value[..., paths.last] = last_value
        next_value = np.where(terminated, 0.0, next_value)
        undiscounted = reward.astype(np.float64) + next_value - value
        return cls(undiscounted - (1.0 - discount) * next_value, undiscounted)

    def members(self) -> Iterator[TDErrors]:
        """Those of each of K members."""
        return map(TDErrors, self.discounted, self.undiscounted)


@dataclass(frozen=True)
class Persistence:
    """How TD errors of a dataset are smoothed.

    Attributes:
        scale: steps over which behavior persists; infinite for whole paths.
        shrinkage: rows at which evidence counts half.
        low, high: bounds that undiscounted TD errors are clipped at.
        expected: undiscounted TD error of a step of which nothing is known: the mean, times the share of paths
            that go on after their last row. After a true end nothing is earned.
        predicted: share of the variance of what lies ahead of a row that what lies behind it predicts, at this
            scale; nan where no row has both.
    """

    scale: float
    shrinkage: float
    low: float
    high: float
    expected: float
    predicted: float

    @classmethod
    def fit(cls, paths: Paths, errors: TDErrors, known: Array, terminated: Array) -> Persistence:
        """Measured on a dataset.

        At each scale, TD errors behind a row, shrunk, predict those ahead of it:

            (sum_k w_k (delta_{t-k} - mean)) / (sum_k w_k + shrinkage),   w_k = exp(-k / scale),

        against the mean of what lies ahead, weighted by how many rows that stands for. These are discounted
        ones: undiscounted ones also persist because states that follow each other are alike. They are taken
        from their mean, for what all rows have in common says nothing of behavior.

        Args:
            errors: (n,).
            known: (n,) bool, rows whose error is one.
            terminated: (n,) bool, rows that end truly.
        """
        some = paths.drawn(FITTED_ROWS)
        rows, packed = some.rows(), some.packed()
        known = known[rows]
        if not known.any():
            return cls(math.inf, SHRINKAGES[0], 0.0, 0.0, 0.0, math.nan)
        clipped, *_ = _clipped(errors.discounted[rows], known)
        centered = np.where(known, clipped - clipped[known].mean(), 0.0)
        found = [(scale, *_prediction(packed, centered, known, scale)) for scale in SCALES]
        most = max((predicted for *_, predicted in found if not math.isnan(predicted)), default=math.nan)
        good = [each for each in found if each[2] >= NEARLY_AS_GOOD * most] if most > 0.0 else found
        scale, shrinkage, predicted = good[-1]
        clipped, low, high = _clipped(errors.undiscounted[rows], known)
        expected = clipped[known].mean() * (1.0 - terminated[rows[packed.last]].mean())
        return cls(scale, shrinkage, low, high, float(expected), predicted)

    def smoothed(self, paths: Paths, errors: TDErrors, known: Array) -> Array:
        """The advantage of the trajectory around each row.

            (sum_k w_k delta_{t+k} + shrinkage expected) / (sum_k w_k + shrinkage),   w_k = exp(-|k| / scale),

        over the known rows of its path.

        Args:
            errors, known: (n,), as for ``fit``.

        Returns:
            (n,) float64, in scaled reward units a step.
        """
        packed = paths.packed()
        clipped = np.where(known, np.clip(errors.undiscounted, self.low, self.high), 0.0)
        total, count = (_around(packed, values, self.scale) for values in (clipped, known.astype(np.float64)))
        return (total + self.shrinkage * self.expected) / (count + self.shrinkage)


def _clipped(errors: Array, known: Array) -> tuple[Array, float, float]:
    """Errors within the usual ones of known rows, and the bounds."""
    low, high = np.quantile(errors[known], USUAL)
    return np.clip(errors, low, high), float(low), float(high)


def _around(paths: Paths, values: Array, scale: float) -> Array:
    """sum_k exp(-|k| / scale) values_{t+k} along the path."""
    if math.isinf(scale):  # equal for all rows of a path, to the last bit
        return np.repeat(np.add.reduceat(values, paths.start), paths.length)
    return paths.behind(values, scale) + values + paths.ahead(values, scale)


def _prediction(paths: Paths, centered: Array, known: Array, scale: float) -> tuple[float, float]:
    """The shrinkage at which errors behind a row predict those ahead best, and the share that they predict."""
    count = known.astype(np.float64)
    behind, ahead = paths.behind(centered, scale), paths.ahead(centered, scale)
    rows_behind, rows_ahead = paths.behind(count, scale), paths.ahead(count, scale)
    both = (rows_behind > 0.0) & (rows_ahead > 0.0)
    behind, ahead, rows_behind, rows_ahead = (v[both] for v in (behind, ahead, rows_behind, rows_ahead))
    if not len(ahead) or not centered.any():
        return SHRINKAGES[0], math.nan
    target = ahead / rows_ahead
    if not target.any():
        return SHRINKAGES[0], math.nan
    best = SHRINKAGES[0], -math.inf
    for shrinkage in SHRINKAGES:
        weight = rows_ahead / (rows_ahead + shrinkage)
        left = (weight * np.square(target - behind / (rows_behind + shrinkage))).sum()
        predicted = 1.0 - left / (weight * np.square(target)).sum()
        if predicted > best[1]:
            best = shrinkage, float(predicted)
    return best
