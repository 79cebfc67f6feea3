"""Signs that only episodes and returns show that scores are not worth trusting, in plain words."""

from __future__ import annotations

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.reporting.outcomes import WEAK_AUC, Outcomes
from vaco_curate.reporting.relations import Confound, Correlation

FEW_EPISODES = 20
WEAK_CORRELATION = 0.3
STRONG_CORRELATION = 0.9

SMALLEST_DEVIATION = 0.05
"""Of scores: below it nearly all weights lie within some 5 % of their mean."""

MANY_TIES = 0.1
"""Share of the episodes that have the mean score of another."""


def signs(
    score: Array,
    mean: Array,
    outcomes: Outcomes | None,
    correlation: Correlation,
    relations: list[Confound],
) -> list[str]:
    """Warnings beyond those of the run; empty when nothing looks wrong.

    Args:
        score: (n,) of the rows.
        mean: (episodes,) mean scores.
        correlation: of the score with returns or outcomes.
        relations: of the score with other facts.
    """
    found = []
    if len(mean) < FEW_EPISODES:
        few = "1 episode" if len(mean) == 1 else f"{len(mean)} episodes"
        found.append(f"only {few}: too few for a reliable correlation with the return")
    found += _of_spread(score, mean)
    found += _of_length(outcomes, correlation, relations)
    return found + (_of_returns(correlation) if outcomes is None else [])


def _of_spread(score: Array, mean: Array) -> list[str]:
    if score.min() == score.max():
        return []  # the run says so
    found, deviation = [], float(score.std(dtype=np.float64))
    if deviation < SMALLEST_DEVIATION:
        found.append(
            f"the scores hardly differ (standard deviation {deviation:.3f}): the weights are all close to "
            "their mean, and the ranks may be chance"
        )
    _, counts = np.unique(mean, return_counts=True)
    tied = float(counts[counts > 1].sum() / len(mean))
    if tied > MANY_TIES:
        found.append(
            f"{tied:.0%} of the episodes have the same mean score as another one: a cut among them keeps those "
            "that come first in the dataset"
        )
    return found


def _of_length(outcomes: Outcomes | None, correlation: Correlation, relations: list[Confound]) -> list[str]:
    length = next(relation.spearman for relation in relations if relation.name == "length")
    if length is None or abs(length) <= STRONG_CORRELATION:
        return []
    if outcomes is None:
        explained = correlation.spearman is not None and abs(correlation.spearman) >= WEAK_CORRELATION
    else:
        explained = correlation.auc is not None and correlation.auc >= WEAK_AUC
    if explained:
        return []
    what = "return" if outcomes is None else "success"
    which = "longer" if length > 0 else "shorter"
    return [
        f"{which} episodes have higher scores (Spearman {length:.2f}), and the {what} hardly matters: a filter "
        f"would mostly choose {which} episodes"
    ]


def _of_returns(correlation: Correlation) -> list[str]:
    if correlation.spearman is None:
        return ["all episodes have the same return or the same mean score: their correlation is undefined"]
    if correlation.spearman < 0:
        return [
            f"episodes with higher returns tend to have lower scores (Spearman {correlation.spearman:.2f}): "
            "do not filter by these scores unless you care about something other than the return"
        ]
    if correlation.spearman < WEAK_CORRELATION:
        return [
            f"the scores hardly correlate with the returns (Spearman {correlation.spearman:.2f}). "
            "This can be right where good data earns no reward of its own, as in stitching tasks. "
            "Elsewhere it suggests that the scores are wrong"
        ]
    return []
