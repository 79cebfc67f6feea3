"""The facts of a report: computed here, drawn in ``figures`` and shown in ``html``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from vaco_curate.core.transitions import Array, blocks
from vaco_curate.curation import Candidates, Summary, episode_means, summarize
from vaco_curate.curation.weights import effective_episodes_of_scores, sample_share_of_scores
from vaco_curate.data.scores import ScoreTable
from vaco_curate.reporting.comparison import Comparison
from vaco_curate.reporting.episodes import Course, Grouping, courses, episode_frame
from vaco_curate.reporting.keeping import Keeping, keeping
from vaco_curate.reporting.outcomes import Outcomes, outcomes_of
from vaco_curate.reporting.projection import ObservationSample, Projection, project
from vaco_curate.reporting.relations import (
    Confound,
    Correlation,
    Groups,
    confounds,
    episode_correlations,
    groups_of,
)
from vaco_curate.reporting.signs import signs
from vaco_curate.reporting.uncertainty import Uncertainty, uncertainty

BINS = 80

TEMPERATURES = tuple(float(2.0 ** (step / 3)) for step in range(-6, 10))
"""From 1/4 to 8, three to each doubling; 1 is that of the scorer."""


@dataclass(frozen=True)
class WeightSize:
    """What carries the weights of a temperature: effective rows and episodes."""

    temperature: float
    rows: float
    episodes: float


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report shows.

    Attributes:
        bin_rows, bin_edges: histogram of the scores of all rows, (bins,) and (bins + 1,).
        episodes: of ``episode_frame``, a row for each.
        courses: scores along some episodes, the best first.
        outcomes: of episodes that succeed or fail, where rewards say no more; else None.
        correlations: the score first, then the plain signals beside it.
        confounds: of the score, with facts about episodes.
        groups: None where all episodes are of one.
        before: all rows.
        keeping: what filters would keep.
        projection: of observations; or in words, why there is none.
        weights: by temperature.
        uncertainty: where the members disagree; None for one member.
        curves: training metrics, one row per log interval; None for an applied scorer.
        evaluations: what ``eval`` measured, by the rule of the curated data.
        comparison: with another run, where that was asked for.
        warnings: in plain words.
    """

    bin_rows: Array
    bin_edges: Array
    episodes: pl.DataFrame
    courses: list[Course]
    outcomes: Outcomes | None
    correlations: list[Correlation]
    confounds: list[Confound]
    groups: Groups | None
    before: Summary
    keeping: Keeping
    projection: Projection | str
    weights: list[WeightSize]
    uncertainty: Uncertainty | None
    curves: pl.DataFrame | None
    manifest: dict[str, Any]
    evaluations: dict[str, Any]
    comparison: Comparison | None
    warnings: list[str]


def report_facts(
    scores: ScoreTable,
    manifest: dict[str, Any],
    curves: pl.DataFrame | None,
    evaluations: dict[str, Any],
    *,
    observations: ObservationSample | str = "the dataset was not read",
    grouping: Grouping | None = None,
    comparison: Comparison | None = None,
) -> ReportFacts:
    """Compute the facts of a report on a scored dataset; the scores are all that most of them take.

    Args:
        observations: of some rows; or in words, why there are none.
        grouping: of the episodes; None for one group.
    """
    candidates = Candidates.scored(scores)
    score, mean = candidates.value, episode_means(candidates, candidates.value)
    outcomes = outcomes_of(candidates, scores, mean)
    kept = keeping(candidates)
    frame = episode_frame(
        candidates,
        scores,
        kept,
        succeeded=None if outcomes is None else outcomes.succeeded,
        grouping=grouping,
    )
    correlations, relations = episode_correlations(candidates, scores, outcomes), confounds(frame, outcomes)
    bin_rows, bin_edges = np.histogram(score, bins=BINS)
    return ReportFacts(
        bin_rows=bin_rows,
        bin_edges=bin_edges,
        episodes=frame,
        courses=courses(candidates, mean),
        outcomes=outcomes,
        correlations=correlations,
        confounds=relations,
        groups=None if grouping is None else groups_of(frame, grouping, candidates),
        before=summarize(candidates.episode_start, candidates.episode_return, np.ones(len(score), bool)),
        keeping=kept,
        projection=_projection(candidates, kept, observations),
        weights=[_weight_size(candidates, temperature) for temperature in TEMPERATURES],
        uncertainty=uncertainty(candidates, scores),
        curves=curves,
        manifest=manifest,
        evaluations=evaluations,
        comparison=comparison,
        warnings=[
            *(sign["text"] for sign in manifest["warnings"]),
            *signs(score, mean, outcomes, correlations[0], relations),
        ],
    )


def _projection(
    candidates: Candidates, kept: Keeping, observations: ObservationSample | str
) -> Projection | str:
    if isinstance(observations, str):
        return observations
    episode = np.searchsorted(candidates.episode_start, observations.row, side="right") - 1
    found = project(observations, kept.row_share[observations.row], kept.episode_share[episode])
    return "all observations are equal" if found is None else found


def _weight_size(candidates: Candidates, temperature: float) -> WeightSize:
    score, start = candidates.value, candidates.episode_start
    parts = (
        (np.searchsorted(start, np.arange(rows.start, rows.stop), side="right"), score[rows])
        for rows in blocks(len(score))
    )
    episodes = effective_episodes_of_scores(parts, float(score.max()), temperature)
    return WeightSize(temperature, len(score) * sample_share_of_scores(score, temperature), episodes)
