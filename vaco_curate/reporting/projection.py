"""Where in the space of observations the kept rows lie: a sample of them in two dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.reporting.keeping import SHARES

SAMPLE_ROWS = 20_000
"""Rows whose observations are looked at."""

SAMPLE_VALUES = 1 << 23
"""Numbers that these rows have at most, where observations are wide; but never fewer than ``FEWEST_ROWS``."""

FEWEST_ROWS = 500

CELLS = 24
"""Cells along each axis of the grid by which coverage is measured."""

EDGE = 0.5
"""Percentile of each axis at which the grid ends; rows beyond lie in its outer cells."""


@dataclass(frozen=True)
class ObservationSample:
    """Observations of some rows.

    Attributes:
        row: (m,) raw row numbers, increasing.
        observation: (m, d) float64.
    """

    row: Array
    observation: Array


@dataclass(frozen=True)
class Projection:
    """The sample along the two directions in which its standardized observations vary most.

    Attributes:
        row: (m,) raw row numbers.
        place: (m, 2), in standard deviations.
        explained: share of the variance along each of the two, in [0, 1].
        by_row, by_episode: (shares,) coverage of filters by rows and by whole episodes: the share of the cells
            with sampled rows in which at least one of them is kept.
    """

    row: Array
    place: Array
    explained: tuple[float, float]
    by_row: list[float]
    by_episode: list[float]


def sample_observations(pieces: Iterable[Transitions], rows: int) -> ObservationSample:
    """Rows drawn evenly from a dataset of so many, in one pass over all of its pieces."""
    chosen: Array | None = None
    numbers, values = [], []
    for piece in pieces:
        if chosen is None:
            most = max(FEWEST_ROWS, SAMPLE_VALUES // piece.observation_size)
            size = min(rows, SAMPLE_ROWS, most)
            chosen = np.sort(np.random.default_rng(0).choice(rows, size, replace=False))
        first, last = np.searchsorted(chosen, [piece.first_row, piece.first_row + len(piece)])
        numbers.append(chosen[first:last])
        values.append(piece.observation[chosen[first:last] - piece.first_row].astype(np.float64))
    return ObservationSample(np.concatenate(numbers), np.concatenate(values))


def project(sample: ObservationSample, row_share: Array, episode_share: Array) -> Projection | None:
    """The projection, by principal components; None where all observations are equal.

    Args:
        row_share, episode_share: (m,) the smallest share, in percent, at which the sampled rows are kept, one
            by one or with their episodes.
    """
    place, explained = _principal(sample.observation)
    if place is None:
        return None
    low, high = np.percentile(place, [EDGE, 100 - EDGE], axis=0)
    scaled = (place - low) / np.where(high > low, high - low, 1.0) * CELLS
    cell = np.clip(scaled, 0, CELLS - 1).astype(np.int64) @ np.array([CELLS, 1])
    by_row, by_episode = (_coverage(cell, share) for share in (row_share, episode_share))
    return Projection(sample.row, place, explained, by_row, by_episode)


def _principal(observation: Array) -> tuple[Array | None, tuple[float, float]]:
    """Coordinates along the first two principal components, (m, 2), and their shares of the variance."""
    deviation = observation.std(axis=0)
    varies = deviation > 1e-9 * np.maximum(1.0, np.abs(observation).max(axis=0))
    if not varies.any():
        return None, (0.0, 0.0)
    standardized = (observation[:, varies] - observation[:, varies].mean(axis=0)) / deviation[varies]
    left, size, _ = np.linalg.svd(standardized, full_matrices=False)
    place = left[:, :2] * size[:2]
    if place.shape[1] == 1:
        place = np.hstack([place, np.zeros_like(place)])
    shares = np.append(np.square(size) / np.square(size).sum(), 0.0)
    return place, (float(shares[0]), float(shares[1]))


def _coverage(cell: Array, share: Array) -> list[float]:
    """By share to keep: of the cells with rows, how many hold a kept one."""
    first = np.full(CELLS * CELLS, 255)
    np.minimum.at(first, cell, share)
    reached = first[np.unique(cell)]
    return [float((reached <= kept).mean()) for kept in SHARES]
