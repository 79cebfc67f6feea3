"""Two runs on the same dataset: how far their scores agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from vaco_curate.curation import Candidates, episode_means
from vaco_curate.curation.ordering import ranks
from vaco_curate.data.scores import ScoreTable
from vaco_curate.reporting.outcomes import outcomes_of
from vaco_curate.reporting.relations import Correlation, correlate, episode_correlations

SHARES = (10, 25, 50)
MOST_DIFFERENT = 10


@dataclass(frozen=True)
class Comparison:
    """What two runs say of the same rows.

    Attributes:
        name: of the other run.
        pearson, spearman: of the scores of all rows; None where those of one run are equal.
        overlap: by share in percent, how many of the best rows of one run are among those of the other.
        episodes: ``episode``, ``return``, ``length``, mean scores ``score`` and ``other``, and ranks from 0 on
            (best) to 1 ``rank`` and ``other_rank``; in the order of the dataset.
        different: the episodes whose ranks differ most.
        correlations: of the other run, as those of the report.
    """

    name: str
    pearson: float | None
    spearman: float | None
    overlap: dict[int, float]
    episodes: pl.DataFrame
    different: pl.DataFrame
    correlations: list[Correlation]


def compare(scores: ScoreTable, other: ScoreTable, name: str) -> Comparison:
    """Hold the scores of a run against those of another one, called ``name``, of the same rows."""
    ours, theirs = Candidates.scored(scores), Candidates.scored(other)
    pearson, spearman = correlate(ours.value, theirs.value)
    frame = _episodes(ours, theirs)
    gap = (pl.col("rank") - pl.col("other_rank")).abs()
    outcomes = outcomes_of(theirs, other, frame["other"].to_numpy())
    return Comparison(
        name=name,
        pearson=pearson,
        spearman=spearman,
        overlap=_overlap(ours, theirs),
        episodes=frame,
        different=frame.sort(gap, descending=True, maintain_order=True).head(MOST_DIFFERENT),
        correlations=episode_correlations(theirs, other, outcomes),
    )


def _episodes(ours: Candidates, theirs: Candidates) -> pl.DataFrame:
    score, other = episode_means(ours, ours.value), episode_means(theirs, theirs.value)
    last = max(1, len(score) - 1)
    return pl.DataFrame(
        {
            "episode": ours.episode_id,
            "return": ours.episode_return,
            "length": ours.episode_length,
            "score": score,
            "other": other,
            "rank": ranks(score) / last,
            "other_rank": ranks(other) / last,
        }
    )


def _overlap(ours: Candidates, theirs: Candidates) -> dict[int, float]:
    first, second = ranks(ours.value), ranks(theirs.value)
    found = {}
    for share in SHARES:
        kept = -(-share * len(ours) // 100)
        found[share] = float(np.count_nonzero((first < kept) & (second < kept)) / kept)
    return found
