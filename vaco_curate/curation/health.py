"""Signs that scores are not worth trusting, in plain words."""

from __future__ import annotations

import numpy as np

from vaco_curate.transitions import Array

SMALLEST_SAMPLE_SHARE = 0.02
"""Of the weights; the prior gives a little more where the best behavior has a fortieth of the rows."""


def score_warnings(score: Array, sample_share: float, *, one_return: bool) -> list[str]:
    """Warnings about a score column; empty when nothing looks wrong.

    Args:
        score: (n,) log w, up to a constant.
        sample_share: the effective one of their weights, in (0, 1].
        one_return: whether there are several episodes, and all have the same return.
    """
    warnings = []
    if score.min() == score.max():
        return ["all scores are equal: the scorer tells nothing apart"]
    if sample_share < SMALLEST_SAMPLE_SHARE:
        warnings.append(
            f"the weights have collapsed: {sample_share:.1%} of the rows carry them. "
            "Ranks may still be usable; for weights, raise --temperature"
        )
    ascending = np.sort(score)
    same = np.concatenate([[False], ascending[1:] == ascending[:-1], [False]])
    tied = float((same[1:] | same[:-1]).mean())
    if tied > 0.5:
        warnings.append(f"{tied:.0%} of the rows share their score with another row (duplicates in the data?)")
    if one_return:
        warnings.append("all episodes have the same return: the rewards tell nothing apart, nor can the scores")
    return warnings
