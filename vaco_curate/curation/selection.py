"""Candidates to a ``Selection``: which rows are kept, exactly, and why the others are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import BLOCK, Array, Transitions, blocks
from vaco_curate.curation.candidates import Candidates
from vaco_curate.curation.cut import EPISODE, TRANSITION, Cut, Level
from vaco_curate.curation.ordering import count_groups, kth_smallest, kth_smallest_of_groups, ranks
from vaco_curate.errors import SettingsError

REASONS = (
    "",
    "outside the cut",
    "its episode or window is outside the cut",
    "its episode or window would exceed the rows to keep",
    "over the budget",
    "episode too short",
    "successor of a kept row",
)
"""Why a row is dropped, or is kept though it would not be by itself; in ``Selection.reason`` by number."""

KEPT, BELOW_CUT, UNIT_BELOW_CUT, UNIT_TOO_LARGE, OVER_BUDGET, SHORT_EPISODE, SUCCESSOR = range(len(REASONS))


@dataclass(frozen=True)
class Selection:
    """A decision for every row of a dataset; a filter is the case of weights 0 and 1.

    Attributes:
        keep: (n,) bool.
        weight: (n,) of mean 1 where rows are weighted, None for a filter.
        reason: (n,) numbers of ``REASONS``.
        rank: (n,) of a row, or of its episode or window, among all; 0 is best.
        rule: the decision in words.
        cut: lowest value, or mean of an episode or window, that is kept (highest from the other end); None for
            weights.
    """

    keep: Array
    weight: Array | None
    reason: Array
    rank: Array
    rule: str
    cut: float | None

    def __repr__(self) -> str:
        return f"<Selection: {self.rule}; keeps {int(self.keep.sum()):,} of {len(self.keep):,} rows>"

    @property
    def kept_rows(self) -> Array:
        """(m,) row numbers kept, increasing."""
        return np.flatnonzero(self.keep)

    @property
    def dropped_rows(self) -> Array:
        """(n - m,) row numbers dropped, increasing."""
        return np.flatnonzero(~self.keep)

    @property
    def row_weight(self) -> Array:
        """(n,) float64: the weights, or 1 for a kept row and 0 for a dropped one."""
        return np.asarray(self.keep if self.weight is None else self.weight, np.float64)


@dataclass(frozen=True)
class _Units:
    """What is kept or dropped as a whole: runs of rows that lie one after the other.

    Attributes:
        start: (units,) first row; None where every row is a unit.
        size: (units,) rows of each; None likewise.
        value: (units,) mean value.
        group: (units,), or None.
        allowed: (units,) bool, whether it may be kept at all.
    """

    start: Array | None
    size: Array | None
    value: Array
    group: Array | None
    allowed: Array


def select(
    candidates: Candidates,
    cut: Cut,
    level: Level = TRANSITION,
    *,
    min_episode_length: int = 1,
    keep_successors: int = 0,
) -> Selection:
    """Keep the best rows, or whole episodes or windows in the order of their mean value.

    At transition level a share or a number of rows is kept exactly, ties broken by row number. Episodes and
    windows are taken best first until the next one would exceed the rows to keep. With groups each is cut for
    itself, to the same share.

    Args:
        min_episode_length: shorter episodes are left out before the cut; shares are of what is left.
        keep_successors: steps after a kept row that are kept with it.

    Raises:
        SettingsError: nothing would be kept, or a unit holds rows of several groups.
    """
    if keep_successors and cut.budget is not None:
        raise SettingsError(
            "--budget limits the rows, and --keep-successors would keep more",
            fix="give --top in place of --budget, or leave out the successors",
        )
    level = cut.level_of(level)
    long_enough = candidates.episode_length >= min_episode_length
    units = _units(candidates, level, long_enough)
    rank = (
        ranks(np.where(units.allowed, units.value, -np.inf)) if not units.allowed.all() else ranks(units.value)
    )
    keep, reason = _decide(units, rank, cut)
    if not keep.any():
        raise SettingsError(
            f"{cut}{level.words} keeps nothing",
            details=(
                f"values range from {candidates.value.min():.4g} to {candidates.value.max():.4g}",
                f"rows: {len(candidates)}, in episodes of at least {min_episode_length}: "
                f"{int(candidates.episode_length[long_enough].sum())}",
            ),
            fix="give a lower --min-episode-length"
            if not long_enough.any()
            else _larger(cut, level, len(candidates.episode_start)),
        )
    if cut.worst:
        edge = float(units.value.max(where=keep, initial=-np.inf))
    else:
        edge = float(units.value.min(where=keep, initial=np.inf))
    if units.size is not None:
        keep, reason, rank = (np.repeat(array, units.size) for array in (keep, reason, rank))
    if keep_successors:
        _keep_successors(keep, reason, candidates.goes_on, keep_successors)
    words = f"{cut} by {candidates.by}{level.words if cut.episodes is None else ''}"
    if candidates.group is not None:
        words += ", each group for itself"
    if min_episode_length > 1:
        words += f", episodes of at least {min_episode_length} rows"
    if keep_successors:
        words += f", with {keep_successors} successor(s) of each row"
    return Selection(keep, None, reason, rank, words, edge)


def _larger(cut: Cut, level: Level, episodes: int) -> str:
    """How to keep something: a number with whole episodes may have been meant as that of the episodes."""
    if level == EPISODE and cut.rows is not None and not cut.is_budget and cut.rows <= episodes:
        return f"for {cut.rows} whole episodes give {cut.rows}ep, else as many rows as the best episode has"
    return "give a larger --top or a lower --threshold"


def means_of(starts: Array, values: Array) -> Array:
    """(units,) float64 means of values over runs of rows that begin at the given rows; some rows at a time."""
    ends = np.append(starts[1:], len(values))
    sums, first = [], 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + BLOCK, side="right")))
        rows = values[starts[first] : ends[last - 1]].astype(np.float64)
        sums.append(np.add.reduceat(rows, starts[first:last] - starts[first]))
        first = last
    return np.asarray(np.concatenate(sums) / (ends - starts))


def episode_means(data: Transitions | Candidates, values: Array) -> Array:
    """(episodes,) float64 mean of a row quantity over each episode."""
    return means_of(data.episode_start, values)


def _units(candidates: Candidates, level: Level, long_enough: Array) -> _Units:
    lengths = candidates.episode_length
    if level.name == "transition":
        allowed = np.repeat(long_enough, lengths)
        return _Units(None, None, candidates.value, candidates.group, allowed)
    start = candidates.episode_start
    if level.window is not None:
        pieces = -(-lengths // level.window)
        number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        start = np.repeat(start, pieces) + level.window * number
        long_enough = np.repeat(long_enough, pieces)
    size = np.diff(np.append(start, len(candidates)))
    group = candidates.group
    if group is not None:
        mixed = np.flatnonzero(np.maximum.reduceat(group, start) != np.minimum.reduceat(group, start))
        if mixed.size:
            raise SettingsError(
                f"--per: the {level.name} from row {start[mixed[0]]} on has rows of several groups",
                fix="give --level transition, or a column that does not change within an episode",
            )
        group = group[start]
    return _Units(start, size, means_of(start, candidates.value), group, long_enough)


def _decide(units: _Units, rank: Array, cut: Cut) -> tuple[Array, Array]:
    """(keep, reason), one for each unit."""
    count = len(units.value)
    reason = np.full(count, BELOW_CUT if units.size is None else UNIT_BELOW_CUT, np.uint8)
    reason[~units.allowed] = SHORT_EPISODE
    if cut.threshold is not None:
        reached = units.value <= cut.threshold if cut.worst else units.value >= cut.threshold
        keep = units.allowed & reached
    else:
        counted, too_large = units, UNIT_TOO_LARGE
        if cut.episodes is not None:  # each counts as one, however long, so that none is too large
            counted, too_large = dataclasses.replace(units, size=np.ones(count, np.int64)), UNIT_BELOW_CUT
        keep = _best(counted, rank, units.allowed, cut.of, reason, too_large, worst=cut.worst)
    if cut.budget is not None and _rows(units, keep) > cut.budget:
        budget = np.array([cut.budget])
        one_group = dataclasses.replace(units, group=None)
        best = _best(one_group, rank, keep, lambda _: budget, reason, OVER_BUDGET, worst=cut.worst)
        reason[keep & ~best] = OVER_BUDGET
        keep = best
    reason[keep] = KEPT
    return keep, reason


def _rows(units: _Units, chosen: Array) -> int:
    return int(np.count_nonzero(chosen) if units.size is None else units.size[chosen].sum())


def _best(
    units: _Units,
    rank: Array,
    members: Array,
    budgets: Callable[[Array], Array],
    reason: Array,
    too_large: int,
    *,
    worst: bool,
) -> Array:
    """(units,) bool: of each group the first members by rank that fit into a budget, or the last if ``worst``.

    Args:
        rank: (units,) different whole numbers.
        members: (units,) bool, among which to choose.
        budgets: rows to keep of groups with so many rows, (groups,).
        too_large: the reason of the first unit of a group that does not fit.
    """
    if units.size is None:
        return _best_rows(units, rank, members, budgets, worst=worst)
    group = np.zeros(len(members), np.int64) if units.group is None else units.group
    numbers = np.flatnonzero(members)
    by_rank = -rank[numbers].astype(np.int64) if worst else rank[numbers]
    numbers = numbers[np.lexsort((by_rank, group[numbers]))]
    counts = np.bincount(group[numbers], weights=units.size[numbers], minlength=int(group.max()) + 1)
    allowed = budgets(counts.astype(np.int64))
    keep = np.zeros(len(members), bool)
    ends = np.cumsum(np.bincount(group[numbers], minlength=len(counts)))
    for of_group, budget in zip(np.split(numbers, ends[:-1]), allowed.tolist(), strict=True):
        within = np.cumsum(units.size[of_group]) <= budget
        count = len(of_group) if within.all() else int(np.argmin(within))
        keep[of_group[:count]] = True
        reason[of_group[count : count + 1]] = too_large
    return keep


def _best_rows(
    units: _Units, rank: Array, members: Array, budgets: Callable[[Array], Array], *, worst: bool
) -> Array:
    """As ``_best``, where every row is a unit: by the rank of the last row that is kept of each group."""
    if units.group is None:
        total = np.count_nonzero(members)
        kept = int(budgets(np.array([total]))[0])
        if kept >= total:
            return members
        last = kth_smallest(rank, members, int(total - kept + 1 if worst else kept))
        return members & (rank >= last if worst else rank <= last)
    counts = count_groups(units.group, members, int(units.group.max()) + 1)
    kept_of_group = np.minimum(budgets(counts), counts)
    wanted = np.where(kept_of_group > 0, counts - kept_of_group + 1, 0) if worst else kept_of_group
    edges = kth_smallest_of_groups(rank, units.group, members, wanted)
    keep = np.zeros(len(members), bool)
    for rows in blocks(len(members)):
        edge = edges[units.group[rows]]
        reached = (rank[rows] >= edge) & (edge >= 0) if worst else rank[rows] <= edge
        keep[rows] = members[rows] & reached
    return keep


def _keep_successors(keep: Array, reason: Array, goes_on: Array, steps: int) -> None:
    """Keep also the rows that follow kept ones, up to some steps of the same episode; in place."""
    reached = keep.copy()
    for _ in range(steps):
        reached[1:] = reached[:-1] & goes_on[:-1]
        reached[0] = False
        reason[reached & ~keep] = SUCCESSOR
        keep |= reached


def rows_are_consecutive(candidates: Candidates, keep: Array) -> bool:
    """Whether every kept row but the last is followed by its next step, or ends an episode kept up to its end.

    Then a row's successor is the next row, as in an uncut dataset.
    """
    first = candidates.episode_start
    last = np.append(first[1:], len(candidates)) - 1
    before: int | None = None
    for rows in blocks(len(candidates)):
        kept = np.flatnonzero(keep[rows]) + rows.start
        if before is not None:
            kept = np.append(before, kept)
        if len(kept) > 1:
            one, other = kept[:-1], kept[1:]
            breaks = np.flatnonzero((other != one + 1) | ~candidates.goes_on[one])
            if not (_are_among(one[breaks], last) & _are_among(other[breaks], first)).all():
                return False
        before = int(kept[-1]) if len(kept) else before
    return True


def _are_among(rows: Array, some: Array) -> Array:
    """(rows,) bool: whether each is one of some increasing row numbers."""
    at = np.minimum(np.searchsorted(some, rows), len(some) - 1)
    return np.asarray(some[at] == rows)
