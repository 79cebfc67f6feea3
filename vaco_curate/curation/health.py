"""Signs that scores are not worth trusting, in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vaco_curate.core.transitions import Array, blocks

SMALLEST_SAMPLE_SHARE = 0.02
"""Of the weights; the temperature gives a little more where the best behavior has a fortieth of the rows."""

MOST_ROWS_ALONE = 0.5
"""Share of the rows without a next one above which there are hardly any trajectories."""

FEW_EPISODES = 10.0
"""Effective episodes below which weights or a selection rest on too little to be trusted."""


Doubted = Literal["scores", "weights"]


@dataclass(frozen=True)
class Sign:
    """A warning.

    Attributes:
        text: in plain words.
        against: what it advises against: to follow the scores at all, or to use them as weights; None for
            neither.
    """

    text: str
    against: Doubted | None = None


def few_episodes_signs(effective: float, episodes: int) -> list[Sign]:
    """A sign where nearly all weight lies on a few episodes; empty where it does not."""
    if effective >= FEW_EPISODES:
        return []
    if episodes < FEW_EPISODES:
        few = "is only 1 episode" if episodes == 1 else f"are only {episodes} episodes"
        return [Sign(f"there {few}: too few to tell what is good from what is chance", "scores")]
    text = (
        f"the weight lies on {effective:.1f} effective episodes of {episodes:,}: rows of an episode share most "
        "of their score. Look at these episodes before you train on them"
    )
    return [Sign(text, "weights")]


def score_signs(
    score: Array,
    q_value: Array,
    sample_share: float,
    *,
    one_return: bool,
    rows_alone: float,
    effective_episodes: float,
    episodes: int,
) -> list[Sign]:
    """Signs that scores are not worth trusting; empty when nothing looks wrong.

    Args:
        score: (n,) log weights up to a constant.
        q_value: (n,) Q(s, a), from the lowest to the highest: what rows share that are the same.
        sample_share: the effective one of their weights, in (0, 1].
        one_return: whether there are several episodes, and all have the same return.
        rows_alone: share of the rows that no step of their episode follows.
        effective_episodes: that carry the weight, of so many ``episodes``.
    """
    signs = []
    all_equal = bool(score.min() == score.max())
    if all_equal:
        signs.append(Sign("all scores are equal: the scorer cannot tell rows apart", "scores"))
    if sample_share < SMALLEST_SAMPLE_SHARE:
        text = (
            f"the weights have collapsed: {sample_share:.1%} of the rows carry them. "
            "Ranks may still be usable. Weights need a higher temperature"
        )
        signs.append(Sign(text, "weights"))
    if not all_equal:
        signs += few_episodes_signs(effective_episodes, episodes)
    tied = _tied_rows(q_value) / len(q_value)
    if tied > 0.5:
        text = f"{tied:.0%} of the rows share their Q(s, a) with another row (duplicates in the data?)"
        signs.append(Sign(text))
    if rows_alone > MOST_ROWS_ALONE:
        text = (
            f"{rows_alone:.0%} of the rows are followed by no step of their episode: a score is then made of "
            "single TD errors, which are mostly noise. Q told more where both were measured "
            "(docs/method.md): filter by q_value"
        )
        signs.append(Sign(text, "scores"))
    if one_return:
        text = "all episodes have the same return: rewards do not tell them apart, so the scores cannot either"
        signs.append(Sign(text, "scores"))
    return signs


def _tied_rows(ascending: Array) -> int:
    """Rows that have the value of the row before or behind."""
    tied, count = 0, len(ascending)
    for rows in blocks(count):
        part = ascending[max(rows.start - 1, 0) : rows.stop + 1]
        ends = [False] * (rows.start == 0), [False] * (rows.stop == count)
        same = np.concatenate([ends[0], part[1:] == part[:-1], ends[1]]).astype(bool)
        tied += int((same[1:] | same[:-1]).sum())
    return tied
