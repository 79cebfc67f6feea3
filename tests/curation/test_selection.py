from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import make_transitions
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.core import transitions
from vaco_curate.curation import (
    EPISODE,
    TRANSITION,
    Candidates,
    Cut,
    Level,
    episode_means,
    means_of,
    ordering,
    select,
)
from vaco_curate.curation import selection as selection_module
from vaco_curate.curation.candidates import chance
from vaco_curate.curation.ordering import kth_smallest, kth_smallest_of_groups, ranks
from vaco_curate.curation.selection import (
    KEPT,
    OVER_BUDGET,
    SHORT_EPISODE,
    SUCCESSOR,
    UNIT_BELOW_CUT,
    UNIT_TOO_LARGE,
    rows_are_consecutive,
)
from vaco_curate.errors import SettingsError

DATA = make_transitions(episodes=6, length=20)
COUNT = len(DATA)
scores = st.lists(st.integers(-3, 3), min_size=COUNT, max_size=COUNT).map(lambda v: np.array(v, np.float32))
percents = st.integers(1, 100).map(lambda p: Fraction(p, 100))


def kept(score, level=TRANSITION, **cut):
    return select(Candidates.of(DATA, score), Cut(**cut), level)


@given(scores, percents)
def test_top_share_keeps_exactly_its_ceiling_also_on_ties(score, share):
    assert len(kept(score, share=share).kept_rows) == math.ceil(share * COUNT)


@given(scores, percents, percents)
def test_a_larger_fraction_keeps_everything_a_smaller_one_kept(score, one, other):
    small, large = sorted((one, other))
    for level in (TRANSITION, EPISODE):
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


def test_rows_are_divided_among_groups_by_the_largest_remainders():
    """3 of 10: 1.5, 0.9 and 0.6 are one each; the half of the largest group has the smallest remainder."""
    assert Cut(rows=3).of(np.array([5, 3, 2])).tolist() == [1, 1, 1]


def test_a_float_is_the_share_that_it_is_written_as():
    assert Cut(share=0.1) == Cut(share=Fraction(1, 10))
    assert Cut(episodes=0.8) == Cut(episodes=Fraction(4, 5))
    assert Cut(share=np.float64(0.5)) == Cut(share=Fraction(1, 2))
    assert Cut(share=1) == Cut(share=Fraction(1))
    for wrong in (math.nan, math.inf, "half", "", "%", "ep", "50%%", "1.5"):
        with pytest.raises(SettingsError):
            Cut(share=wrong)


def test_amounts_are_given_as_on_the_command_line():
    assert Cut("50%") == Cut(share=Fraction(1, 2))
    assert Cut("12.5%") == Cut(share=Fraction(1, 8))
    assert Cut("20000") == Cut(rows=20_000)
    assert Cut("80%ep") == Cut(episodes=Fraction(4, 5))
    assert Cut("64EP", worst=True) == Cut(episodes=64, worst=True)


def test_a_tenth_of_thirty_is_three():
    """0.1 * 30 is 3.0000000000000004 in floats, whose ceiling is 4."""
    assert Cut(share=Fraction("10") / 100).of(np.array([30])) == [3]


@given(scores, st.integers(20, COUNT))
def test_episode_level_keeps_the_best_whole_episodes_within_the_budget(score, budget):
    selection = kept(score, EPISODE, rows=budget)
    means = episode_means(DATA, score)
    whole = np.add.reduceat(selection.row_weight, DATA.episode_start) / DATA.episode_length
    assert set(whole) <= {0.0, 1.0}
    assert len(selection.kept_rows) == budget // 20 * 20
    assert means[whole == 1].min() >= means[whole == 0].max(initial=-np.inf)


def test_episode_level_stops_at_the_first_episode_that_does_not_fit():
    data = make_transitions(columns={"terminated": ends(9, 69, 79), "truncated": ends()}, episodes=4)
    score = np.repeat([3.0, 2.0, 1.0], [10, 60, 10]).astype(np.float32)
    selection = select(Candidates.of(data, score), Cut(rows=25), EPISODE)
    assert len(selection.kept_rows) == 10, "the third would fit, but the second came first and did not"
    assert set(selection.reason[10:70]) == {UNIT_TOO_LARGE}
    assert set(selection.reason[70:]) == {UNIT_BELOW_CUT}


def ends(*rows):
    flags = np.zeros(80, bool)
    flags[list(rows)] = True
    return flags


LENGTHS = (3, 40, 7, 1, 25, 44)


def of_uneven_episodes(score, group=None):
    columns = {"episode_id": np.repeat(np.arange(6), LENGTHS), "observation": np.zeros((COUNT, 1), np.float32)}
    for name in ("terminated", "truncated"):
        columns[name] = np.zeros(COUNT, bool)
    candidates = Candidates.of(make_transitions(columns=columns), score)
    return dataclasses.replace(candidates, group=None if group is None else np.asarray(group, np.int32))


@given(scores, st.one_of(percents, st.integers(1, 8)), st.booleans())
def test_a_cut_of_episodes_counts_them_whatever_their_lengths(score, episodes, worst):
    candidates = of_uneven_episodes(score)
    selection = select(candidates, Cut(episodes=episodes, worst=worst))
    means = episode_means(candidates, candidates.value)
    count = math.ceil(episodes * 6) if isinstance(episodes, Fraction) else min(episodes, 6)
    order = np.lexsort((np.arange(6), -means))
    chosen = order[::-1][:count] if worst else order[:count]
    assert np.array_equal(selection.keep, np.isin(np.repeat(np.arange(6), LENGTHS), chosen))
    assert set(selection.reason[~selection.keep]) <= {UNIT_BELOW_CUT}, "none is too large"


def test_a_cut_of_episodes_goes_with_groups_and_a_budget_and_not_with_windows():
    score = np.repeat(np.array([6, 5, 4, 3, 2, 1], np.float32), LENGTHS)
    group = np.repeat([0, 0, 0, 1, 1, 1], LENGTHS)
    grouped = select(of_uneven_episodes(score, group), Cut(episodes=Fraction(1, 3)))
    assert grouped.keep.sum() == 3 + 1
    capped = select(of_uneven_episodes(score), Cut(episodes=4, budget=50))
    assert capped.keep.sum() == 3 + 40 + 7
    assert capped.rule == "top 4 episodes, at most 50 rows by score"
    with pytest.raises(SettingsError, match="leave level out"):
        select(of_uneven_episodes(score), Cut(episodes=4), Level("window", 5))


def test_every_dropped_row_has_a_reason_and_no_kept_row_has_one():
    selection = kept(np.arange(COUNT, dtype=np.float32), share=Fraction(1, 3))
    assert (selection.reason[selection.dropped_rows] != KEPT).all()
    assert (selection.reason[selection.kept_rows] == KEPT).all()


def test_threshold_keeps_scores_of_at_least_itself():
    score = np.arange(COUNT, dtype=np.float32)
    assert kept(score, threshold=100.0).kept_rows.tolist() == list(range(100, COUNT))
    assert kept(score, EPISODE, threshold=89.5).kept_rows.tolist() == list(range(80, COUNT))


@pytest.mark.parametrize(
    "cut",
    [
        {"share": Fraction(0)},
        {"share": Fraction(3, 2)},
        {"rows": 0},
        {"rows": -5},
        {"threshold": math.nan},
        {},
        {"episodes": Fraction(6, 5)},
        {"episodes": 0},
        {"episodes": 3, "rows": 3},
    ],
)
def test_absurd_cuts_are_refused(cut):
    with pytest.raises(SettingsError):
        Cut(**cut)


@pytest.mark.parametrize(("level", "cut"), [(TRANSITION, {"threshold": 9.0}), (EPISODE, {"rows": 5})])
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


@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_are_the_same_however_few_are_sorted_at_once(monkeypatch, at_once, dtype):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(ordering, "SORTED_AT_ONCE", at_once)
    for values in (
        generator.standard_normal(300),
        generator.integers(-2, 3, 300),
        np.zeros(300),
        -0.0 * np.ones(9),
    ):
        order = np.argsort(-values.astype(dtype), kind="stable")
        assert (ranks(values.astype(dtype))[order] == np.arange(len(values))).all()


@given(st.data(), st.permutations(range(40)))
def test_the_kth_smallest_is_that_of_a_sort(data, rank):
    rank = np.array(rank)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=40, max_size=40)))
    if chosen.any():
        k = data.draw(st.integers(1, int(chosen.sum())))
        assert kth_smallest(rank, chosen, k) == np.sort(rank[chosen])[k - 1]
    group = np.array(data.draw(st.lists(st.integers(0, 2), min_size=40, max_size=40)))
    counts = np.bincount(group[chosen], minlength=3)
    k = np.array([data.draw(st.integers(0, int(count))) for count in counts])
    found = kth_smallest_of_groups(rank, group, chosen, k)
    for number in range(3):
        members = np.sort(rank[chosen & (group == number)])
        assert found[number] == (members[k[number] - 1] if k[number] else -1)


@given(scores, percents)
def test_the_bottom_is_what_the_rest_of_the_top_is(score, share):
    count = math.ceil(share * COUNT)
    bottom = kept(score, share=share, worst=True)
    assert len(bottom.kept_rows) == count
    if count < COUNT:
        assert bottom.dropped_rows.tolist() == kept(score, rows=COUNT - count).kept_rows.tolist()


@given(scores, st.integers(1, COUNT))
def test_a_budget_keeps_the_best_of_what_reaches_the_threshold(score, budget):
    if (score >= 0).any():
        selection = kept(score, threshold=0.0, budget=budget)
        reached = np.flatnonzero(score >= 0)
        assert len(selection.kept_rows) == min(budget, len(reached))
        assert np.isin(selection.kept_rows, kept(score, rows=budget).kept_rows).all()
        assert (selection.reason[np.setdiff1d(reached, selection.kept_rows)] == OVER_BUDGET).all()


@given(scores, percents, st.integers(1, 30))
def test_every_group_keeps_the_same_share_of_its_best(score, share, size):
    group = (np.arange(COUNT) // size).astype(np.int32)
    candidates = dataclasses.replace(Candidates.of(DATA, score), group=group)
    selection = select(candidates, Cut(share=share))
    for number in range(group.max() + 1):
        members = np.flatnonzero(group == number)
        best = members[np.argsort(-score[members], kind="stable")][: math.ceil(share * len(members))]
        assert np.flatnonzero(selection.keep & (group == number)).tolist() == sorted(best)


def test_groups_of_episodes_are_cut_each_for_itself_and_may_not_divide_one():
    score = np.repeat(np.arange(6.0), 20).astype(np.float32)
    candidates = Candidates.of(DATA, score)
    halves = dataclasses.replace(candidates, group=np.repeat([0, 1], 60).astype(np.int32))
    selection = select(halves, Cut(share=Fraction(1, 3)), EPISODE)
    assert np.unique(selection.kept_rows // 20).tolist() == [2, 5]
    odd = dataclasses.replace(candidates, group=(np.arange(120) % 2).astype(np.int32))
    with pytest.raises(SettingsError, match=r'per: the episode from row 0 on(.|\n)*level="transition"'):
        select(odd, Cut(share=Fraction(1, 3)), EPISODE)


def test_windows_are_kept_whole_and_end_with_their_episode():
    score = np.zeros(COUNT, np.float32)
    score[[27, 39]] = 1.0
    selection = select(Candidates.of(DATA, score), Cut(rows=12), Level("window", 8))
    assert selection.kept_rows.tolist() == [*range(20, 28), *range(36, 40)]
    assert (selection.rank[36:40] == 0).all(), "the shorter window has the higher mean"


def test_levels_are_parsed_and_absurd_ones_refused():
    assert Level("window:50") == Level("window", 50)
    assert str(Level("episode")) == "episode"
    for text in ("window", "window:0", "window:x", "episode:3", "row"):
        with pytest.raises(SettingsError, match="level"):
            Level(text)


def test_short_episodes_are_left_out_before_the_cut():
    data = make_transitions(columns={"terminated": ends(9, 69, 79), "truncated": ends()}, episodes=4)
    score = np.arange(80, dtype=np.float32)
    selection = select(Candidates.of(data, score), Cut(share=Fraction(1, 2)), min_episode_length=11)
    assert selection.kept_rows.tolist() == list(range(40, 70)), "half of the 60 rows that are left"
    assert set(selection.reason[:10]) == set(selection.reason[70:]) == {SHORT_EPISODE}
    with pytest.raises(SettingsError, match="keeps nothing"):
        select(Candidates.of(data, score), Cut(share=Fraction(1, 2)), min_episode_length=100)


def test_successors_of_kept_rows_are_kept_up_to_the_end_of_the_episode():
    score = np.zeros(COUNT, np.float32)
    score[[5, 18]] = 1.0
    selection = select(Candidates.of(DATA, score), Cut(rows=2), keep_successors=3)
    assert selection.kept_rows.tolist() == [5, 6, 7, 8, 18, 19]
    assert selection.reason[[6, 7, 8, 19]].tolist() == [SUCCESSOR] * 4
    assert selection.reason[5] == KEPT


@pytest.mark.parametrize(
    ("rows", "consecutive"),
    [
        (range(120), True),
        (range(20, 60), True),
        ([*range(20), *range(40, 60)], True),
        ([*range(10), *range(20, 40)], False),
        ([*range(20), *range(25, 40)], False),
        ([0, 1, 2, 4], False),
    ],
)
def test_rows_are_consecutive_only_where_the_next_row_is_the_successor_or_an_episode_is_over(
    monkeypatch, rows, consecutive
):
    keep = np.isin(np.arange(120), rows)
    for block in (7, 1 << 18):
        monkeypatch.setattr(transitions, "BLOCK", block)
        assert rows_are_consecutive(Candidates.of(DATA, np.zeros(120, np.float32)), keep) is consecutive


@given(scores, st.integers(1, COUNT), st.integers(1, 50))
def test_a_number_of_rows_is_exact_also_among_groups(score, rows, size):
    group = (np.arange(COUNT) // size).astype(np.int32)
    candidates = dataclasses.replace(Candidates.of(DATA, score), group=group)
    for worst in (False, True):
        selection = select(candidates, Cut(rows=rows, worst=worst))
        assert len(selection.kept_rows) == rows
        shares = np.bincount(group[selection.kept_rows], minlength=group.max() + 1) / np.bincount(group)
        assert (np.abs(shares * np.bincount(group) - rows * np.bincount(group) / COUNT) <= 1).all()


def test_a_group_whose_episodes_are_all_too_short_keeps_nothing():
    data = make_transitions(columns={"terminated": ends(9, 69, 79), "truncated": ends()}, episodes=4)
    group = np.repeat([0, 1, 2], [10, 60, 10]).astype(np.int32)
    candidates = dataclasses.replace(Candidates.of(data, np.zeros(80, np.float32)), group=group)
    for level in (TRANSITION, EPISODE):
        selection = select(candidates, Cut(share=Fraction(1)), level, min_episode_length=11)
        assert set(group[selection.kept_rows]) == {1}


def test_successors_are_not_kept_beyond_a_budget():
    candidates = Candidates.of(DATA, np.zeros(COUNT, np.float32))
    with pytest.raises(SettingsError, match="budget limits the rows"):
        select(candidates, Cut(rows=10, budget=10), keep_successors=3)


@pytest.mark.parametrize("seed", [0, 2**24, 20240601, 2**61])
def test_chance_is_even_and_depends_on_the_row_alone(seed):
    values = chance(np.arange(10_000), seed)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.02
    assert (chance(np.arange(5_000, 5_010), seed) == values[5_000:5_010]).all()
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.05


def test_means_of_units_are_the_same_however_many_are_taken_at_once(monkeypatch):
    values = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    starts = np.array([0, 3, 4, 40, 99])
    expected = [values[a:b].astype(np.float64).mean() for a, b in zip(starts, [*starts[1:], 100], strict=True)]
    for block in (1, 10, 1000):
        monkeypatch.setattr(selection_module, "BLOCK", block)
        assert means_of(starts, values) == pytest.approx(expected)
