from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_paths import paths_of

from vaco_curate.curation import effective_sample_share
from vaco_curate.prior import LARGEST_RANGE, LARGEST_RISE, Prior, inverse_temperature_for, saturated

LENGTH = 10


def fitted(level, sample_size=0.3, lengths=None):
    """The prior over paths whose TD errors are all of one size, and log rho of each path."""
    lengths = np.full(len(level), LENGTH) if lengths is None else lengths
    paths = paths_of(*lengths)
    errors, known = np.repeat(level, lengths), np.ones(sum(lengths), bool)
    prior, log_rho = Prior.fit(paths, errors, known, sample_size=sample_size, discount=0.9)
    assert all(math.isinf(one.scale) for one in prior.persistence), "the test is of whole paths"
    assert prior.log_rho(paths, errors[None], known)[0] == pytest.approx(log_rho, abs=1e-9)
    return prior, log_rho[paths.start]


@given(st.integers(0, 1000), st.floats(0.1, 0.9), st.floats(1e-3, 1e4))
def test_the_temperature_gives_the_wanted_sample_size_whatever_the_scale(seed, share, scale):
    signal = scale * np.random.default_rng(seed).standard_normal(300)
    weight = np.exp(signal * inverse_temperature_for(signal, share, plateau=False))
    assert effective_sample_share(weight) == pytest.approx(share, abs=1e-3)


def test_rho_has_mean_one_and_keeps_the_order():
    level = np.random.default_rng(0).standard_normal(300)
    _, log_rho = fitted(level, 0.3)
    assert np.exp(log_rho).mean() == pytest.approx(1.0)
    assert effective_sample_share(np.exp(log_rho)) == pytest.approx(0.3, abs=1e-2)
    assert (np.diff(log_rho[np.argsort(level)]) >= 0).all()


@given(st.floats(1e-3, 1e4))
def test_rho_has_no_scale_of_its_own(scale):
    level = np.random.default_rng(0).standard_normal(60)
    level[0] = 40.0
    assert fitted(scale * level)[1] == pytest.approx(fitted(level)[1], abs=1e-4)


def test_ties_for_the_best_do_not_collapse_rho():
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
    log_rho = np.exp(fitted(level, 0.15)[1])
    assert effective_sample_share(log_rho) == pytest.approx(0.15, abs=0.02)
    assert np.log(log_rho[~crashed]).std() > 0.5
    assert np.ptp(np.log(log_rho)) == pytest.approx(LARGEST_RANGE)


@pytest.mark.parametrize("count", [10, 20, 39, 200])
def test_one_outlier_does_not_take_all_weight_however_few_the_paths(count):
    level = np.random.default_rng(0).standard_normal(count)
    level[3] = 300.0
    _, log_rho = fitted(level, 0.15)
    assert 0.0 < log_rho[3] - np.delete(log_rho, 3).max() < 4.0
    assert np.ptp(np.delete(log_rho, 3)) > 2.0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_handful_of_paths_has_a_prior(count):
    _, log_rho = fitted(np.arange(float(count)), 0.15)
    assert np.isfinite(log_rho).all()
    assert (np.diff(log_rho) > 0).all()


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
def test_a_constant_advantage_gives_a_uniform_prior(level):
    assert fitted(level)[1] == pytest.approx(np.zeros(len(level)), abs=1e-9)


def test_the_members_of_a_joined_prior_are_those_of_its_parts():
    level = np.random.default_rng(0).standard_normal((2, 20))
    parts = [fitted(one)[0] for one in level]
    paths, known = paths_of(*[LENGTH] * 20), np.ones(20 * LENGTH, bool)
    errors = np.repeat(level, LENGTH, axis=1)
    joined = Prior.joined(parts).log_rho(paths, errors, known)
    alone = [part.log_rho(paths, one[None], known)[0] for part, one in zip(parts, errors, strict=True)]
    assert (joined == np.stack(alone)).all()


def test_neighbors_change_no_bit_of_a_path():
    lengths = np.random.default_rng(0).integers(1, 40, 60)
    paths, errors = paths_of(*lengths), np.random.default_rng(1).standard_normal((1, lengths.sum()))
    known = np.random.default_rng(2).random(lengths.sum()) < 0.9
    prior, _ = Prior.fit(paths, errors[0], known, sample_size=0.3, discount=0.9)
    whole = prior.log_rho(paths, errors, known)
    for part in (np.arange(1), np.arange(13, 16), np.arange(7, 50)):
        some = paths.take(part)
        rows = some.rows()
        assert (prior.log_rho(some.packed(), errors[:, rows], known[rows]) == whole[:, rows]).all()


def test_rows_that_were_not_trained_on_stay_within_the_fitted_range():
    level = np.random.default_rng(0).standard_normal(50)
    prior, log_rho = fitted(level)
    paths, known = paths_of(*[LENGTH] * 50), np.ones(50 * LENGTH, bool)
    far = prior.log_rho(paths, np.repeat(1e6 * level, LENGTH)[None], known)[0]
    assert log_rho.min() <= far.min() < far.max() <= log_rho.max()
