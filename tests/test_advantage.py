from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_paths import paths_of

from vaco_curate.core.advantage import SCALES, Persistence, TDErrors


def switching(segment: int, *, noise: float, paths: int = 40, length: int = 1000, seed: int = 0):
    """Paths whose actors, good and bad ones, change every so many steps; and which rows are by good ones."""
    generator = np.random.default_rng(seed)
    count = -(-length // segment)
    actors = np.repeat(generator.random((paths, count)) < 0.5, segment, axis=1)[:, :length].ravel()
    errors = np.where(actors, 1.0, -1.0) + noise * generator.standard_normal(paths * length)
    return paths_of(*[length] * paths), errors, actors


def ends(paths, count=None):
    """Rows of paths of which the first ``count``, or all, end truly."""
    terminated = np.zeros(paths.length.sum(), bool)
    terminated[paths.last[:count]] = True
    return terminated


def both(errors):
    """TD errors that are the same with and without a discount."""
    return TDErrors(errors, errors)


def smoothed(paths, errors, known=None, ended=None):
    errors = errors if isinstance(errors, TDErrors) else both(errors)
    known = np.ones(len(errors.discounted), bool) if known is None else known
    found = Persistence.fit(paths, errors, known, ends(paths, ended))
    return found, found.smoothed(paths, errors, known)


def test_td_errors_by_hand():
    """Two paths, of two members: one that ends truly after three rows, and one of a row, which goes on."""
    errors = TDErrors.of(
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.array([[10.0, 20.0, 30.0, 40.0], [0.0, 0.0, 0.0, 0.0]]),
        np.array([[np.nan, 50.0], [7.0, 6.0]]),
        np.array([False, False, True, False]),
        paths_of(3, 1),
        0.5,
    )
    by_hand = [1.0 + 20.0 - 10.0, 2.0 + 30.0 - 20.0, 3.0 - 30.0, 4.0 + 50.0 - 40.0]
    assert errors.undiscounted.tolist() == [by_hand, [1.0, 2.0, 3.0, 4.0 + 6.0]]
    by_hand = [1.0 + 10.0 - 10.0, 2.0 + 15.0 - 20.0, 3.0 - 30.0, 4.0 + 25.0 - 40.0]
    assert errors.discounted.tolist() == [by_hand, [1.0, 2.0, 3.0, 4.0 + 3.0]]
    assert [member.discounted.tolist() for member in errors.members()] == errors.discounted.tolist()


def test_values_that_predict_every_reward_leave_no_discounted_error():
    reward, value = np.random.default_rng(0).standard_normal(8), np.zeros(9)
    for t in reversed(range(8)):
        value[t] = reward[t] + 0.9 * value[t + 1]
    errors = TDErrors.of(reward, value[None, :-1], np.zeros((1, 1)), np.arange(8) == 7, paths_of(8), 0.9)
    assert errors.discounted[0] == pytest.approx(np.zeros(8))


@given(st.integers(0, 1000))
def test_undiscounted_errors_sum_to_what_a_stretch_earns_and_how_much_more_its_end_is_worth(seed):
    generator = np.random.default_rng(seed)
    reward, value = generator.standard_normal(8), generator.standard_normal(9)
    errors = TDErrors.of(reward, value[None, :-1], value[None, -1:], np.zeros(8, bool), paths_of(8), 0.9)
    begin, end = sorted(generator.choice(9, 2, replace=False))
    found = errors.undiscounted[0, begin:end].sum()
    assert found == pytest.approx(reward[begin:end].sum() + value[end] - value[begin])


def test_values_that_know_each_behavior_do_not_hide_which_is_better():
    """Actors of whole paths among states of their own, where V has learned what each earns for ever."""
    generator, lengths = np.random.default_rng(0), [50] * 40
    level = np.repeat(generator.permutation(np.arange(40.0)), 50)
    value, paths = level / (1.0 - 0.99), paths_of(*lengths)
    reward = level + generator.standard_normal(2000)
    last, going_on = value[None, paths.last], np.zeros(2000, bool)
    (errors,) = TDErrors.of(reward, value[None], last, going_on, paths, 0.99).members()
    assert np.corrcoef(errors.discounted, level)[0, 1] < 0.1
    found, advantage = smoothed(paths, errors, ended=0)
    assert found.scale == math.inf
    assert np.corrcoef(advantage, level)[0, 1] > 0.99


def test_that_states_are_alike_for_longer_says_nothing_of_how_long_behavior_persists():
    """Actors take turns, and all of them get more in some states than in others."""
    paths, discounted, good = switching(60, noise=3.0)
    state = np.repeat(np.random.default_rng(1).standard_normal(40), 1000)
    found, advantage = smoothed(paths, TDErrors(discounted, discounted + state))
    alone, without = smoothed(paths, discounted)
    assert (found.scale, found.shrinkage) == (alone.scale, alone.shrinkage)
    assert math.isfinite(found.scale)
    assert np.corrcoef(advantage - without, state)[0, 1] > 0.99, "but that an actor comes to good states counts"
    assert np.corrcoef(advantage, good)[0, 1] > 0.3


def test_smoothing_equals_its_definition():
    generator = np.random.default_rng(0)
    paths, errors, known = paths_of(7, 1, 12), generator.standard_normal(20), generator.random(20) < 0.8
    one = Persistence(scale=2.5, shrinkage=4.0, low=-1.0, high=1.5, expected=0.25, predicted=0.5)
    ours = one.smoothed(paths, both(errors), known)
    for start, length in zip(paths.start, paths.length, strict=True):
        for row in range(start, start + length):
            others = np.arange(start, start + length)
            weight = np.exp(-np.abs(others - row) / 2.5) * known[others]
            total = (weight * np.clip(errors[others], -1.0, 1.5)).sum()
            assert ours[row] == pytest.approx((total + 4.0 * 0.25) / (weight.sum() + 4.0), abs=1e-7)


@pytest.mark.parametrize(
    ("segment", "expected"), [(60, {10.0, 30.0}), (400, {30.0, 100.0, 300.0}), (1000, {math.inf})]
)
def test_the_scale_is_that_over_which_behavior_persists(segment, expected):
    paths, errors, good = switching(segment, noise=3.0)
    found, advantage = smoothed(paths, errors)
    assert found.scale in expected
    told_apart = np.mean(advantage[good][:2000, None] > advantage[~good][None, :2000])
    assert told_apart > 0.85
    assert np.mean(errors[good][:2000, None] > errors[~good][None, :2000]) < 0.75, "single errors tell less"


def test_evidence_is_shrunk_by_the_ratio_of_noise_to_what_differs():
    """Paths that differ with deviation 1, and noise of deviation s a step: the best shrinkage is s^2 rows."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 200, 3000)
    for noise in (3.0, 10.0):
        level = np.repeat(generator.standard_normal(3000), lengths)
        errors = level + noise * generator.standard_normal(lengths.sum())
        found, _ = smoothed(paths_of(*lengths), errors)
        assert found.scale == math.inf
        assert noise**2 / 1.6 < found.shrinkage < 1.6 * noise**2


def test_a_common_error_of_all_values_says_nothing_of_persistence():
    generator = np.random.default_rng(0)
    errors = generator.standard_normal(40_000)
    for shift in (0.0, 5.0):
        found, _ = smoothed(paths_of(*[200] * 200), errors + shift)
        assert found.predicted < 0.01


@given(st.floats(1e-3, 1e4))
def test_the_advantage_has_the_scale_of_rewards_and_persistence_none(scale):
    paths, errors, _ = switching(60, noise=2.0, paths=5)
    (found, advantage), (other, moved) = smoothed(paths, errors), smoothed(paths, scale * errors)
    assert (other.scale, other.shrinkage) == (found.scale, found.shrinkage)
    assert moved == pytest.approx(scale * advantage, rel=1e-9, abs=1e-9 * scale)


def test_rows_of_whole_paths_tie_and_short_paths_say_little():
    generator = np.random.default_rng(0)
    lengths = np.append(generator.integers(50, 200, 300), [2])
    level = np.repeat(np.append(generator.standard_normal(300), [1.0]), lengths)
    paths = paths_of(*lengths)
    found, advantage = smoothed(paths, level + 3.0 * generator.standard_normal(len(level)))
    assert found.scale == math.inf
    spread = [np.ptp(advantage[a : b + 1]) for a, b in zip(paths.start, paths.last, strict=True)]
    assert max(spread) == 0.0
    errors = np.repeat(1.0, len(level))
    constant = found.smoothed(paths, both(errors), np.ones(len(level), bool))
    assert constant[-1] < 0.5 * constant[: lengths[0]].min()


@pytest.mark.parametrize(("ended", "expected"), [(0, 2.0), (1, 1.0), (2, 0.0)])
def test_a_row_of_which_nothing_is_known_is_as_the_mean_and_as_nothing_after_a_true_end(ended, expected):
    paths, errors, known = paths_of(30, 1), np.repeat([1.0, 3.0, 9.0], (15, 15, 1)), np.arange(31) < 30
    found, advantage = smoothed(paths, errors, known, ended)
    assert found.expected == pytest.approx(expected, rel=1e-2)  # clipped at quantiles between the rows
    assert advantage[-1] == found.expected


@given(st.floats(-100.0, 100.0))
def test_where_no_path_ends_truly_a_constant_reward_changes_no_order(reward):
    """Nor does it make long paths better or worse than short ones."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(5, 200, 100)
    level = np.repeat(generator.standard_normal(100), lengths)
    paths, errors = paths_of(*lengths), level + 3.0 * generator.standard_normal(lengths.sum())
    (_, before), (_, after) = smoothed(paths, errors, ended=0), smoothed(paths, errors + reward, ended=0)
    assert after == pytest.approx(before + reward, abs=1e-9)


@pytest.mark.parametrize(
    ("lengths", "errors", "known"),
    [
        ((1,), [3.0], [True]),
        ((1,), [math.nan], [False]),
        ((1,) * 50, list(range(50)), [True] * 50),
        ((5,), [0.0] * 5, [True] * 5),
        ((5,), [math.nan] * 5, [False] * 5),
    ],
)
def test_data_without_persistence_is_smoothed_over_whole_paths(lengths, errors, known):
    found, advantage = smoothed(paths_of(*lengths), np.array(errors, float), np.array(known))
    assert found.scale == SCALES[-1]
    assert np.isfinite(advantage).all()


def test_persistence_is_measured_on_drawn_paths_where_there_are_many(monkeypatch):
    paths, errors, _ = switching(60, noise=3.0)
    whole, _ = smoothed(paths, errors)
    monkeypatch.setattr("vaco_curate.core.advantage.FITTED_ROWS", 20_000)
    part, _ = smoothed(paths, errors + 5.0, ended=20)
    assert 1.0 < part.expected < 4.0, "of the drawn ones, some half end truly"
    assert part != whole
    assert part.scale == whole.scale
    assert part.shrinkage == pytest.approx(whole.shrinkage, rel=1.0)


def test_one_enormous_error_decides_nothing():
    paths, errors, _ = switching(60, noise=3.0)
    known = np.ones(len(errors), bool)
    before = Persistence.fit(paths, both(errors), known, ends(paths, 0))
    errors[12_345] = 1e6
    after = Persistence.fit(paths, both(errors), known, ends(paths, 0))
    assert (after.scale, after.shrinkage) == (before.scale, before.shrinkage)
    assert after.expected == pytest.approx(before.expected, abs=1e-2)
    assert after.smoothed(paths, both(errors), known).max() < 10.0


def test_errors_that_cancel_ahead_of_every_row_predict_nothing():
    paths = paths_of(3)
    found = Persistence.fit(paths, both(np.array([1.0, -1.0, 0.0])), np.ones(3, bool), ends(paths))
    assert math.isnan(found.predicted)
