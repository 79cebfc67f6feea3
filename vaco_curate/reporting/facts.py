"""The facts of a report: computed here, rendered in ``html``."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import torch

from vaco_curate.core.losses import advantage_weight
from vaco_curate.core.rewards import EQUAL
from vaco_curate.core.transitions import Array
from vaco_curate.curation import (
    EPISODE,
    TRANSITION,
    Candidates,
    Cut,
    Level,
    Summary,
    before_and_after,
    episode_means,
    select,
    summarize,
)
from vaco_curate.data.scores import ScoreTable
from vaco_curate.errors import SettingsError
from vaco_curate.reporting.outcomes import Outcomes, area_under_curve, outcomes_of
from vaco_curate.reporting.uncertainty import Uncertainty, uncertainty

SHARES = (10, 25, 50)
FEW_EPISODES = 20
WEAK_CORRELATION = 0.3


@dataclass(frozen=True)
class Correlation:
    """How an episode's mean of a signal goes with its return; None where either is constant.

    Attributes:
        auc: how often a success has a higher mean than a failure, where episodes have outcomes.
    """

    signal: str
    pearson: float | None
    spearman: float | None
    auc: float | None = None


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report shows.

    Attributes:
        score: (n,) of every row.
        episode_score, episode_return: (episodes,).
        outcomes: of episodes that succeed or fail, where rewards say no more; else None.
        correlations: the score first, then the plain signals beside it.
        before: all rows.
        kept: (label, summary) of the best shares, at transition and at episode level; None where the
            best episode alone is larger than the share.
        evaluations: what ``eval`` measured, by the rule of the curated data.
        uncertainty: where the members disagree; None for one member.
        curves: training metrics, one row per log interval; None for an applied scorer.
        warnings: in plain words.
    """

    score: Array
    episode_id: Array
    episode_score: Array
    episode_return: Array
    episode_length: Array
    outcomes: Outcomes | None
    correlations: list[Correlation]
    before: Summary
    kept: list[tuple[str, Summary | None]]
    uncertainty: Uncertainty | None
    curves: pl.DataFrame | None
    manifest: dict[str, Any]
    evaluations: dict[str, Any]
    warnings: list[str]


def report_facts(
    scores: ScoreTable,
    manifest: dict[str, Any],
    curves: pl.DataFrame | None,
    evaluations: dict[str, Any],
) -> ReportFacts:
    """Compute the facts of a report on a scored dataset; the scores are all that it takes."""
    candidates = Candidates.scored(scores)
    score = candidates.value
    episode_score = episode_means(candidates, score)
    outcomes = outcomes_of(candidates, scores, episode_score)
    correlations = episode_correlations(candidates, scores, outcomes)
    kept = [
        (f"top {share} % of {level}s", _kept_by(candidates, share, level))
        for level in (TRANSITION, EPISODE)
        for share in SHARES
    ]
    return ReportFacts(
        score=score,
        episode_id=candidates.episode_id,
        episode_score=episode_score,
        episode_return=candidates.episode_return,
        episode_length=candidates.episode_length,
        outcomes=outcomes,
        correlations=correlations,
        before=summarize(candidates.episode_start, candidates.episode_return, np.ones(len(score), bool)),
        kept=kept,
        uncertainty=uncertainty(candidates, scores),
        curves=curves,
        manifest=manifest,
        evaluations=evaluations,
        warnings=[*manifest["warnings"], *_warnings(candidates, outcomes, correlations[0])],
    )


def _kept_by(candidates: Candidates, share: int, level: Level) -> Summary | None:
    try:
        selection = select(candidates, Cut(share=Fraction(share, 100)), level)
    except SettingsError:
        return None
    return before_and_after(candidates, selection)[1]


def episode_correlations(
    candidates: Candidates, scores: ScoreTable, outcomes: Outcomes | None
) -> list[Correlation]:
    """How episode means go with returns or outcomes: of the scores, and of other signals beside them."""
    advantage, vaco_score = scores.column("advantage"), scores.column("vaco_score")
    scaled = torch.from_numpy(advantage * scores.reward_scale)
    signals = {
        "score": scores.column("score"),
        "Q(s, a)": scores.column("q_value"),
        "advantage Q - V": advantage,
        "AWR weight": advantage_weight(scaled).numpy(),
    }
    if not np.isnan(vaco_score).any():
        signals["vaco_score"] = vaco_score
    means = {name: episode_means(candidates, values) for name, values in signals.items()}
    return [
        Correlation(
            name,
            *_correlate(mean, candidates.episode_return),
            None if outcomes is None else area_under_curve(outcomes.succeeded, mean),
        )
        for name, mean in means.items()
    ]


def _correlate(left: Array, right: Array) -> tuple[float | None, float | None]:
    if len(left) < 2 or any(np.ptp(values) <= EQUAL * np.abs(values).max() for values in (left, right)):
        return None, None
    frame = pl.DataFrame({"left": left, "right": right})
    pearson, spearman = frame.select(
        pearson=pl.corr("left", "right"), spearman=pl.corr("left", "right", method="spearman")
    ).row(0)
    return float(pearson), float(spearman)


def _warnings(candidates: Candidates, outcomes: Outcomes | None, correlation: Correlation) -> list[str]:
    warnings = []
    episodes = len(candidates.episode_start)
    if episodes < FEW_EPISODES:
        warnings.append(f"only {episodes} episodes: too few for a reliable correlation with the return")
    if outcomes is not None:
        return warnings  # the run has those on outcomes
    if correlation.spearman is None:
        warnings.append(
            "all episodes have the same return or the same mean score: their correlation is undefined"
        )
    elif correlation.spearman < 0:
        warnings.append(
            f"episodes with higher returns tend to have lower scores (Spearman {correlation.spearman:.2f}): "
            "do not filter by these scores unless you care about something other than the return"
        )
    elif correlation.spearman < WEAK_CORRELATION:
        warnings.append(
            f"the scores hardly correlate with the returns (Spearman {correlation.spearman:.2f}). "
            "This can be right where good data earns no reward of its own, as in stitching tasks. "
            "Elsewhere it suggests that the scores are wrong"
        )
    return warnings
