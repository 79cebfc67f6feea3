from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import make_transitions
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.curation import Cut, episode_means, select
from vaco_curate.curation.selection import EPISODE_BELOW_CUT, OVER_BUDGET
from vaco_curate.errors import SettingsError
from vaco_curate.scores import ranks

DATA = make_transitions(episodes=6, length=20)
COUNT = len(DATA)
scores = st.lists(st.integers(-3, 3), min_size=COUNT, max_size=COUNT).map(lambda v: np.array(v, np.float32))
percents = st.integers(1, 100).map(lambda p: Fraction(p, 100))


def kept(score, level="transition", **cut):
    return select(DATA, score, ranks(score), Cut(**cut), level)


@given(scores, percents)
def test_top_share_keeps_exactly_its_ceiling_also_on_ties(score, share):
    assert len(kept(score, share=share).kept_rows) == math.ceil(share * COUNT)


@given(scores, percents, percents)
def test_a_larger_fraction_keeps_everything_a_smaller_one_kept(score, one, other):
    small, large = sorted((one, other))
    for level in ("transition", "episode"):
        try:
            few = kept(score, level, share=small).kept_rows
        except SettingsError:
            continue
        assert np.isin(few, kept(score, level, share=large).kept_rows).all()


@given(scores, percents)
def test_no_dropped_row_scores_higher_than_a_kept_one(score, share):
    selection = kept(score, share=share)
    if len(selection.dropped_rows):
        assert score[selection.dropped_rows].max() <= score[selection.kept_rows].min()
    assert selection.cut == score[selection.kept_rows].min()


def test_ties_go_to_the_lowest_index():
    assert kept(np.zeros(COUNT, np.float32), rows=3).kept_rows.tolist() == [0, 1, 2]


def test_a_tenth_of_thirty_is_three():
    """0.1 * 30 is 3.0000000000000004 in floats, whose ceiling is 4."""
    assert Cut(share=Fraction("10") / 100).budget(30) == 3


@given(scores, st.integers(20, COUNT))
def test_episode_level_keeps_the_best_whole_episodes_within_the_budget(score, budget):
    selection = kept(score, "episode", rows=budget)
    means = episode_means(DATA, score)
    whole = np.add.reduceat(selection.weight, DATA.episode_start) / DATA.episode_length
    assert set(whole) <= {0.0, 1.0}
    assert len(selection.kept_rows) == budget // 20 * 20
    assert means[whole == 1].min() >= means[whole == 0].max(initial=-np.inf)


def test_episode_level_stops_at_the_first_episode_that_does_not_fit():
    data = make_transitions(columns={"terminated": ends(9, 69, 79), "truncated": ends()}, episodes=4)
    score = np.repeat([3.0, 2.0, 1.0], [10, 60, 10]).astype(np.float32)
    selection = select(data, score, ranks(score), Cut(rows=25), "episode")
    assert len(selection.kept_rows) == 10, "the third would fit, but the second came first and did not"
    assert set(selection.reason[10:70]) == {OVER_BUDGET}
    assert set(selection.reason[70:]) == {EPISODE_BELOW_CUT}


def ends(*rows):
    flags = np.zeros(80, bool)
    flags[list(rows)] = True
    return flags


def test_every_dropped_row_has_a_reason_and_no_kept_row_has_one():
    selection = kept(np.arange(COUNT, dtype=np.float32), share=Fraction(1, 3))
    assert (selection.reason[selection.dropped_rows] != "").all()
    assert (selection.reason[selection.kept_rows] == "").all()


def test_threshold_keeps_scores_of_at_least_itself():
    score = np.arange(COUNT, dtype=np.float32)
    assert kept(score, threshold=100.0).kept_rows.tolist() == list(range(100, COUNT))
    assert kept(score, "episode", threshold=89.5).kept_rows.tolist() == list(range(80, COUNT))


@pytest.mark.parametrize(
    "cut",
    [{"share": Fraction(0)}, {"share": Fraction(3, 2)}, {"rows": 0}, {"rows": -5}, {"threshold": math.nan}, {}],
)
def test_absurd_cuts_are_refused(cut):
    with pytest.raises(SettingsError):
        Cut(**cut)


@pytest.mark.parametrize(("level", "cut"), [("transition", {"threshold": 9.0}), ("episode", {"rows": 5})])
def test_a_selection_that_keeps_nothing_is_refused(level, cut):
    with pytest.raises(SettingsError, match="keeps nothing"):
        kept(np.zeros(COUNT, np.float32), level, **cut)


@given(scores)
def test_ranks_are_a_permutation_that_orders_by_score_then_index(score):
    rank = ranks(score)
    order = np.argsort(rank)
    assert sorted(rank) == list(range(COUNT))
    pairs = list(zip(-score[order], order, strict=True))
    assert pairs == sorted(pairs)
