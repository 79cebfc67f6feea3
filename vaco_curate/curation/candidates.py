"""What a selection decides on: a few numbers for every row, whatever the width of the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.scores import ScoreTable

By = Literal["score", "vaco_score", "q_value", "advantage", "return", "random"]
"""What rows can be ordered by, the larger the better: scores, the return of a row's episode, or chance."""

ORDERS: tuple[By, ...] = get_args(By)


@dataclass(frozen=True)
class Candidates:
    """The rows that a selection chooses among.

    Attributes:
        value: (n,) floats, larger is better.
        by: what the values are, in words.
        episode_start: (episodes,) first row of each.
        episode_return: (episodes,) float64.
        episode_id: (episodes,) int64.
        goes_on: (n,) bool, whether the next row is the next step of the same episode, with nothing missing.
        group: (n,) numbers of groups that are cut alike each for itself, None where all rows are one group.
    """

    value: Array
    by: str
    episode_start: Array
    episode_return: Array
    episode_id: Array
    goes_on: Array
    group: Array | None = None

    def __len__(self) -> int:
        return len(self.value)

    @cached_property
    def episode_length(self) -> Array:
        """(episodes,) rows of each."""
        return np.diff(np.append(self.episode_start, len(self)))

    @cached_property
    def by_return(self) -> Array:
        """(episodes,) their numbers, the lowest return first."""
        return np.argsort(self.episode_return, kind="stable")

    @classmethod
    def of(cls, data: Transitions, value: Array, by: str = "score") -> Candidates:
        """The rows of a dataset in memory, with a value for each, (n,)."""
        goes_on = np.append(data.goes_on, False)
        identity = data.episode_id[data.episode_start]
        return cls(value, by, data.episode_start, data.episode_return, identity, goes_on)

    @classmethod
    def scored(
        cls, scores: ScoreTable, by: By = "score", *, group: Array | None = None, seed: int = 0
    ) -> Candidates:
        """The rows of a scored dataset.

        Args:
            group: as the attribute.
            seed: of the order by chance.
        """
        count, row = len(scores), 0
        goes_on = np.zeros(count, bool)
        starts, returns, ids = [], [], []
        value = np.empty(count, np.float64 if by == "return" else np.float32)
        names = ["episode_id", "reward", "goes_on", *([by] if by in scores.columns else [])]
        for columns in scores.pieces(names):
            rows = slice(row, row + len(columns["reward"]))
            start = np.concatenate([[0], np.flatnonzero(np.diff(columns["episode_id"])) + 1])
            earned = np.add.reduceat(columns["reward"], start)
            goes_on[rows] = columns["goes_on"]
            starts.append(row + start)
            returns.append(earned)
            ids.append(columns["episode_id"][start])
            if by == "random":
                value[rows] = chance(np.arange(rows.start, rows.stop), seed)
            elif by == "return":
                value[rows] = np.repeat(earned, np.diff(np.append(start, rows.stop - row)))
            else:
                value[rows] = columns[by]
            row = rows.stop
        start, earned, identity = (np.concatenate(parts) for parts in (starts, returns, ids))
        return cls(value, by, start, earned, identity, goes_on, group)


def chance(row: Array, seed: int) -> Array:
    """(n,) float32 in [0, 1) that depend on the row number and the seed alone, whatever rows lie beside.

    Source: the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
    """
    own = np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    state = (row.astype(np.uint64) + own) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((state ^ (state >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
