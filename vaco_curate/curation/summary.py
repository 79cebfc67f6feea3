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
    lengths = np.diff(np.append(episode_start, len(weight)))
    rows, size = int(np.count_nonzero(weight)), effective_sample_share(weight) * len(weight)
    by_return = np.argsort(episode_return, kind="stable")
    return _summary(means_of(episode_start, weight), lengths, episode_return, by_return, rows, size)


def summary_of_kept(candidates: Candidates, kept: Array) -> Summary:
    """What ``before_and_after`` says of a filter, by how many rows it keeps of each episode.

    Args:
        kept: (episodes,) whole numbers, not all zero.
    """
    lengths, rows = candidates.episode_length, int(kept.sum())
    return _summary(kept / lengths, lengths, candidates.episode_return, candidates.by_return, rows, float(rows))


def _summary(
    per_episode: Array, lengths: Array, episode_return: Array, by_return: Array, rows: int, size: float
) -> Summary:
    """The summary by the mean weight of each episode's rows; ``by_return`` is the order of the episodes."""
    share = np.cumsum(per_episode[by_return]) / per_episode.sum()
    positions = np.minimum(np.searchsorted(share, QUANTILES), len(by_return) - 1)
    return Summary(
        rows=rows,
        episodes=int((per_episode > 0).sum()),
        return_mean=float(np.average(episode_return, weights=per_episode)),
        return_quantiles=tuple(float(value) for value in episode_return[by_return[positions]]),
        effective_sample_size=size,
        effective_episodes=effective_sample_share(per_episode * lengths) * len(lengths),
    )


def before_and_after(candidates: Candidates, selection: Selection) -> tuple[Summary, Summary]:
    """Summaries of all rows with equal weights, and of the selection."""
    episodes = candidates.episode_start, candidates.episode_return
    weight = selection.keep if selection.weight is None else selection.weight
    return summarize(*episodes, np.ones(len(candidates), bool)), summarize(*episodes, weight)
