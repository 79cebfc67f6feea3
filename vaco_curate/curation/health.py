"""Signs that scores are not worth trusting, in plain words."""

from __future__ import annotations

from collections.abc import Iterable
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


def doubted_by(signs: Iterable[Sign]) -> tuple[Doubted, ...]:
    """All that some signs speak against."""
    return tuple(sorted({sign.against for sign in signs if sign.against is not None}))


def weight_signs(sample_share: float, effective_episodes: float, episodes: int) -> list[Sign]:
    """Signs that weights rest on too little; empty where they do not.

    Args:
        sample_share: the effective one of the weights, in (0, 1].
        effective_episodes: that carry the weight, of so many ``episodes``.
    """
    signs = []
    if sample_share < SMALLEST_SAMPLE_SHARE:
        text = (
            f"the weights have collapsed: {sample_share:.1%} of the rows carry them. "
            "Ranks may still be usable. Weights need a higher --temperature of reweight"
        )
        signs.append(Sign(text, "weights"))
    if effective_episodes < FEW_EPISODES <= episodes:
        text = (
            f"the weight lies on {effective_episodes:.1f} effective episodes of {episodes:,}: look at them "
            "before you train on weights, or give reweight a higher --temperature"
        )
        signs.append(Sign(text, "weights"))
    return signs


def kept_signs(effective_episodes: float, episodes: int) -> list[Sign]:
    """A sign that a filter keeps rows of few of so many ``episodes``; empty where it does not."""
    if effective_episodes >= FEW_EPISODES or episodes < FEW_EPISODES:
        return []
    text = (
        f"what is kept comes from {effective_episodes:.1f} effective episodes of {episodes:,}: look at them "
        "before you train on them, or keep more"
    )
    return [Sign(text)]


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
    if episodes < FEW_EPISODES:
        few = "is only 1 episode" if episodes == 1 else f"are only {episodes} episodes"
        signs.append(Sign(f"there {few}: too few to tell what is good from what is chance", "scores"))
    if not all_equal:
        signs += weight_signs(sample_share, effective_episodes, episodes)
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
