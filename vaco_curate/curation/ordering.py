"""Exact order of many values: ranks and cuts by counting, for more rows than could be sorted in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vaco_curate.core.transitions import Array, blocks

SORTED_AT_ONCE = 1 << 22
"""Values that are sorted in memory; more are first divided by counting the digits of their bits."""

DIGIT = 16
"""Bits that are counted at a time."""


def ranks(values: Array) -> Array:
    """(n,) 0 for the largest value, ties broken by position; exact for any n.

    Beside the ranks, 4 bytes a row below 2**32 rows and 8 above, memory does not grow with n.

    Args:
        values: (n,) float32 or float64, finite; bools and whole numbers are compared as float64.
    """
    values = values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)
    rank = np.empty(len(values), np.uint32 if len(values) < 2**32 else np.int64)
    _rank_within(values, rank, base=0, prefix=0, shift=8 * values.itemsize)
    return rank


def kth_smallest(rank: Array, chosen: Array, k: int) -> int:
    """The k-th smallest, from 1 on, of different whole numbers from 0 to n - 1.

    Args:
        rank: (n,).
        chosen: (n,) bool, which of them count: at least k.
    """
    shift = max(0, (len(rank) - 1).bit_length() - DIGIT)
    counts = np.zeros(1 << DIGIT, np.int64)
    for rows in blocks(len(rank)):
        digit = rank[rows][chosen[rows]] >> shift
        counts += np.bincount(digit, minlength=1 << DIGIT)
    before = np.cumsum(counts) - counts
    holding = int(np.flatnonzero((before < k) & (k <= before + counts))[0])
    found = []
    for rows in blocks(len(rank)):
        of_block = rank[rows][chosen[rows]]
        found.append(of_block[(of_block >> shift) == holding])
    return int(np.sort(np.concatenate(found))[k - 1 - before[holding]])


def kth_smallest_of_groups(rank: Array, group: Array, chosen: Array, k: Array) -> Array:
    """(groups,) the k-th smallest of each group, from 1 on; -1 where k is 0.

    Takes 8 bytes a row.

    Args:
        rank: (n,) different whole numbers from 0 to n - 1.
        group: (n,) whole numbers from 0 to groups - 1.
        chosen: (n,) bool, which of them count.
        k: (groups,) at most as many as the group has.
    """
    bits = np.uint64(max(1, (len(rank) - 1).bit_length()))
    key = np.empty(len(rank), np.uint64)
    for rows in blocks(len(rank)):
        of_group = np.where(chosen[rows], group[rows], len(k)).astype(np.uint64)
        key[rows] = (of_group << bits) | rank[rows].astype(np.uint64)
    key.sort()
    counts = count_groups(group, chosen, len(k))
    at = np.cumsum(counts) - counts + k - 1
    found = key[np.clip(at, 0, len(key) - 1)] & ((np.uint64(1) << bits) - np.uint64(1))
    return np.where(k > 0, found.astype(np.int64), -1)


def count_groups(group: Array, chosen: Array, groups: int) -> Array:
    """(groups,) how many rows of each group are chosen."""
    counts = np.zeros(groups, np.int64)
    for rows in blocks(len(group)):
        counts += np.bincount(group[rows][chosen[rows]], minlength=groups)
    return counts


def _rank_within(values: Array, rank: Array, *, base: int, prefix: int, shift: int) -> None:
    """Rank the values whose bits above ``shift`` are ``prefix``, from ``base`` on; larger bits first."""
    if shift == 0:  # all of them are equal
        for _, rows in _matching(values, prefix, prefix, 0):
            rank[rows] = np.arange(base, base + len(rows))
            base += len(rows)
        return
    shift -= DIGIT
    first = prefix << DIGIT
    counts = np.zeros(1 << DIGIT, np.int64)
    for bits, _ in _matching(values, first, first + (1 << DIGIT) - 1, shift):
        counts += np.bincount(
            ((bits >> np.array(shift, bits.dtype)) - first).astype(np.int64), minlength=1 << DIGIT
        )
    for low, high, count in _runs(counts):
        if count <= SORTED_AT_ONCE:
            found = list(_matching(values, first + low, first + high, shift))
            bits, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
            rank[rows[np.argsort(~bits, kind="stable")]] = np.arange(base, base + count)
        else:
            _rank_within(values, rank, base=base, prefix=first + low, shift=shift)
        base += count


def _runs(counts: Array) -> Iterator[tuple[int, int, int]]:
    """(lowest digit, highest, count) from the highest on: as many digits as can be sorted at once, or one."""
    occupied = np.flatnonzero(counts)[::-1]
    start = 0
    totals = np.concatenate([[0], np.cumsum(counts[occupied])])
    while start < len(occupied):
        stop = max(start + 1, int(np.searchsorted(totals, totals[start] + SORTED_AT_ONCE, side="right")) - 1)
        yield int(occupied[stop - 1]), int(occupied[start]), int(totals[stop] - totals[start])
        start = stop


def _matching(values: Array, low: int, high: int, shift: int) -> Iterator[tuple[Array, Array]]:
    """(bits, row numbers) of the values whose bits above ``shift`` lie between two numbers, block by block."""
    for rows in blocks(len(values)):
        bits = _ordered_bits(values[rows])
        digits = bits >> np.array(shift, bits.dtype)
        found = np.flatnonzero((digits >= low) & (digits <= high))
        yield bits[found], found + rows.start


def _ordered_bits(values: Array) -> Array:
    """Unsigned numbers in the order of floats: the sign bit set for positive ones, all turned for negative."""
    unsigned = np.uint32 if values.itemsize == 4 else np.uint64
    bits = (values + values.dtype.type(0.0)).view(unsigned)  # -0.0 + 0.0 is 0.0: the two are one value
    sign = unsigned(1 << (8 * values.itemsize - 1))
    return np.asarray(np.where(bits & sign, ~bits, bits | sign))
