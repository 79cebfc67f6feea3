from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_advantage import both, ends
from test_paths import paths_of

from vaco_curate.core.trajectory_score import (
    LARGEST_RANGE,
    LARGEST_RISE,
    Temperature,
    TrajectoryScore,
    inverse_temperature_for,
    saturated,
)
from vaco_curate.curation import effective_sample_share

LENGTH = 10


def fitted(level, sample_size=0.3, lengths=None):
    """The score over paths whose TD errors are all of one size, and that of each path."""
    lengths = np.full(len(level), LENGTH) if lengths is None else lengths
    paths = paths_of(*lengths)
    errors, known = both(np.repeat(level, lengths)), np.ones(sum(lengths), bool)
    score_of = TrajectoryScore.fit(paths, errors, known, ends(paths), sample_size=sample_size)
    assert math.isinf(score_of.persistence.scale), "the test is of whole paths"
    return score_of, score_of(paths, errors, known)[paths.start]


@given(st.integers(0, 1000), st.floats(0.1, 0.9), st.floats(1e-3, 1e4))
def test_the_temperature_gives_the_wanted_sample_size_whatever_the_scale(seed, share, scale):
    signal = scale * np.random.default_rng(seed).standard_normal(300)
    weight = np.exp(signal * inverse_temperature_for(signal, share, plateau=False))
    assert effective_sample_share(weight) == pytest.approx(share, abs=1e-3)


def test_weights_have_mean_one_and_keep_the_order():
    level = np.random.default_rng(0).standard_normal(300)
    _, score = fitted(level, 0.3)
    assert np.exp(score).mean() == pytest.approx(1.0)
    assert effective_sample_share(np.exp(score)) == pytest.approx(0.3, abs=1e-2)
    assert (np.diff(score[np.argsort(level)]) >= 0).all()


@given(st.floats(1e-3, 1e4))
def test_scores_have_no_scale_of_their_own(scale):
    level = np.random.default_rng(0).standard_normal(60)
    level[0] = 40.0
    assert fitted(scale * level)[1] == pytest.approx(fitted(level)[1], abs=1e-4)


def test_ties_for_the_best_do_not_collapse_the_weights():
    for signal in (np.repeat([0.0, -2.0], 50), np.repeat([1.0, -1.0], 50)):
        inverse_temperature = inverse_temperature_for(signal, 0.35, plateau=True)
        assert inverse_temperature == pytest.approx(LARGEST_RISE)


def test_a_standard_normal_advantage_has_the_temperature_of_theory():
    """exp(A / T) has an effective sample size of exp(-1 / T^2)."""
    signal = np.random.default_rng(0).standard_normal(10_000)
    found = inverse_temperature_for(signal, 0.3, plateau=False)
    assert found == pytest.approx(np.sqrt(-np.log(0.3)), rel=0.1)


@pytest.mark.parametrize("terrible", [0.05, 0.2])
def test_terrible_paths_do_not_make_all_others_alike(terrible):
    crashed = np.arange(400) < terrible * 400
    level = np.where(crashed, -1e4, np.random.default_rng(0).standard_normal(400))
    weight = np.exp(fitted(level, 0.15)[1])
    assert effective_sample_share(weight) == pytest.approx(0.15, abs=0.02)
    assert np.log(weight[~crashed]).std() > 0.5
    assert np.ptp(np.log(weight)) == pytest.approx(LARGEST_RANGE)


@pytest.mark.parametrize("bias", [-20.0, 5.0])
def test_values_that_are_off_everywhere_change_no_score(bias):
    """A V that is too low makes every advantage larger; the outlier is drawn to the rest as before."""
    level = np.random.default_rng(0).standard_normal(40)
    level[3] = 300.0
    paths = paths_of(*[1] * 40)
    found = [Temperature.fit(paths, level + by, 0.15, plateau=True)(level + by) for by in (0.0, bias)]
    assert found[1] == pytest.approx(found[0], abs=1e-6)


@pytest.mark.parametrize("count", [10, 20, 39, 200])
def test_one_outlier_does_not_take_all_weight_however_few_the_paths(count):
    level = np.random.default_rng(0).standard_normal(count)
    level[3] = 300.0
    _, score = fitted(level, 0.15)
    assert 0.0 < score[3] - np.delete(score, 3).max() < 4.0
    assert np.ptp(np.delete(score, 3)) > 2.0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_handful_of_paths_has_scores(count):
    _, score = fitted(np.arange(float(count)), 0.15)
    assert np.isfinite(score).all()
    assert (np.diff(score) > 0).all()


@pytest.mark.parametrize("noise", [1.0, 15.0])
@pytest.mark.parametrize("share", [0.04, 0.1])
def test_where_the_best_is_rare_the_others_do_not_outweigh_it(share, noise):
    """However many the others are and however much they differ: a sample size alone cannot do that."""
    generator = np.random.default_rng(0)
    good = np.arange(500) < share * 500
    level = np.where(good, 100.0 + generator.standard_normal(500), noise * generator.standard_normal(500))
    weight = np.exp(fitted(level, 0.15)[1])
    assert weight[good].sum() > 0.99 * weight.sum()
    assert effective_sample_share(weight) == pytest.approx(share, rel=0.2)
    by_sample_size = np.exp(level * inverse_temperature_for(level, 0.15, plateau=False) - 100.0)
    assert by_sample_size[good].sum() < 0.85 * by_sample_size.sum()


@pytest.mark.parametrize("shape", ["normal", "exponential", "four grades", "half and half"])
def test_without_a_rare_best_the_sample_size_decides(shape):
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(400)
    level = {
        "normal": noise,
        "exponential": generator.exponential(size=400),
        "four grades": np.arange(400) // 100 + 0.1 * noise,
        "half and half": np.arange(400) // 200 + 0.03 * noise,
    }[shape]
    found, without = (inverse_temperature_for(level, 0.15, plateau=plateau) for plateau in (True, False))
    assert found == without


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_saturation_keeps_the_order_and_what_is_usual(values):
    ordered, bounds = np.sort(values), (-1.0, 2.0, 0.5)
    ours = saturated(ordered, *bounds)
    apart = np.diff(ordered) > 1e-3
    assert (np.diff(ours)[apart] > 0).all()
    assert ours.min() >= -1.5
    assert ours.max() <= 2.5
    usual = (ordered >= -1.0) & (ordered <= 2.0)
    assert (ours[usual] == ordered[usual]).all()
    just_beyond = np.array([2.0 + 1e-6, -1.0 - 1e-6])
    assert saturated(just_beyond, *bounds) == pytest.approx(just_beyond, abs=1e-11)


@pytest.mark.parametrize("level", [np.full(5, 3.0), np.full(5, -1e9), np.zeros(1)])
def test_a_constant_advantage_gives_equal_scores(level):
    assert fitted(level)[1] == pytest.approx(np.zeros(len(level)), abs=1e-9)


def test_errors_that_are_all_the_same_give_equal_scores_whatever_rounding_makes_of_them():
    lengths = np.arange(1, 40)
    paths, errors, known = paths_of(*lengths), both(np.full(lengths.sum(), 0.1)), np.ones(lengths.sum(), bool)
    going_on = np.zeros(lengths.sum(), bool)
    score_of = TrajectoryScore.fit(paths, errors, known, going_on, sample_size=0.3)
    assert np.ptp(score_of(paths, errors, known)) < 1e-9


def test_neighbors_change_no_bit_of_a_path():
    lengths = np.random.default_rng(0).integers(1, 40, 60)
    paths, errors = paths_of(*lengths), both(np.random.default_rng(1).standard_normal(lengths.sum()))
    known = np.random.default_rng(2).random(lengths.sum()) < 0.9
    score_of = TrajectoryScore.fit(paths, errors, known, ends(paths), sample_size=0.3)
    whole = score_of(paths, errors, known)
    for part in (np.arange(1), np.arange(13, 16), np.arange(7, 50)):
        some = paths.take(part)
        rows = some.rows()
        assert (score_of(some.packed(), both(errors.discounted[rows]), known[rows]) == whole[rows]).all()


def test_rows_that_were_not_trained_on_stay_within_the_fitted_range():
    level = np.random.default_rng(0).standard_normal(50)
    score_of, score = fitted(level)
    paths, known = paths_of(*[LENGTH] * 50), np.ones(50 * LENGTH, bool)
    far = score_of(paths, both(np.repeat(1e6 * level, LENGTH)), known)
    assert score.min() <= far.min() < far.max() <= score.max()


@given(st.integers(0, 1000), st.booleans())
def test_scores_of_the_fitted_rows_span_the_fitted_range(seed, plateau):
    """What is fitted and what is applied are the same map: weights of mean one, from lowest to highest."""
    advantage = np.random.default_rng(seed).standard_normal(120)
    temperature = Temperature.fit(paths_of(*[4] * 30), advantage, 0.2, plateau=plateau)
    score = temperature(advantage)
    assert np.exp(score).mean() == pytest.approx(1.0)
    assert (score.min(), score.max()) == pytest.approx((temperature.lowest, temperature.highest), abs=1e-9)


def test_the_tail_of_what_is_smoothed_over_a_few_steps_is_no_rare_best():
    """Actors take turns, and a few rows are far better: no plateau is looked for below whole paths."""
    generator = np.random.default_rng(0)
    actors = np.repeat(generator.standard_normal(400), 50)
    errors = both(actors + np.where(np.repeat(np.arange(400) % 25 == 0, 50), 30.0, 0.0))
    paths, known = paths_of(*[1000] * 20), np.ones(20_000, bool)
    score_of = TrajectoryScore.fit(paths, errors, known, ends(paths), sample_size=0.15)
    assert math.isfinite(score_of.persistence.scale), "the test is of a few steps"
    advantage = score_of.persistence.smoothed(paths, errors, known)
    found, other = (Temperature.fit(paths, advantage, 0.15, plateau=plateau) for plateau in (False, True))
    assert score_of.temperature == found
    assert other.inverse > 1.2 * found.inverse, "the test needs a tail that looks like a rare best"
