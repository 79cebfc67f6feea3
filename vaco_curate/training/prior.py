"""The prior over rows that regularizes the upper level: uniform, or the promise a path has kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vaco_curate.transitions import Array, Transitions

LARGEST_RANGE = 20.0
"""Largest difference of log priors, in nats."""


@dataclass(frozen=True)
class Paths:
    """Rows in paths of consecutive steps.

    Attributes:
        start: first row of each path, ascending.
        terminated, has_successor: (n,) bool, as in ``Transitions``.
    """

    start: Array
    terminated: Array
    has_successor: Array

    @classmethod
    def of(cls, data: Transitions) -> Paths:
        """All paths of a dataset."""
        return cls(data.path_start, data.terminated, data.has_successor)

    def sample(self, rows: int) -> tuple[Paths, Array]:
        """Whole paths spread evenly over the dataset, about ``rows`` rows in all, and their row numbers."""
        lengths = np.diff(np.append(self.start, len(self.terminated)))
        wanted = max(1, round(len(self.start) * min(1.0, rows / lengths.sum())))
        chosen = np.unique(np.linspace(0, len(self.start) - 1, wanted).round().astype(np.int64))
        kept = np.concatenate([np.arange(self.start[i], self.start[i] + lengths[i]) for i in chosen])
        start = np.concatenate([[0], np.cumsum(lengths[chosen])[:-1]])
        return Paths(start, self.terminated[kept], self.has_successor[kept]), kept


def kept_promise(
    paths: Paths, reward: Array, value: Array, next_value: Array, *, discount: float, look_ahead: int
) -> Array:
    """What a row's path has earned and still promises, less what was promised at its start.

    For step t of a path from s_0, read ``look_ahead`` steps later (at u, at most the path's end):

        sum_{k<u} discount^k r_k + discount^u V(s_u) - V(s_0),

    the discounted sum of the TD errors up to u. V is an upper expectile over all behaviors in the
    data, so where behaviors part from common states, this falls for bad ones and is kept by good ones; it
    says whether a good policy comes to a state at all, which alignments within a state cannot.

    Args:
        reward: (n,) scaled.
        value, next_value: (n,) V(s) and V(s'), the latter unused where the row has no successor.

    Returns:
        (n,) float64, in scaled reward units.

    Source: ours (docs/method.md); telescoped n-step advantage from the start of the path.
    """
    result = np.empty(len(reward))
    for start, end in zip(paths.start, np.append(paths.start[1:], len(reward)), strict=True):
        rows = slice(start, end)
        length = end - start
        discounts = discount ** np.arange(length + 1, dtype=np.float64)
        earned = np.concatenate([[0.0], np.cumsum(discounts[:-1] * reward[rows])])
        ahead = np.append(value[rows], next_value[end - 1]).astype(np.float64)
        reached = length
        if paths.terminated[end - 1]:
            ahead[-1] = 0.0
        elif not paths.has_successor[end - 1]:
            reached = length - 1
        kept = earned + discounts * ahead - ahead[0]
        result[rows] = kept[np.minimum(np.arange(length) + look_ahead, reached)]
    return result


def log_prior_with_sample_size(signal: Array, sample_size: float) -> Array:
    """log rho = signal / T with T such that rho has the wanted effective sample size.

    The scale of a prior is then the same for every dataset, whatever the size and sign of rewards,
    and its weights cannot collapse. Where so many rows tie for the best that no T gives a sample size
    as small as the wanted one, T is bounded by ``LARGEST_RANGE``.

    Args:
        signal: (n,) larger is better.
        sample_size: wanted effective sample size as a share of n, in (0, 1).

    Returns:
        (n,) float64, of maximum 0; all zeros when the signal is constant.
    """
    centered = signal - signal.max()
    spread = centered.std()
    if spread == 0.0:
        return np.zeros_like(centered)
    low, high = 1e-6 / spread, LARGEST_RANGE / np.ptp(centered)
    for _ in range(60):
        middle = np.sqrt(low * high)
        weight = np.exp(middle * centered)
        if weight.sum() ** 2 / (len(weight) * np.square(weight).sum()) > sample_size:
            low = middle
        else:
            high = middle
    return np.asarray(low * centered)
