"""Where the members of a scorer disagree: which scores are uncertain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.curation import Candidates, episode_means
from vaco_curate.data.scores import ScoreTable

SHARES = (10, 25, 50)
BINS = 20
LISTED_EPISODES = 5


@dataclass(frozen=True)
class UncertainCut:
    """How sure a cut is of its rows.

    Attributes:
        share: of the best rows that it keeps, in percent.
        kept, dropped: shares of the kept and of the dropped rows whose score lies within one spread of
            the cut: other seeds may put them on its other side.
    """

    share: int
    kept: float
    dropped: float


@dataclass(frozen=True)
class UncertainEpisode:
    """An episode whose rows the members score most differently."""

    episode_id: int
    length: int
    episode_return: float
    score: float
    score_std: float


@dataclass(frozen=True)
class Uncertainty:
    """The spread of the members' scores.

    Attributes:
        spread: mean ``score_std`` over the deviation of the scores themselves: 0 when all members agree,
            1 when a row's score differs between seeds as much as rows differ.
        cuts: what it means for filters.
        bin_score, bin_std: mean score and spread of rows in equal shares by score, (``BINS``,).
        episodes: those of largest mean spread.
    """

    spread: float
    cuts: list[UncertainCut]
    bin_score: Array
    bin_std: Array
    episodes: list[UncertainEpisode]


def uncertainty(candidates: Candidates, scores: ScoreTable) -> Uncertainty | None:
    """What the members' spread says; None where there was one member, or all scores are equal."""
    score, score_std = scores.column("score"), scores.column("score_std")
    if np.isnan(score_std).any() or np.ptp(score) == 0.0:
        return None
    order = np.argsort(score, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    return Uncertainty(
        spread=float(score_std.mean() / score.std()),
        cuts=[_cut(score, score_std, share) for share in SHARES],
        bin_score=np.array([score[part].mean() for part in bins]),
        bin_std=np.array([score_std[part].mean() for part in bins]),
        episodes=_episodes(candidates, score, score_std),
    )


def _cut(score: Array, score_std: Array, share: int) -> UncertainCut:
    cut = np.percentile(score, 100 - share)
    near, kept = np.abs(score - cut) < score_std, score >= cut
    return UncertainCut(share, float(near[kept].mean()), float(near[~kept].mean()))


def _episodes(candidates: Candidates, score: Array, score_std: Array) -> list[UncertainEpisode]:
    means, spreads = episode_means(candidates, score), episode_means(candidates, score_std)
    most = np.argsort(-spreads, kind="stable")[:LISTED_EPISODES]
    return [
        UncertainEpisode(
            episode_id=int(candidates.episode_id[number]),
            length=int(candidates.episode_length[number]),
            episode_return=float(candidates.episode_return[number]),
            score=float(means[number]),
            score_std=float(spreads[number]),
        )
        for number in most
    ]
