from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import make_transitions
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.core.paths import Paths


def paths_of(*lengths: int) -> Paths:
    """Paths one after the other."""
    length = np.array(lengths)
    return Paths(np.cumsum(length) - length, length)


def test_long_paths_are_cut_and_every_row_is_in_one_path():
    paths = Paths.of(make_transitions(episodes=3, length=10), 4)
    assert paths.start.tolist() == [0, 3, 6, 10, 13, 16, 20, 23, 26]
    assert paths.length.tolist() == [3, 3, 4] * 3
    assert paths.last.tolist() == [2, 5, 9, 12, 15, 19, 22, 25, 29]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.sampled_from([0.3, 2.0, 15.0, math.inf]))
def test_sums_along_paths_equal_their_definition(lengths, scale):
    paths = paths_of(*lengths)
    values = np.random.default_rng(0).standard_normal(sum(lengths))
    behind, ahead = paths.behind(values, scale), paths.ahead(values, scale)
    for start, length in zip(paths.start, paths.length, strict=True):
        own = values[start : start + length]
        for row in range(length):
            weights = np.exp(-np.arange(1, length + 1) / scale)
            expected = (weights[:row] * own[:row][::-1]).sum()
            assert behind[start + row] == pytest.approx(expected, abs=1e-7)
            after = own[row + 1 :]
            assert ahead[start + row] == pytest.approx((weights[: len(after)] * after).sum(), abs=1e-7)


def test_other_paths_change_no_bit_of_a_sum():
    paths = paths_of(17, 5, 64, 1, 33)
    values = np.random.default_rng(0).standard_normal(120)
    whole = paths.behind(values, 7.0), paths.ahead(values, 7.0)
    for number in range(5):
        rows = slice(paths.start[number], paths.last[number] + 1)
        alone = paths_of(paths.length[number])
        assert (alone.behind(values[rows], 7.0) == whole[0][rows]).all()
        assert (alone.ahead(values[rows], 7.0) == whole[1][rows]).all()


def test_drawn_paths_keep_their_rows_and_are_about_as_many_as_wanted():
    paths = paths_of(*[10] * 50)
    assert paths.drawn(500) is paths
    some = paths.drawn(95)
    assert len(some) == 9
    assert (np.diff(some.start) > 0).all()
    assert set(some.start) < set(paths.start)
    assert some.rows().tolist() == [row for start in some.start for row in range(start, start + 10)]
    assert some.packed().start.tolist() == list(range(0, 90, 10))
    assert len(paths.drawn(3)) == 1, "one path longer than wanted is better than none"
    order = [paths.drawn(95).start.tolist() for _ in range(2)]
    assert order[0] == order[1]
