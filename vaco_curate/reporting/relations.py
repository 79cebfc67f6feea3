"""What scores go with: returns and outcomes, as they should, or length, time and group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from vaco_curate.core.losses import advantage_weight
from vaco_curate.core.rewards import EQUAL
from vaco_curate.core.transitions import Array
from vaco_curate.curation import Candidates, episode_means
from vaco_curate.data.scores import ScoreTable
from vaco_curate.reporting.episodes import Grouping
from vaco_curate.reporting.outcomes import Outcomes, area_under_curve

LISTED_GROUPS = 15
"""Groups that are listed, the largest first."""


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
class Confound:
    """How the mean score of an episode goes with a fact about it; None where either is constant."""

    name: str
    pearson: float | None
    spearman: float | None


@dataclass(frozen=True)
class Groups:
    """Scores by group.

    Attributes:
        name: what groups are.
        explained: share of the variance of mean scores between groups, in [0, 1]; None where all are equal.
        table: ``group``, ``episodes``, ``rows``, ``return`` and ``score`` (means of its episodes, or of its
            rows); the largest groups, at most ``LISTED_GROUPS``.
        count: of all groups.
        of_rows: whether rows are grouped, for episodes have rows of several groups; then ``explained`` is of
            the scores of rows, too.
    """

    name: str
    explained: float | None
    table: pl.DataFrame
    count: int
    of_rows: bool = False


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
            *correlate(mean, candidates.episode_return),
            None if outcomes is None else area_under_curve(outcomes.succeeded, mean),
        )
        for name, mean in means.items()
    ]


def correlate(left: Array, right: Array) -> tuple[float | None, float | None]:
    """Pearson's and Spearman's correlation, (n,) with (n,); None where either is constant."""
    if len(left) < 2 or any(np.ptp(values) <= EQUAL * np.abs(values).max() for values in (left, right)):
        return None, None
    frame = pl.DataFrame({"left": left, "right": right})
    pearson, spearman = frame.select(
        pearson=pl.corr("left", "right"), spearman=pl.corr("left", "right", method="spearman")
    ).row(0)
    return float(pearson), float(spearman)


def confounds(frame: pl.DataFrame, outcomes: Outcomes | None) -> list[Confound]:
    """Of the mean score with the return, the length and the place in the dataset.

    Args:
        frame: of ``episode_frame``.
        outcomes: where there are some, returns say no more than they do, and are left out.
    """
    facts = {"return": "return", "length": "length", "order of recording": "order"}
    if outcomes is not None:
        del facts["return"]
    score = frame["score"].to_numpy()
    return [
        Confound(name, *correlate(score, frame[column].to_numpy().astype(np.float64)))
        for name, column in facts.items()
    ]


def groups_of(frame: pl.DataFrame, grouping: Grouping, candidates: Candidates) -> Groups:
    """Scores by group: of episodes, or of rows where an episode has rows of several groups.

    Args:
        frame: of ``episode_frame``.
    """
    if grouping.row_group is not None:
        return _groups_of_rows(grouping, candidates)
    table = (
        frame.group_by("group")
        .agg(
            pl.len().alias("episodes"),
            pl.col("length").sum().alias("rows"),
            pl.col("return").mean(),
            pl.col("score").mean(),
        )
        .sort("episodes", "group", descending=[True, False])
    )
    return Groups(grouping.name, _explained(frame), table.head(LISTED_GROUPS), len(table))


def _groups_of_rows(grouping: Grouping, candidates: Candidates) -> Groups:
    episode = np.repeat(np.arange(len(candidates.episode_start)), candidates.episode_length)
    frame = pl.DataFrame(
        {
            "group": np.array(grouping.labels)[grouping.row_group],
            "episode": episode,
            "return": candidates.episode_return[episode],
            "score": candidates.value,
        }
    )
    table = (
        frame.group_by("group")
        .agg(
            pl.col("episode").n_unique().alias("episodes"),
            pl.len().alias("rows"),
            pl.col("return").mean(),
            pl.col("score").cast(pl.Float64).mean(),
        )
        .sort("rows", "group", descending=[True, False])
    )
    return Groups(grouping.name, _explained(frame), table.head(LISTED_GROUPS), len(table), of_rows=True)


def _explained(frame: pl.DataFrame) -> float | None:
    """The correlation ratio: variance of the means of groups over that of the scores."""
    score = frame["score"].to_numpy()
    if np.ptp(score) <= EQUAL * np.abs(score).max():
        return None
    expected = frame.select(pl.col("score").mean().over("group"))["score"].to_numpy()
    return float(expected.var() / score.var())
