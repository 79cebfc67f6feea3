"""What scores go with, and the warnings that this gives."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from helpers import make_transitions

from vaco_curate.curation import Candidates
from vaco_curate.reporting.episodes import Grouping, courses, most_varied, spread_over_ranking
from vaco_curate.reporting.outcomes import Outcomes
from vaco_curate.reporting.relations import Correlation, confounds, groups_of
from vaco_curate.reporting.signs import signs


def frame(score, length=None, group=None):
    count = len(score)
    return pl.DataFrame(
        {
            "episode": np.arange(count) + 100,
            "score": np.asarray(score, float),
            "return": np.arange(count) * 1.0,
            "length": np.full(count, 3) if length is None else length,
            "order": np.arange(count),
            "group": ["all"] * count if group is None else group,
        }
    )


def test_confounds_are_the_return_the_length_and_the_order_of_recording():
    found = {one.name: one.spearman for one in confounds(frame([3.0, 2.0, 1.0], [1, 2, 4]), None)}
    assert found == {"return": -1.0, "length": -1.0, "order of recording": -1.0}
    outcomes = Outcomes(np.array([True, False, True]), None)
    names = [one.name for one in confounds(frame([3.0, 2.0, 1.0]), outcomes)]
    assert names == ["length", "order of recording"]


def test_groups_explain_the_variance_between_their_means():
    grouping = Grouping("operator", ["a", "b"], np.array([0, 0, 1, 1]))
    groups = groups_of(frame([1.0, 3.0, 5.0, 7.0], group=["a", "a", "b", "b"]), grouping, None)
    assert groups.explained == pytest.approx(4 / 5)
    assert groups.table.rows() == [("a", 2, 6, 0.5, 2.0), ("b", 2, 6, 2.5, 6.0)]
    assert groups_of(frame([2.0] * 4), grouping, None).explained is None


def test_rows_are_grouped_where_episodes_have_rows_of_several_groups():
    data = make_transitions(episodes=2, length=4)
    score = np.array([1, 1, 5, 5, 1, 1, 5, 5], np.float32)
    number = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    grouping = Grouping("behavior", ["slow", "fast"], np.array([-1, -1]), number)
    groups = groups_of(frame([3.0, 3.0]), grouping, Candidates.of(data, score))
    assert groups.of_rows
    assert groups.explained == pytest.approx(1.0)
    mean = data.episode_return.mean()
    assert [row[:3] for row in groups.table.rows()] == [("fast", 2, 4), ("slow", 2, 4)]
    assert groups.table["return"].to_list() == pytest.approx([mean, mean])
    assert groups.table["score"].to_list() == [5.0, 1.0]


def warnings_of(mean, *, score=None, length=0.0, spearman=0.9, outcomes=None, auc=None):
    score = np.repeat(mean, 3) if score is None else score
    relations = confounds(frame(mean), outcomes)
    relations = [
        type(one)(one.name, None, length if one.name == "length" else one.spearman) for one in relations
    ]
    return signs(
        np.asarray(score, np.float32), mean, outcomes, Correlation("score", None, spearman, auc), relations
    )


def test_sound_scores_give_no_warning():
    assert warnings_of(np.arange(40.0)) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"mean": np.arange(40.0) / 4000}, "the scores hardly differ (standard deviation 0.003)"),
        ({"mean": np.repeat(np.arange(35.0), [6, *[1] * 34])}, "15% of the episodes have the same mean score"),
        ({"mean": np.arange(40.0), "length": 0.95, "spearman": 0.1}, "longer episodes have higher scores"),
        ({"mean": np.arange(40.0), "length": -0.95, "spearman": 0.1}, "shorter episodes have higher scores"),
    ],
)
def test_signs_of_trouble_are_said_in_plain_words(facts, words):
    assert any(words in warning for warning in warnings_of(**facts)), warnings_of(**facts)


def test_length_is_no_trouble_where_the_return_goes_with_it():
    assert warnings_of(np.arange(40.0), length=0.95, spearman=0.9) == []


def test_a_part_of_many_episodes_holds_the_best_and_the_worst():
    whole = frame(np.random.default_rng(0).permutation(1000.0 * np.arange(1000)))
    part = spread_over_ranking(whole, 30)
    assert len(part) == 30
    assert part["order"].is_sorted()
    assert {whole["score"].min(), whole["score"].max()} <= set(part["score"])
    assert spread_over_ranking(whole, 1000).equals(whole)


def test_courses_are_those_of_the_dataset(made):
    mean = made.facts.episodes["score"].to_numpy()
    found = courses(made.candidates, mean)
    assert len({course.episode_id for course in found}) == len(found) <= 200
    best = int(made.candidates.episode_id[np.argmax(mean)])
    assert found[0].episode_id == best
    for course in found:
        rows = np.flatnonzero(made.data.episode_id == course.episode_id)
        np.testing.assert_array_equal(course.score, made.candidates.value[rows[course.step]])
    assert np.ptp(most_varied(found).score) == max(np.ptp(course.score) for course in found[1:-1])
