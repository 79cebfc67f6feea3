"""Signs that scores are not worth trusting, in plain words."""

from __future__ import annotations

import numpy as np

from vaco_curate.curation.weights import effective_sample_share, weights_from_scores
from vaco_curate.transitions import Array

SMALLEST_SAMPLE_SHARE = 0.02
"""Of the weights; the prior gives a little more where the best behavior has a fortieth of the rows."""


def score_warnings(score: Array, episode_return: Array) -> list[str]:
    """Warnings about a score column; empty when nothing looks wrong.

    Args:
        score: (n,) log w, up to a constant.
        episode_return: (episodes,), what the scores can have learned from.
    """
    warnings = []
    if score.min() == score.max():
        return ["all scores are equal: the scorer tells nothing apart"]
    share = effective_sample_share(weights_from_scores(score, 1.0))
    if share < SMALLEST_SAMPLE_SHARE:
        warnings.append(
            f"the weights have collapsed: {share:.1%} of the rows carry them. Ranks may still be usable; "
            "for weights, raise --temperature"
        )
    counts = np.unique(score, return_counts=True)[1]
    tied = counts[counts > 1].sum() / len(score)
    if tied > 0.5:
        warnings.append(f"{tied:.0%} of the rows share their score with another row (duplicates in the data?)")
    if len(episode_return) > 1 and np.ptp(episode_return) == 0.0:
        warnings.append("all episodes have the same return: the rewards tell nothing apart, nor can the scores")
    return warnings
