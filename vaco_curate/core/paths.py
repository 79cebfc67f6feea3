"""Paths of consecutive steps in a dataset, and sums along them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import Array, Transitions

NEGLIGIBLE = 1e-9
"""Share of a row below which it no longer counts in a sum."""


LONGEST_PATH = 1_000
"""Steps of a path; longer ones are cut into several."""


@dataclass(frozen=True)
class Paths:
    """Paths of consecutive steps, over rows that lie one after the other.

    Attributes:
        start: (paths,) first row, ascending.
        length: (paths,) rows.
    """

    start: Array
    length: Array

    @classmethod
    def of(cls, data: Transitions, longest: int) -> Paths:
        """All paths of a dataset.

        Args:
            longest: paths of more steps are cut into several of about the same length.
        """
        natural = data.path_start
        lengths = np.diff(np.append(natural, len(data)))
        pieces = -(-lengths // longest)
        piece = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = np.repeat(natural, pieces) + piece * np.repeat(lengths, pieces) // np.repeat(pieces, pieces)
        return cls(start, np.diff(np.append(start, len(data))))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def last(self) -> Array:
        """(paths,) last row."""
        return self.start + self.length - 1

    def take(self, chosen: Array) -> Paths:
        """The given paths; rows keep their numbers."""
        return Paths(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def drawn(self, rows: int) -> Paths:
        """Paths drawn without replacement, of about as many rows as wanted; all where there are no more."""
        if self.length.sum() <= rows:
            return self
        order = np.random.default_rng(0).permutation(len(self))
        count = max(1, int(np.searchsorted(np.cumsum(self.length[order]), rows, side="right")))
        return self.take(np.sort(order[:count]))

    def rows(self) -> Array:
        """Numbers of their rows, path after path."""
        begin = np.cumsum(self.length) - self.length
        return np.asarray(np.arange(self.length.sum()) + np.repeat(self.start - begin, self.length))

    def packed(self) -> Paths:
        """The same paths over ``rows()`` as rows of their own."""
        return Paths(np.cumsum(self.length) - self.length, self.length)

    def behind(self, values: Array, scale: float) -> Array:
        """What lies behind each row, sum_{k>=1} exp(-k / scale) values_{t-k} along its path.

        Args:
            values: (n,), rows of ``packed`` paths.
            scale: in steps; infinite for a plain sum.

        Returns:
            (n,) float64. A path's sums do not depend on other paths, to the last bit.
        """
        return self._sums(values, scale, forward=True)

    def ahead(self, values: Array, scale: float) -> Array:
        """What lies ahead of each row, sum_{k>=1} exp(-k / scale) values_{t+k}; as ``behind``."""
        return self._sums(values[::-1], scale, forward=False)[::-1]

    def _sums(self, values: Array, scale: float, *, forward: bool) -> Array:
        """By doubling: a sum over 2^j steps and that of the 2^j steps before make one over 2^(j+1)."""
        length = self.length if forward else self.length[::-1]
        before = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        decay = float(np.exp(-1.0 / scale))
        total = np.where(before >= 1, np.roll(decay * values.astype(np.float64), 1), 0.0)
        step, factor, longest = 1, decay, int(length.max())
        while step < longest and factor > NEGLIGIBLE:
            total[step:] += np.where(before[step:] > step, factor * total[:-step], 0.0)
            step, factor = 2 * step, factor * factor
        return total
