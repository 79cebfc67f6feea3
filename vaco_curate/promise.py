"""The promise that a path keeps, and the prior over rows that is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaco_curate.transitions import BLOCK, Array, Transitions

LARGEST_RANGE = 50.0
"""Largest difference of log priors, in nats: what is worse counts as this much worse."""

LARGEST_RISE = 15.0
"""Largest log prior above that of a path like most others, in nats, to which a sample size may lead."""

LANDMARKS = 2048
"""Paths that others are compared with, drawn from the training data."""

USUAL = (0.025, 0.975)
"""Shares of the rows between which standardized promises count in full."""

PATHS_FROM_ANYWHERE = 5.0
"""Weight of all paths together, in paths as long as those that start nearby: what a start is compared
with where hardly any other path begins."""


@dataclass(frozen=True)
class Paths:
    """Paths of consecutive steps, over rows that lie one after the other.

    Attributes:
        start: (paths,) first row, ascending.
        length: (paths,) rows.
        terminated: (paths,) bool, whether the last row is a true end.
        has_successor: (paths,) bool, whether the state after the last row is known.
    """

    start: Array
    length: Array
    terminated: Array
    has_successor: Array

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
        last = np.append(start[1:], len(data)) - 1
        return cls(start, last - start + 1, data.terminated[last], (data.has_successor & ~data.is_reset)[last])

    def __len__(self) -> int:
        return len(self.start)

    @property
    def last(self) -> Array:
        """(paths,) last row."""
        return self.start + self.length - 1

    def steps(self) -> Array:
        """(paths,) steps that ``kept_promise`` counts: without the last where the state after it is unknown."""
        return self.length - (~self.terminated & ~self.has_successor)

    def exposure(self, discount: float, horizon: int) -> Array:
        """(paths,) discounted steps of a path as a share of those of a horizon: 1 where it ends truly."""
        steps = np.maximum(self.steps(), 1)
        taken, all_steps = (
            (steps, horizon) if discount == 1.0 else (1.0 - discount**steps, 1.0 - discount**horizon)
        )
        return np.where(self.terminated, 1.0, taken / all_steps)

    def take(self, chosen: Array) -> Paths:
        """The given paths; rows keep their numbers."""
        return Paths(*(getattr(self, field.name)[chosen] for field in dataclasses.fields(self)))

    def spread(self, values: Array) -> Array:
        """(..., paths) values of paths -> (..., rows): each row has its path's."""
        return np.repeat(values, self.length, axis=-1)


def kept_promise(
    paths: Paths, reward: Array, first_value: Array, last_value: Array, *, discount: float
) -> Array:
    """What each path has earned and still promises, less what was promised at its start.

    For a path of n steps from s_0 to s_n,

        sum_{k<n} discount^k r_k + discount^n V(s_n) - V(s_0),

    with V(s_n) = 0 after a true end; where the state after the last row is unknown, the path ends one step
    earlier. ``discount`` is that of paths, nearer to one than that of V: V tells where a path leads and what
    was to be had at its start, the path itself what it earned beyond the horizon of V.

    Args:
        reward: (rows,) scaled, of the dataset.
        first_value: V(s_0), (paths,).
        last_value: (paths,), V of the state after the last row, of the last row itself where that is
            unknown; anything after a true end.

    Returns:
        (paths,) float64, in scaled reward units.

    Source: ours (docs/method.md); the n-step advantage of a whole path with a discount of its own.
    """
    earned = np.concatenate([_discounted(some, reward, discount) for some in _some_paths(paths)])
    steps_taken = paths.steps()
    earned -= np.where(steps_taken < paths.length, discount**steps_taken * reward[paths.last], 0.0)
    ahead = np.where(paths.terminated, 0.0, last_value)
    return np.asarray(earned + discount**steps_taken * ahead - first_value)


def _discounted(paths: Paths, reward: Array, discount: float) -> Array:
    """(paths,) discounted sums of rewards."""
    begin = np.cumsum(paths.length) - paths.length
    steps = np.arange(paths.length.sum()) - np.repeat(begin, paths.length)
    rows = steps + np.repeat(paths.start, paths.length)
    return np.asarray(np.add.reduceat(discount**steps * reward[rows].astype(np.float64), begin))


def _some_paths(paths: Paths) -> Iterator[Paths]:
    """Paths in groups of about ``BLOCK`` rows, or one longer path."""
    start, rows = 0, np.concatenate([[0], np.cumsum(paths.length)])
    while start < len(paths):
        stop = max(start + 1, int(np.searchsorted(rows, rows[start] + BLOCK, side="right")) - 1)
        yield paths.take(np.arange(start, stop))
        start = stop


OF_MEMBERS = (
    "promise",
    "usual_low",
    "usual_high",
    "deviation",
    "inverse_temperature",
    "level",
    "lowest",
    "highest",
)
"""Attributes of ``PathPrior`` that each member has its own of."""


@dataclass(frozen=True)
class PathPrior:
    """log rho of a path, for each of K members: how its promise compares with that of paths that start nearby.

    A path is compared with those it could have been: promises are standardized by their local center, the
    mean of the middle third, and by the mean absolute deviation from it. In an environment that always starts
    alike all paths are compared with all others; in a maze, the second half of the way is not set against the
    first. A path whose recording ends before its task does is compared with the share of the center that so
    many steps stand for: what is not recorded counts neither for it nor against it. Unusual promises are
    saturated, lest a few paths rule the scale of all others.

    Attributes:
        discount: of ``kept_promise``.
        longest_path: of ``Paths.of``.
        bandwidth: standard deviation of the Gaussian kernel over the starts, in normalized units of one
            dimension.
        horizon: steps of the longest path it was fitted to.
        start: (landmarks, d) first states, normalized.
        length: (landmarks,) rows of the paths.
        promise: (K, landmarks), for the whole horizon.
        usual_low, usual_high: (K,), standardized promises beyond which others are unusual.
        deviation: (K,), mean absolute standardized promise, the unusual counted as the usual next to them.
        inverse_temperature: (K,), log rho for a standardized promise of one.
        level: (K,), added to log rho, such that rho has mean one over the rows that it was fitted to.
        lowest, highest: (K,), of log rho over those rows; others are kept within.

    Source: ours (docs/method.md); the kernel weights are Nadaraya and Watson's estimate of a
    conditional distribution.
    """

    discount: float
    longest_path: int
    bandwidth: float
    horizon: int
    start: Array
    length: Array
    promise: Array
    usual_low: Array
    usual_high: Array
    deviation: Array
    inverse_temperature: Array
    level: Array
    lowest: Array
    highest: Array

    @classmethod
    def fit(
        cls,
        paths: Paths,
        start: Array,
        promise: Array,
        *,
        sample_size: float,
        plateau: float,
        discount: float,
        longest_path: int,
        bandwidth: float,
    ) -> tuple[PathPrior, Array]:
        """The prior over the rows of a dataset's paths, and log rho of each path, (K, paths).

        Args:
            start: (paths, d), normalized.
            promise: (K, paths) from ``kept_promise``.
            sample_size, plateau: of ``inverse_temperature_for``.
        """
        horizon = int(paths.length.max())
        chosen = np.sort(np.random.default_rng(0).permutation(len(paths))[:LANDMARKS])
        members = len(promise)
        prior = cls(
            discount,
            longest_path,
            bandwidth,
            horizon,
            start=start[chosen].astype(np.float64),
            length=paths.length[chosen].astype(np.float64),
            promise=(promise / paths.exposure(discount, horizon))[:, chosen],
            usual_low=np.zeros(members),
            usual_high=np.zeros(members),
            deviation=np.zeros(members),
            inverse_temperature=np.zeros(members),
            level=np.zeros(members),
            lowest=np.full(members, -np.inf),
            highest=np.full(members, np.inf),
        )
        length = paths.length
        standardized = prior.standardized(paths, start, promise)
        low, high = np.transpose([_usual(values, length) for values in standardized])
        usual = np.clip(standardized, low[:, None], high[:, None])
        deviation = np.average(np.abs(usual), axis=-1, weights=length)
        deviation = np.where(deviation > 0.0, deviation, 1.0)  # 0 where nearly all rows tie
        signals = saturated(standardized, low, high, deviation)
        inverse_temperature = np.array(
            [inverse_temperature_for(signal, length, sample_size, plateau) for signal in signals]
        )
        log_rho = inverse_temperature[:, None] * signals
        highest = log_rho.max(axis=-1)
        log_rho = np.maximum(log_rho, highest[:, None] - LARGEST_RANGE)
        mean = (length * np.exp(log_rho - highest[:, None])).sum(axis=-1) / length.sum()
        level = -highest - np.log(mean)
        log_rho += level[:, None]
        fitted = dataclasses.replace(
            prior,
            usual_low=low,
            usual_high=high,
            deviation=deviation,
            inverse_temperature=inverse_temperature,
            level=level,
            lowest=log_rho.min(axis=-1),
            highest=log_rho.max(axis=-1),
        )
        return fitted, log_rho

    @classmethod
    def joined(cls, priors: Sequence[PathPrior]) -> PathPrior:
        """One prior of all members of several, fitted to the same paths."""
        own: dict[str, Any] = {
            name: np.concatenate([getattr(prior, name) for prior in priors]) for name in OF_MEMBERS
        }
        return dataclasses.replace(priors[0], **own)

    def log_rho(self, paths: Paths, start: Array, promise: Array) -> Array:
        """(K, paths) of paths with the given normalized first states, (paths, d), and promises, (K, paths)."""
        standardized = self.standardized(paths, start, promise)
        signal = saturated(standardized, self.usual_low, self.usual_high, self.deviation)
        log_rho = self.inverse_temperature[:, None] * signal + self.level[:, None]
        return np.asarray(np.clip(log_rho, self.lowest[:, None], self.highest[:, None]))

    def standardized(self, paths: Paths, start: Array, promise: Array) -> Array:
        """Promises less the local center, over the local deviation; (K, paths), 0 where that is 0."""
        exposure = paths.exposure(self.discount, self.horizon)
        orders = [np.argsort(landmark_promise, kind="stable") for landmark_promise in self.promise]
        ascending = [values[order] for values, order in zip(self.promise, orders, strict=True)]
        columns = np.ascontiguousarray(self.start.T)
        result = np.zeros(promise.shape)
        for path, first_state in enumerate(start.astype(np.float64)):  # one by one: others change no bit of it
            weight = self._weight_of_landmarks(first_state, columns)
            for member, (order, values) in enumerate(zip(orders, ascending, strict=True)):
                center, deviation = _center_and_deviation(values, weight[order])
                if deviation > 0.0:
                    result[member, path] = (promise[member, path] - exposure[path] * center) / deviation
        return result

    def _weight_of_landmarks(self, start: Array, columns: Array) -> Array:
        """(landmarks,) of one first state, (d,), summing to one.

        Args:
            columns: first states of the landmarks, (d, landmarks).
        """
        distance = np.zeros(columns.shape[1])
        for own, others in zip(start, columns, strict=True):
            distance += np.square(own - others)
        nearby = np.exp(distance / (-2.0 * len(columns) * self.bandwidth**2))
        weight = self.length * nearby
        count = nearby.sum()
        rows_a_path = weight.sum() / count if count > 1e-12 else self.length.mean()
        weight += PATHS_FROM_ANYWHERE * rows_a_path * self.length / self.length.sum()
        return np.asarray(weight / weight.sum())


def _center_and_deviation(values: Array, weight: Array) -> tuple[float, float]:
    """Mean of the middle third and mean absolute deviation from it, of ascending values by weight.

    Neither the mean and standard deviation, which a few paths from elsewhere with promises of another size
    would rule, nor the median, which jumps from one to the other where two behaviors share the paths equally.
    """
    cumulative = np.cumsum(weight).clip(1 / 3, 2 / 3)
    center = 3.0 * (np.diff(cumulative, prepend=1 / 3) * values).sum()
    deviation = (weight * np.abs(values - center)).sum()
    negligible = deviation <= 1e-9 * max(abs(values[0]), abs(values[-1]))
    return float(center), 0.0 if negligible else float(deviation)


def saturated(standardized: Array, low: Array, high: Array, deviation: Array) -> Array:
    """Standardized promises whose unusual values are drawn to within one deviation of the usual ones.

    z between low and high stays; x deviations above, it becomes high + deviation * x / (1 + x), and likewise
    below: order is kept, and slope where the unusual begins.

    Args:
        standardized: (K, paths).
        low, high: (K,), of the usual values.
        deviation: (K,), positive.
    """
    usual = np.clip(standardized, low[:, None], high[:, None])
    beyond = (standardized - usual) / deviation[:, None]
    return np.asarray(usual + deviation[:, None] * beyond / (1.0 + np.abs(beyond)))


def _usual(values: Array, length: Array) -> tuple[float, float]:
    """Lowest and highest of the usual values of paths, (paths,): a fortieth of the rows, and always the first
    path of more than two, lies below and above.
    """
    order = np.argsort(values, kind="stable")
    rows = np.cumsum(length[order])
    first, last = np.searchsorted(rows, np.multiply(USUAL, rows[-1]))
    second = min(1, (len(values) - 1) // 2)
    low, high = max(first, second), min(last, len(values) - 1 - second)
    return values[order[min(low, high)]], values[order[max(low, high)]]


def inverse_temperature_for(signal: Array, length: Array, sample_size: float, plateau: float) -> float:
    """1 / T such that rho = exp(signal / T) has the wanted effective sample size.

    Where many rows are nearly as good as the best, it has a larger one: T is bounded by ``LARGEST_RISE``, for
    only noise is left to tell the good from the good. Where few rows are far better than all others, T is
    lowered further, until the others do not outweigh them wherever they meet: the sample size then hardly falls
    any more, for it is that of the few. That plateau is looked for down to T / 8, as the first minimum of the
    elasticity -d log(sample size) / d log(1 / T) that is small.

    Args:
        signal: (paths,) larger is better; zero is the center.
        length: (paths,) rows that share a path's signal.
        sample_size: wanted effective sample size as a share of the rows, in (0, 1).
        plateau: largest elasticity of a plateau; 0 looks for none.

    Returns:
        0 when the signal is constant.
    """
    centered = signal - signal.max()
    span = -centered.min()
    if span == 0.0:
        return 0.0

    def share(inverse_temperature: float) -> float:
        weight = np.exp(inverse_temperature * centered)
        total = (length * weight).sum()
        return float(total**2 / (length.sum() * (length * np.square(weight)).sum()))

    above = signal.max()
    low, high = 1e-9 / span, LARGEST_RISE / (above if above > 1e-6 * span else span)
    for _ in range(80):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if share(middle) > sample_size else (low, middle)
    if share(low) > 1.01 * sample_size:
        return float(low)
    candidates = low * 2.0 ** np.arange(0.0, 3.25, 0.25)
    elasticity = -np.gradient(np.log([share(candidate) for candidate in candidates]), np.log(candidates))
    before, here, after = elasticity[:-2], elasticity[1:-1], elasticity[2:]
    found = np.flatnonzero((here <= plateau) & (here < before) & (here <= after))
    return float(candidates[1 + found[0]] if len(found) else low)


def spread_evenly(count: int, wanted: int) -> Array:
    """At most ``wanted`` numbers below ``count``, spread evenly."""
    return np.unique(np.linspace(0, count - 1, min(wanted, count)).round().astype(np.int64))
