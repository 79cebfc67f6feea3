from __future__ import annotations

import itertools

import numpy as np
import pytest
from helpers import make_transitions, write_scores
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.core.scorer import RowScores
from vaco_curate.reporting.facts import report_facts
from vaco_curate.reporting.outcomes import Outcomes, area_under_curve, outcome_signs, scored_outcomes


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40))
def test_the_area_under_the_curve_is_that_of_all_pairs(rows):
    positive, value = np.array([p for p, _ in rows]), np.array([v for _, v in rows], np.float32)
    pairs = list(itertools.product(value[positive], value[~positive]))
    expected = np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]) if pairs else None
    assert area_under_curve(positive, value) == (None if expected is None else pytest.approx(expected))


@pytest.fixture
def facts_of(tmp_path):
    """Facts of 30 episodes of 20 rows, by their rewards and the mean scores of their episodes."""

    def found(reward, by_episode):
        data = make_transitions(episodes=30, columns={"reward": np.asarray(reward, np.float32)})
        score = np.repeat(by_episode, 20).astype(np.float32)
        tables.append(
            write_scores(tmp_path / "scores.parquet", data, RowScores(score, *[np.zeros(600, np.float32)] * 4))
        )
        return report_facts(tables[-1], {"warnings": []}, None, {})

    tables = []
    found.table = lambda: tables[-1]
    return found


def rewards(successes, *, on=19, cost=0.0, worth=1.0):
    reward = np.zeros((30, 20))
    reward[:successes, on] = worth
    return (reward - cost).reshape(-1)


@pytest.mark.parametrize("options", [{}, {"on": 7}, {"cost": 0.05}, {"worth": 100.0}, {"cost": 1.0}])
def test_a_reward_that_an_episode_earns_once_or_never_is_an_outcome(facts_of, options):
    facts = facts_of(rewards(10, **options), np.arange(30.0)[::-1])
    assert facts.outcomes.succeeded.tolist() == [True] * 10 + [False] * 20
    assert facts.correlations[0].auc == 1.0
    assert facts.warnings == []


def signs_of(facts_of):
    found = scored_outcomes(facts_of.table())
    return [] if found is None else outcome_signs(*found)


def test_successes_that_do_not_stand_out_are_warned_of(facts_of):
    facts_of(rewards(10), np.arange(30.0))
    (sign,) = signs_of(facts_of)
    assert "a success scores higher than a failure in 0% of the pairs" in sign.text
    assert sign.against == "scores"
    facts_of(rewards(10), np.arange(30.0)[::-1])
    assert signs_of(facts_of) == []
    facts_of(np.random.default_rng(0).random(600), np.arange(30.0))
    assert signs_of(facts_of) == []


@pytest.mark.parametrize(("correlation", "told"), [(0.71, True), (0.0, False), (-0.9, False), (None, False)])
def test_long_successes_above_short_ones_are_told(correlation, told):
    succeeded = np.arange(30) < 10
    signs = outcome_signs(Outcomes(succeeded, correlation), np.arange(30.0)[::-1])
    assert [sign.against for sign in signs] == ([None] if told else [])
    assert not told or "(Spearman 0.71)" in signs[0].text


@pytest.mark.parametrize(
    ("successes", "episodes", "told"),
    [(12, 400, "only 12 episodes succeed of 400"), (1, 40, "only 1 episode succeeds of 40"), (30, 400, None)],
)
def test_rare_success_is_told(successes, episodes, told):
    signs = outcome_signs(Outcomes(np.arange(episodes) < successes, None), np.arange(float(episodes))[::-1])
    assert [sign.against for sign in signs] == ([] if told is None else [None])
    assert told is None or told in signs[0].text


def test_without_failures_there_is_nothing_to_tell_apart(facts_of):
    facts = facts_of(rewards(30), np.arange(30.0))
    assert facts.outcomes.succeeded.all()
    assert facts.correlations[0].auc is None
    assert facts.warnings == []


@pytest.mark.parametrize(
    "reward",
    [
        np.random.default_rng(0).random(600),
        np.tile([0, 1], 300),
        np.ones(600),
        np.tile([0, 1, 2], 200),
        1 - rewards(10),
    ],
    ids=["dense", "half of the rows", "equal", "of three values", "a penalty at the end"],
)
def test_other_rewards_are_no_outcomes(facts_of, reward):
    facts = facts_of(reward, np.arange(30.0))
    assert facts.outcomes is None
    assert facts.correlations[0].auc is None
