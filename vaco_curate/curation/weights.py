"""Scores to weights of mean 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array, blocks
from vaco_curate.curation.candidates import Candidates
from vaco_curate.curation.ordering import ranks
from vaco_curate.curation.selection import Selection
from vaco_curate.errors import SettingsError

SMALLEST = 1e-30
"""Smallest weight relative to the largest: above zero also as float32, for a weight of zero drops a row."""


def weights_from_scores(score: Array, temperature: float) -> Array:
    """(n,) float64 weights of mean 1, proportional to w ** (1 / temperature), none of them zero.

    Args:
        score: (n,) log w, up to a constant.
        temperature: 1 keeps the scorer's weights; larger is closer to uniform.
    """
    largest, weight = float(score.max()), np.empty(len(score))
    for rows in blocks(len(score)):
        weight[rows] = _over_largest(score[rows], largest, temperature)
    weight /= weight.mean()
    return weight


def _over_largest(score: Array, largest: float, temperature: float) -> Array:
    """(n,) float64 weights over that of the largest score, at least ``SMALLEST``."""
    scaled = (score.astype(np.float64) - largest) / temperature
    return np.asarray(np.exp(np.maximum(scaled, math.log(SMALLEST))))


def clipped_weights(weight: Array, maximum: float) -> Array:
    """min(c * weight, maximum) with c such that the mean is 1 again: nothing exceeds the maximum.

    With k weights clipped, c scales the others to fill the rest. Clipping those that exceed the maximum raises
    c, by which others may come to exceed it: k grows until it does not.

    Args:
        weight: (n,) positive, mean 1.
        maximum: above 1.
    """
    factor, count = 1.0, 0
    while True:
        clipped = factor * weight > maximum
        if int(clipped.sum()) == count:
            return np.asarray(np.minimum(factor * weight, maximum))
        count = int(clipped.sum())
        factor = (len(weight) - count * maximum) / weight.sum(where=~clipped)


def effective_sample_share(weight: Array) -> float:
    """(sum w)^2 / (n sum w^2) of non-negative weights, in (0, 1]; Kish's effective sample size over n."""
    return _sample_share((weight[rows] for rows in blocks(len(weight))), len(weight))


def sample_share_of_scores(score: Array, temperature: float = 1.0) -> float:
    """The effective sample share of the weights of scores, which are not held for it."""
    largest = float(score.max())
    parts = (_over_largest(score[rows], largest, temperature) for rows in blocks(len(score)))
    return _sample_share(parts, len(score))


def effective_episodes_of_scores(
    parts: Iterable[tuple[Array, Array]], largest: float, temperature: float = 1.0
) -> float:
    """Effective number of episodes that carry the weights of scores; some rows at a time.

    Args:
        parts: (episode_id, score) of rows that lie one after the other, the rows of an episode together.
        largest: of all scores.
    """
    return float(_effective_episodes((ids, _over_largest(score, largest, temperature)) for ids, score in parts))


def effective_episodes_of_best(
    parts: Iterable[tuple[Array, Array]], score: Array, shares: Sequence[int]
) -> list[float]:
    """Effective number of episodes that the best rows come from, for several shares; some rows at a time.

    Args:
        parts: as for ``effective_episodes_of_scores``.
        score: (n,) all of them.
        shares: in percent of the rows, rounded up; of equal scores the first rows are taken.
    """
    rows = len(score)
    counts = np.array([-(-share * rows // 100) for share in shares])
    lowest = np.partition(score, rows - counts)[rows - counts]
    left = counts - np.array([np.count_nonzero(score > least) for least in lowest])

    def kept() -> Iterator[tuple[Array, Array]]:
        for episode_id, part in parts:
            tied = part == lowest[:, None]
            taken = tied & (np.cumsum(tied, axis=1) <= left[:, None])
            left[:] -= taken.sum(axis=1)
            yield episode_id, ((part > lowest[:, None]) | taken).astype(np.float64)

    found: list[float] = _effective_episodes(kept()).tolist()
    return found


def _effective_episodes(parts: Iterable[tuple[Array, Array]]) -> Array:
    """Effective numbers of episodes that carry weights, (...,).

    Args:
        parts: (episode_id, weight) of rows that lie one after the other, (rows,) and (..., rows).
    """
    total: Any = 0.0
    squares: Any = 0.0
    carried: Any = 0.0
    last: int | None = None
    for episode_id, weight in parts:
        start = np.concatenate([[0], np.flatnonzero(np.diff(episode_id)) + 1])
        sums = np.add.reduceat(weight, start, axis=-1)
        if last == int(episode_id[0]):
            sums[..., 0] += carried
        else:
            total, squares = total + carried, squares + carried**2
        inner = sums[..., :-1]
        total, squares = total + inner.sum(axis=-1), squares + np.square(inner).sum(axis=-1)
        carried, last = sums[..., -1].copy(), int(episode_id[-1])
    return np.asarray((total + carried) ** 2 / (squares + carried**2))


def _sample_share(parts: Iterable[Array], count: int) -> float:
    total = squares = 0.0
    for weight in parts:
        total += float(weight.sum(dtype=np.float64))
        squares += float(np.square(weight, dtype=np.float64).sum())
    return total**2 / (count * squares)


def reweight(candidates: Candidates, *, temperature: float, maximum: float | None) -> tuple[Selection, float]:
    """Keep every row with a weight of mean 1.

    Args:
        candidates: by their score, log w up to a constant.
        temperature: see ``weights_from_scores``.
        maximum: largest weight allowed, ``None`` for no clip.

    Returns:
        The selection, and the effective sample share before clipping.

    Raises:
        SettingsError: a temperature or a maximum out of range.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise SettingsError(
            f"--temperature {temperature:g} must be above 0", fix="1 keeps the scorer's weights"
        )
    if maximum is not None and not maximum > 1:
        raise SettingsError(f"--clip {maximum:g} must be above 1, the mean of the weights")
    weight = weights_from_scores(candidates.value, temperature)
    before = effective_sample_share(weight)
    rule = f"weights at temperature {temperature:g}"
    if maximum is not None:
        weight, rule = clipped_weights(weight, maximum), f"{rule}, clipped at {maximum:g}"
    count = len(weight)
    keep, reason = np.ones(count, bool), np.zeros(count, np.uint8)
    return Selection(keep, weight, reason, ranks(candidates.value), rule, None), before
