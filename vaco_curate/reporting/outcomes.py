"""Episodes that succeed or fail: where returns say no more than that, correlations with them mislead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from vaco_curate.core.transitions import Array
from vaco_curate.curation import Candidates, episode_means
from vaco_curate.curation.health import Sign
from vaco_curate.data.scores import ScoreTable

WEAK_AUC = 0.7

LONGER_IS_BETTER = 0.3
"""Spearman correlation of the scores of successes with their lengths, above which it is told."""

FEW_SUCCESSES, RARE_SUCCESS = 10, 0.05
"""Episodes that succeed, and their share, below which scores rest on too few."""


@dataclass(frozen=True)
class Outcomes:
    """What is known of episodes that earn a reward once, or never.

    Attributes:
        succeeded: (episodes,) bool.
        length_correlation: Spearman correlation of the mean score of successes with their length: negative
            where the fast ones score higher. None for fewer than three, or where all are alike.
    """

    succeeded: Array
    length_correlation: float | None

    @property
    def rate(self) -> float:
        """Share of the episodes that succeed."""
        return float(self.succeeded.mean())


def outcomes_of(candidates: Candidates, scores: ScoreTable, episode_score: Array) -> Outcomes | None:
    """The outcomes of episodes; None where rewards say more than success.

    They say no more where all rows have one of two rewards, and the higher is the less common, on one row of an
    episode at most.

    Args:
        episode_score: (episodes,) mean scores.
    """
    counts = _counts(scores)
    if len(counts) != 2:
        return None
    rare, common = sorted(counts, key=lambda value: counts[value])
    if rare < common:
        return None
    reward = scores.column("reward")
    successes = np.add.reduceat(reward == rare, candidates.episode_start, dtype=np.int64)
    if successes.max() > 1:
        return None
    succeeded = successes == 1
    return Outcomes(succeeded, _spearman(episode_score[succeeded], candidates.episode_length[succeeded]))


def _counts(scores: ScoreTable) -> dict[float, int]:
    """How many rows have each reward; of more than two, some of them."""
    counts: dict[float, int] = {}
    for batch in scores.batches(["reward"]):
        values, found = np.unique(batch.column(0).to_numpy(), return_counts=True)
        for value, count in zip(values.tolist(), found.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + count
        if len(counts) > 2:
            break
    return counts


def scored_outcomes(scores: ScoreTable) -> tuple[Outcomes, Array] | None:
    """The outcomes of episodes and their mean scores; None where rewards say more than success."""
    if len(_counts(scores)) != 2:
        return None
    candidates = Candidates.scored(scores)
    mean = episode_means(candidates, candidates.value)
    outcomes = outcomes_of(candidates, scores, mean)
    return None if outcomes is None else (outcomes, mean)


def outcome_signs(outcomes: Outcomes, mean: Array) -> list[Sign]:
    """Signs that scores do not tell successes from failures, or good successes from long ones.

    Args:
        mean: (episodes,) mean scores.
    """
    signs = []
    auc = area_under_curve(outcomes.succeeded, mean)
    if auc is not None and auc < WEAK_AUC:
        text = (
            f"a success scores higher than a failure in {auc:.0%} of the pairs, where chance gives 50%: these "
            "scores do not tell them apart, so do not filter by them"
        )
        signs.append(Sign(text, "scores"))
    longer = outcomes.length_correlation
    if longer is not None and longer > LONGER_IS_BETTER:
        text = (
            f"long successes score higher than short ones (Spearman {longer:.2f}). If fast ones are better, "
            "subtract a step cost: --step-cost"
        )
        signs.append(Sign(text))
    count, episodes = int(outcomes.succeeded.sum()), len(outcomes.succeeded)
    if count < max(FEW_SUCCESSES, RARE_SUCCESS * episodes):
        succeed = "1 episode succeeds" if count == 1 else f"{count} episodes succeed"
        text = (
            f"only {succeed} of {episodes:,}: the scores rest on these few. Look at them before you train on "
            "the rows that score highest"
        )
        signs.append(Sign(text))
    return signs


def area_under_curve(positive: Array, value: Array) -> float | None:
    """AUC: how often a positive has a higher value than a negative; ties count half. None without either.

    Args:
        positive: (n,) bool.
        value: (n,).
    """
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return None
    rank = pl.Series(value).rank(method="average").to_numpy()
    return float((rank[positive].sum() - count * (count + 1) / 2) / (count * others))


def _spearman(left: Array, right: Array) -> float | None:
    if len(left) < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    frame = pl.DataFrame({"left": left, "right": right})
    return float(frame.select(pl.corr("left", "right", method="spearman")).item())
