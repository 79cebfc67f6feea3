"""Episodes that succeed or fail: where returns say no more than that, correlations with them mislead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from vaco_curate.core.transitions import Array, blocks
from vaco_curate.curation import Candidates
from vaco_curate.data.scores import ScoreTable


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


def outcomes_of(candidates: Candidates, scores: ScoreTable, episode_score: Array) -> Outcomes | None:
    """The outcomes of episodes; None where rewards say more than success.

    They say no more where all rows have one of two rewards, and the less common one is on one row of an episode
    at most.

    Args:
        episode_score: (episodes,) mean scores.
    """
    reward = scores.column("reward")
    counts: dict[float, int] = {}
    for rows in blocks(len(reward)):
        values, found = np.unique(reward[rows], return_counts=True)
        for value, count in zip(values.tolist(), found.tolist(), strict=True):
            counts[value] = counts.get(value, 0) + count
        if len(counts) > 2:
            return None
    if len(counts) < 2:
        return None
    rare = min(counts, key=lambda value: counts[value])
    successes = np.add.reduceat(reward == rare, candidates.episode_start, dtype=np.int64)
    if successes.max() > 1:
        return None
    succeeded = successes == 1
    return Outcomes(succeeded, _spearman(episode_score[succeeded], candidates.episode_length[succeeded]))


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
