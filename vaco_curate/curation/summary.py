"""What a selection changes: the facts of the before/after table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaco_curate.curation.selection import Selection, episode_means
from vaco_curate.curation.weights import effective_sample_share
from vaco_curate.transitions import Array, Transitions

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
    """

    rows: int
    episodes: int
    return_mean: float
    return_quantiles: tuple[float, ...]
    effective_sample_size: float


def summarize(data: Transitions, weight: Array) -> Summary:
    """The summary of a dataset under row weights, (n,)."""
    per_episode = episode_means(data, weight)
    returns = data.episode_return
    order = np.argsort(returns, kind="stable")
    share = np.cumsum(per_episode[order]) / per_episode.sum()
    positions = np.minimum(np.searchsorted(share, QUANTILES), len(order) - 1)
    kept = weight[weight > 0]
    return Summary(
        rows=len(kept),
        episodes=int((per_episode > 0).sum()),
        return_mean=float(np.average(returns, weights=per_episode)),
        return_quantiles=tuple(float(value) for value in returns[order][positions]),
        effective_sample_size=effective_sample_share(kept) * len(kept),
    )


def before_and_after(data: Transitions, selection: Selection) -> tuple[Summary, Summary]:
    """Summaries of all rows with equal weights, and of the selection."""
    return summarize(data, np.ones(len(data))), summarize(data, selection.weight)
