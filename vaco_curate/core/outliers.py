"""Single numbers so far from all others that they may be errors: one of them can spoil a training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vaco_curate.core.transitions import Array, Transitions, blocks

USUAL = 0.998
"""Share of the rows whose values are usual: those between two quantiles, of which either side leaves half."""
FAR = 30.0
"""Distance from the usual values, in ranges of them, from which a number is an outlier; 1.3 is the largest in
recorded Hopper, HalfCheetah, Walker2d, LunarLander and PointMaze data."""
SAMPLE = 1 << 18
"""Rows from which quantiles are taken, evenly spread."""


def outliers(data: Transitions) -> list[str]:
    """One sentence for every column of the dataset that holds an outlier, with the row of the farthest."""
    return [
        f"row {data.first_row + row:,}: {name} is {value:g}, but {USUAL:.1%} of the rows have {low:g} to "
        f"{high:g}. If this is an error, remove the row or correct it: one such number can spoil a training"
        for name, column in _columns(data)
        for row, value, low, high in _farthest(column)
    ]


def _columns(data: Transitions) -> Iterator[tuple[str, Array]]:
    yield "the reward", data.reward
    for name, values in (("observation", data.observation), ("action", data.action)):
        for number in range(values.shape[1]):
            yield f"{name}[{number}]", values[:, number]


def _farthest(column: Array) -> list[tuple[int, float, float, float]]:
    """(row, value, usual lowest, usual highest) of the farthest value, if that is an outlier."""
    sample = np.asarray(column[:: max(1, len(column) // SAMPLE)], np.float64)
    low = float(np.quantile(sample, (1 - USUAL) / 2, method="higher"))  # between rows, so that a single one
    high = float(np.quantile(sample, (1 + USUAL) / 2, method="lower"))  # among a few hundred moves neither
    if low >= high:
        return []
    row, distance = 0, 0.0
    for part in blocks(len(column)):
        values = np.asarray(column[part], np.float64)
        away = np.maximum(values - high, low - values)
        here = int(away.argmax())
        if away[here] > distance:
            row, distance = part.start + here, float(away[here])
    return [(row, float(column[row]), low, high)] if distance > FAR * (high - low) else []
