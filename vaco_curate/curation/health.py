"""Signs that scores are not worth trusting, in plain words."""

from __future__ import annotations

import numpy as np

from vaco_curate.curation.weights import effective_sample_share, weights_from_log
from vaco_curate.transitions import Array

SMALLEST_SAMPLE_SHARE = 0.05
LARGEST_SATURATED_SHARE = 0.5
SATURATED_FROM = 0.98


def score_warnings(score: Array, log_weight: Array, bound: float | None) -> list[str]:
    """Warnings about a score column; empty when nothing looks wrong.

    Args:
        score: (n,).
        log_weight: (n,) log w of the same rows.
        bound: largest absolute score the network can give, if any.
    """
    warnings = []
    if score.min() == score.max():
        return ["all scores are equal: the scorer tells nothing apart"]
    share = effective_sample_share(weights_from_log(log_weight, 1.0))
    if share < SMALLEST_SAMPLE_SHARE:
        warnings.append(
            f"the weights have collapsed: {share:.1%} of the rows carry them. Ranks may still be usable; "
            "for weights, raise --temperature or train with a larger bilevel.divergence_coefficient"
        )
    if bound is not None:
        saturated = float(np.mean(np.abs(score) > SATURATED_FROM * bound))
        if saturated > LARGEST_SATURATED_SHARE:
            warnings.append(f"{saturated:.0%} of the scores lie at the bound of +-{bound:g}, hardly told apart")
    tied = 1.0 - len(np.unique(score)) / len(score)
    if tied > 0.5:
        warnings.append(f"{tied:.0%} of the rows share their score with another row (duplicates in the data?)")
    return warnings
