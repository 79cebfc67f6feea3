"""What a selection changes: the facts of the before/after table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.curation.candidates import Candidates
from vaco_curate.curation.selection import Selection, means_of
from vaco_curate.curation.weights import effective_sample_share

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Summary:
    """Size and quality of a weighted dataset.

    Attributes:
        rows, episodes: with a weight above zero.
        return_mean: mean episode return; an episode counts by the mean weight of its rows, so that
            every episode counts alike before a selection, and by the share kept after a filter.
        return_quantiles: of the same distribution, at ``QUANTILES``.
        effective_sample_size: rows that carry the weight, (sum w)^2 / sum w^2.
        effective_episodes: episodes that carry it, the same of the sum over each.
    """

    rows: int
    episodes: int
    return_mean: float
    return_quantiles: tuple[float, ...]
    effective_sample_size: float
    effective_episodes: float


def summarize(episode_start: Array, episode_return: Array, weight: Array) -> Summary:
    """The summary of a dataset under row weights.

    Args:
        episode_start, episode_return: (episodes,).
        weight: (n,) numbers, or bools for kept and dropped.
    """
    per_episode, lengths = means_of(episode_start, weight), np.diff(np.append(episode_start, len(weight)))
    order = np.argsort(episode_return, kind="stable")
    share = np.cumsum(per_episode[order]) / per_episode.sum()
    positions = np.minimum(np.searchsorted(share, QUANTILES), len(order) - 1)
    rows = int(np.count_nonzero(weight))
    return Summary(
        rows=rows,
        episodes=int((per_episode > 0).sum()),
        return_mean=float(np.average(episode_return, weights=per_episode)),
        return_quantiles=tuple(float(value) for value in episode_return[order][positions]),
        effective_sample_size=effective_sample_share(weight) * len(weight),
        effective_episodes=effective_sample_share(per_episode * lengths) * len(lengths),
    )


def before_and_after(candidates: Candidates, selection: Selection) -> tuple[Summary, Summary]:
    """Summaries of all rows with equal weights, and of the selection."""
    episodes = candidates.episode_start, candidates.episode_return
    weight = selection.keep if selection.weight is None else selection.weight
    return summarize(*episodes, np.ones(len(candidates), bool)), summarize(*episodes, weight)
