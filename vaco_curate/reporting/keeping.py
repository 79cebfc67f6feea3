"""What filters of every share would keep, without a selection for each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import Array, blocks
from vaco_curate.curation import Candidates, Summary, episode_means, summary_of_kept
from vaco_curate.curation.ordering import ranks

SHARES = range(1, 101)
"""In percent."""


@dataclass(frozen=True)
class Kept:
    """What a filter keeps.

    Attributes:
        lowest: score of the worst row, or mean score of the worst episode, that is kept.
    """

    summary: Summary
    lowest: float


@dataclass(frozen=True)
class Keeping:
    """Filters of the best 1 to 100 % of the rows, or of the episodes.

    Attributes:
        rows: what ``filter --top P%`` keeps, for every P of ``SHARES``.
        episodes: what ``filter --top P%ep`` keeps.
        row_share: (n,) uint8, the smallest P at which a row is kept.
        episode_share: (episodes,) uint8, the smallest P at which an episode is kept.
    """

    rows: list[Kept]
    episodes: list[Kept]
    row_share: Array
    episode_share: Array


def keeping(candidates: Candidates) -> Keeping:
    """All of them, by counting along the order of the rows and of the episodes."""
    row_share = _share_of_rows(candidates, _counts(len(candidates)))
    mean = episode_means(candidates, candidates.value)
    order = np.argsort(ranks(mean))
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    counts = _counts(len(order))
    episodes = [
        Kept(
            summary_of_kept(candidates, np.where(position < count, candidates.episode_length, 0)),
            float(mean[order[count - 1]]),
        )
        for count in counts.tolist()
    ]
    episode_share = (np.searchsorted(counts, position, side="right") + SHARES.start).astype(np.uint8)
    return Keeping(_kept_rows(candidates, row_share), episodes, row_share, episode_share)


def _counts(total: int) -> Array:
    """(shares,) what every share of so many rows or episodes is, rounded up."""
    return np.array([math.ceil(share * total / 100) for share in SHARES])


def _share_of_rows(candidates: Candidates, allowed: Array) -> Array:
    rank = ranks(candidates.value)
    share = np.empty(len(rank), np.uint8)
    for rows in blocks(len(rank)):
        share[rows] = np.searchsorted(allowed, rank[rows], side="right") + SHARES.start
    return share


def _kept_rows(candidates: Candidates, row_share: Array) -> list[Kept]:
    kept = np.zeros(len(candidates.episode_start), np.int64)
    lowest, found = math.inf, []
    for share in SHARES:
        for rows in blocks(len(candidates)):
            added = np.flatnonzero(row_share[rows] == share) + rows.start
            if added.size:
                episode = np.searchsorted(candidates.episode_start, added, side="right") - 1
                np.add.at(kept, episode, 1)
                lowest = min(lowest, float(candidates.value[added].min()))
        found.append(Kept(summary_of_kept(candidates, kept), lowest))
    return found
