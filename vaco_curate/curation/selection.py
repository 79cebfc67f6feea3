"""Scores to a ``Selection``: which rows are kept, exactly, and why the others are not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from vaco_curate.errors import SettingsError
from vaco_curate.transitions import Array, Transitions

Level = Literal["transition", "episode"]

KEPT = ""
BELOW_CUT = "score below the cut"
EPISODE_BELOW_CUT = "episode's mean score below the cut"
OVER_BUDGET = "episode would exceed the row budget"


@dataclass(frozen=True)
class Cut:
    """Where to cut: exactly one of a share of the rows, a number of rows, or a score.

    Attributes:
        share: in (0, 1], exact, so that 10 % of 30 rows is 3 and not 4 by rounding.
        rows: at least 1.
        threshold: lowest score that is kept.
    """

    share: Fraction | None = None
    rows: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.share, self.rows, self.threshold)) != 1:
            raise SettingsError("a cut is one of a share, a number of rows, or a threshold")
        if self.share is not None and not 0 < self.share <= 1:
            wrong = "more than all rows" if self.share > 1 else f"{float(100 * self.share):g} % of the rows"
            raise SettingsError(f"--top is {wrong}: give a share above 0 % and at most 100 %")
        if self.rows is not None and self.rows < 1:
            raise SettingsError(f"--top {self.rows} keeps nothing: give at least 1 row")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise SettingsError(f"--threshold {self.threshold} is not a number to cut at")

    def budget(self, count: int) -> int:
        """Rows that may be kept out of ``count``: ceil(share * count), or the number of rows."""
        if self.share is not None:
            return math.ceil(self.share * count)
        assert self.rows is not None
        return min(self.rows, count)

    def to_json(self) -> dict[str, Any]:
        """The request, exactly."""
        share = None if self.share is None else str(self.share)
        return {"share": share, "rows": self.rows, "threshold": self.threshold}

    def __str__(self) -> str:
        if self.share is not None:
            return f"top {float(100 * self.share):g}%"
        return f"top {self.rows} rows" if self.rows is not None else f"score >= {self.threshold!r}"


@dataclass(frozen=True)
class Selection:
    """A decision for every row of a dataset; a filter is the case of weights 0 and 1.

    Attributes:
        weight: (n,) float64, 0 for a dropped row.
        reason: (n,) strings, empty for a kept row.
        rule: the decision in words.
        cut: lowest score (transition level) or mean score (episode level) kept, None for weights.
    """

    weight: Array
    reason: Array
    rule: str
    cut: float | None

    @property
    def kept_rows(self) -> Array:
        """(m,) row numbers kept, increasing."""
        return np.flatnonzero(self.weight > 0)

    @property
    def dropped_rows(self) -> Array:
        """(n - m,) row numbers dropped, increasing."""
        return np.flatnonzero(self.weight == 0)


def select(data: Transitions, score: Array, rank: Array, cut: Cut, level: Level) -> Selection:
    """Keep the best rows, or whole episodes in the order of their mean score.

    At transition level ``--top`` keeps exactly the budget, ties broken by row number. At episode level
    episodes are taken best first until the next one would exceed the budget.

    Args:
        score: (n,) higher is better.
        rank: (n,) 0 is best, without ties.

    Raises:
        SettingsError: nothing would be kept.
    """
    if level == "transition":
        keep, reason, lowest = _best_transitions(score, rank, cut)
    else:
        keep, reason, lowest = _best_episodes(data, score, cut)
    if not keep.any():
        raise SettingsError(
            f"{cut} at {level} level keeps nothing",
            details=(f"scores range from {score.min():.4g} to {score.max():.4g}", f"rows: {len(data)}"),
            fix="give a larger --top or a lower --threshold",
        )
    weight, reasons = keep.astype(np.float64), np.where(keep, KEPT, reason)
    return Selection(weight, reasons, f"{cut} by score, {level} level", lowest)


def episode_means(data: Transitions, values: Array) -> Array:
    """(episodes,) float64 mean of a row quantity over each episode."""
    return np.add.reduceat(values.astype(np.float64), data.episode_start) / data.episode_length


def _best_transitions(score: Array, rank: Array, cut: Cut) -> tuple[Array, Array, float]:
    """(keep, reason if dropped, lowest score kept), the first two (n,)."""
    keep = score >= cut.threshold if cut.threshold is not None else rank < cut.budget(len(score))
    return keep, np.full(len(score), BELOW_CUT, dtype=object), float(score[keep].min(initial=np.inf))


def _best_episodes(data: Transitions, score: Array, cut: Cut) -> tuple[Array, Array, float]:
    """(keep, reason if dropped, lowest mean score kept), the first two (n,)."""
    means = episode_means(data, score)
    reason = np.full(len(means), EPISODE_BELOW_CUT, dtype=object)
    if cut.threshold is not None:
        keep = means >= cut.threshold
    else:
        order = np.argsort(-means, kind="stable")
        within = np.cumsum(data.episode_length[order]) <= cut.budget(len(data))
        count = len(order) if within.all() else int(np.argmin(within))
        keep = np.zeros(len(means), dtype=bool)
        keep[order[:count]] = True
        reason[order[count : count + 1]] = OVER_BUDGET
    lengths = data.episode_length
    return np.repeat(keep, lengths), np.repeat(reason, lengths), float(means[keep].min(initial=np.inf))
