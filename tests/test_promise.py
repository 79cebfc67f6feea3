from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.curation import effective_sample_share
from vaco_curate.promise import (
    LANDMARKS,
    LARGEST_RANGE,
    LARGEST_RISE,
    PathPrior,
    Paths,
    inverse_temperature_for,
    kept_promise,
    saturated,
)

DISCOUNT = 0.9


def all_paths(data, longest=1000) -> Paths:
    return Paths.of(data, longest)


def promises(data, paths, reward, value, next_value):
    last = np.where(paths.has_successor, next_value[paths.last], value[paths.last])
    return kept_promise(paths, reward, value[paths.start], last, discount=DISCOUNT)


def by_hand(paths, reward, value, next_value):
    """The definition, path by path."""
    result = []
    for path in range(len(paths)):
        first, last = paths.start[path], paths.last[path]
        reach = last if not (paths.terminated[path] or paths.has_successor[path]) else last + 1
        total = sum(DISCOUNT ** (k - first) * reward[k] for k in range(first, reach))
        if reach == last:
            total += DISCOUNT ** (reach - first) * value[last]
        elif not paths.terminated[path]:
            total += DISCOUNT ** (reach - first) * next_value[last]
        result.append(total - value[first])
    return result


@pytest.mark.parametrize("longest", [1, 3, 1000])
@pytest.mark.parametrize("stored_successors", [False, True])
def test_the_kept_promise_equals_its_definition(longest, stored_successors):
    columns = {"next_observation": np.zeros((60, 4), np.float32)} if stored_successors else {}
    data = make_transitions(episodes=6, length=10, columns=columns)
    paths = all_paths(data, longest)
    reward, value, next_value = np.random.default_rng(0).standard_normal((3, len(data)))
    ours = promises(data, paths, reward, value, next_value)
    assert ours == pytest.approx(by_hand(paths, reward, value, next_value))
    some = paths.take(np.arange(0, len(paths), 2))
    assert promises(data, some, reward, value, next_value) == pytest.approx(ours[::2])


def test_values_that_predict_every_reward_keep_every_promise():
    data = make_transitions(episodes=1, length=8)
    reward = np.random.default_rng(0).standard_normal(8)
    value = np.zeros(9)
    for t in reversed(range(8)):
        value[t] = reward[t] + DISCOUNT * value[t + 1]
    kept = promises(data, all_paths(data, 3), reward, value[:-1], value[1:])
    assert kept == pytest.approx(np.zeros(3), abs=1e-12)


def test_long_paths_are_cut_and_every_row_is_in_one_path():
    data = make_transitions(episodes=3, length=10)
    paths = all_paths(data, 4)
    assert paths.start.tolist() == [0, 3, 6, 10, 13, 16, 20, 23, 26]
    assert paths.length.tolist() == [3, 3, 4] * 3
    assert paths.has_successor.tolist() == [True, True, False] * 3
    assert paths.spread(np.arange(9)).tolist() == np.repeat(np.arange(9), [3, 3, 4] * 3).tolist()


def finished_paths(length) -> Paths:
    """Paths that end truly, one after the other."""
    count = len(length)
    return Paths(np.cumsum(length) - length, np.asarray(length), np.ones(count, bool), np.zeros(count, bool))


def fitted(start, promise, sample_size=0.3, paths=None, plateau=0.0):
    paths = finished_paths(np.full(len(start), 10)) if paths is None else paths
    prior, log_rho = PathPrior.fit(
        paths,
        start,
        promise[None],
        sample_size=sample_size,
        plateau=plateau,
        discount=DISCOUNT,
        longest_path=1000,
        bandwidth=0.3,
    )
    return prior, log_rho[0]


def test_a_path_is_compared_with_those_that_start_nearby():
    """Two starts far apart, promises of another size at each: the good ones of both are alike."""
    generator = np.random.default_rng(0)
    start = np.repeat([[0.0, 0.0], [5.0, 5.0]], 100, axis=0) + 0.01 * generator.standard_normal((200, 2))
    good = np.tile([True, False], 100)
    promise = np.where(good, 1.0, -1.0) + 0.1 * generator.standard_normal(200)
    promise[100:] = 50.0 + 10.0 * promise[100:]
    _, log_rho = fitted(start, promise)
    first, second = log_rho[:100], log_rho[100:]
    for one, other in ((first, second), (second, first)):
        assert one[good[:100]].mean() > other[~good[:100]].max()
    everywhere = np.zeros_like(start)
    _, log_rho = fitted(everywhere, promise)
    assert log_rho[:100].max() < log_rho[100:].min(), "from one start, the larger promise is better"


def test_a_path_that_starts_alone_is_compared_with_all_others():
    start = np.append(np.zeros((99, 2)), [[9.0, 9.0]], axis=0)
    promise = np.append(np.linspace(-1, 1, 99), 3.0)
    _, log_rho = fitted(start, promise)
    assert log_rho[-1] > np.median(log_rho[:-1])


def test_the_local_center_and_deviation_are_those_of_the_weighted_rows():
    generator = np.random.default_rng(1)
    start, promise = generator.standard_normal((9, 2)), generator.standard_normal(9)
    length = generator.integers(1, 20, 9)
    paths = finished_paths(length)
    prior, _ = fitted(start, promise, paths=paths)
    ours = prior.standardized(paths, start, promise[None])[0]
    for path in range(9):
        distance = np.mean((start - start[path]) ** 2, axis=1)
        nearby = np.exp(-distance / (2 * 0.3**2))
        rows_a_path = (length * nearby).sum() / nearby.sum()
        weight = length * nearby + 5.0 * rows_a_path * length / length.sum()
        weight /= weight.sum()
        order = np.argsort(promise)
        fine = np.repeat(promise[order], np.round(1e6 * weight[order]).astype(int))  # rows, a millionth each
        center = fine[len(fine) // 3 : 2 * len(fine) // 3].mean()
        deviation = np.abs(fine - center).mean()
        assert ours[path] == pytest.approx((promise[path] - center) / deviation, rel=1e-3)


def test_two_behaviors_that_share_the_paths_equally_keep_their_distance():
    """A median would jump from one to the other with the noise of the starts."""
    generator = np.random.default_rng(0)
    good = np.tile([True, False], 100)
    promise = np.where(good, 1.0, -1.0) + 0.01 * generator.standard_normal(200)
    _, log_rho = fitted(0.2 * generator.standard_normal((200, 6)), promise)
    assert log_rho[good].std() < 0.2 * (log_rho[good].mean() - log_rho[~good].mean())
    assert log_rho[~good].std() < 0.2 * (log_rho[good].mean() - log_rho[~good].mean())


@given(st.integers(0, 1000), st.floats(0.1, 0.9), st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_the_prior_has_the_wanted_sample_size_whatever_the_scale(seed, share, shift, scale):
    generator = np.random.default_rng(seed)
    promise = shift + scale * generator.standard_normal(300)
    length = generator.integers(1, 50, 300)
    _, log_rho = fitted(np.zeros((300, 2)), promise, share, finished_paths(length))
    weight = np.repeat(np.exp(log_rho), length)
    assert effective_sample_share(weight) == pytest.approx(share, abs=1e-2)
    assert weight.mean() == pytest.approx(1.0)
    assert (np.diff(log_rho[np.argsort(promise)]) >= 0).all()


def test_ties_for_the_best_do_not_collapse_the_prior():
    best_is_center, center_between = np.repeat([0.0, -2.0], 50), np.repeat([1.0, -1.0], 50)
    for signal in (best_is_center, center_between):
        inverse_temperature = inverse_temperature_for(signal, np.ones(100), 0.35, 0.3)
        assert inverse_temperature == pytest.approx(LARGEST_RISE / (signal.max() or 2.0))


@pytest.mark.parametrize("terrible", [0.05, 0.2])
def test_terrible_paths_do_not_make_all_others_alike(terrible):
    generator = np.random.default_rng(0)
    crashed = np.arange(400) < terrible * 400
    promise = np.where(crashed, -1e4, generator.standard_normal(400))
    _, log_rho = fitted(np.zeros((400, 2)), promise, 0.15, plateau=0.3)
    assert effective_sample_share(np.exp(log_rho)) == pytest.approx(0.15, abs=0.02)
    assert log_rho[~crashed].std() > 0.5
    assert np.ptp(log_rho) == pytest.approx(LARGEST_RANGE)


@pytest.mark.parametrize("count", [10, 20, 39, 200])
def test_one_outlier_does_not_take_all_weight_however_few_the_paths(count):
    promise = np.random.default_rng(0).standard_normal(count)
    promise[3] = 300.0
    _, log_rho = fitted(np.zeros((count, 2)), promise, 0.15, plateau=0.3)
    assert 0.0 < log_rho[3] - np.delete(log_rho, 3).max() < 4.0
    assert np.ptp(np.delete(log_rho, 3)) > 2.0


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_handful_of_paths_has_a_prior(count):
    _, log_rho = fitted(np.zeros((count, 2)), np.arange(float(count)), 0.15, plateau=0.3)
    assert np.isfinite(log_rho).all()
    assert (np.diff(log_rho) > 0).all()


@pytest.mark.parametrize("noise", [1.0, 15.0])
@pytest.mark.parametrize("share", [0.04, 0.1])
def test_where_the_best_is_rare_the_others_do_not_outweigh_it(share, noise):
    """However many the others are and however much they differ: a sample size alone cannot do that."""
    generator = np.random.default_rng(0)
    good = np.arange(500) < share * 500
    promise = np.where(good, 100.0 + generator.standard_normal(500), noise * generator.standard_normal(500))
    _, log_rho = fitted(np.zeros((500, 2)), promise, 0.15, plateau=0.3)
    weight = np.exp(log_rho)
    assert weight[good].sum() > 0.99 * weight.sum()
    assert effective_sample_share(weight) == pytest.approx(share, rel=0.2)
    weight = np.exp(fitted(np.zeros((500, 2)), promise, 0.15)[1])
    assert weight[good].sum() < 0.85 * weight.sum()


@pytest.mark.parametrize("shape", ["normal", "exponential", "four grades", "half and half"])
def test_without_a_rare_best_the_sample_size_decides(shape):
    generator = np.random.default_rng(0)
    noise = generator.standard_normal(400)
    promise = {
        "normal": noise,
        "exponential": generator.exponential(size=400),
        "four grades": np.arange(400) // 100 + 0.1 * noise,
        "half and half": np.arange(400) // 200 + 0.03 * noise,
    }[shape]
    zeros = np.zeros((400, 2))
    _, log_rho = fitted(zeros, promise, 0.15, plateau=0.3)
    assert (log_rho == fitted(zeros, promise, 0.15)[1]).all()
    assert log_rho.max() - np.median(log_rho) < LARGEST_RISE + 5.0


def test_a_standard_normal_promise_has_the_temperature_of_theory():
    """exp(z / T) has an effective sample size of exp(-1 / T^2)."""
    signal = np.random.default_rng(0).standard_normal(10_000)
    found = inverse_temperature_for(signal, np.ones(10_000), 0.3, 0.3)
    assert found == pytest.approx(np.sqrt(-np.log(0.3)), rel=0.1)


def test_a_few_outliers_do_not_rule_the_scale_of_all_others():
    """One path in two hundred far above the others, and one far below."""
    promise = np.random.default_rng(0).standard_normal(200)
    _, without = fitted(np.zeros((200, 2)), promise, 0.15, plateau=0.3)
    promise[[3, 5]] = 300.0, -300.0
    _, log_rho = fitted(np.zeros((200, 2)), promise, 0.15, plateau=0.3)
    others = np.delete(np.arange(200), [3, 5])
    assert np.exp(log_rho[3]) / np.exp(log_rho).sum() < 0.15
    assert np.std(log_rho[others]) > 0.5 * np.std(without[others])
    assert (log_rho.argmax(), log_rho.argmin()) == (3, 5)


@pytest.mark.parametrize("plateau", [0.3, 0.0])
def test_rows_get_the_log_rho_that_they_were_fitted_with(plateau):
    """Outliers and unequal lengths included; and a path twice is as good as a path with twice the rows."""
    generator = np.random.default_rng(0)
    start, promise = np.zeros((100, 2)), generator.standard_normal(100)
    promise[[3, 5]] = 300.0, -300.0
    length = generator.integers(1, 30, 100)
    paths = finished_paths(length)
    prior, log_rho = fitted(start, promise, 0.3, paths, plateau)
    assert prior.log_rho(paths, start, promise[None])[0] == pytest.approx(log_rho, abs=1e-12)
    twice = fitted(start, promise, 0.3, finished_paths(2 * length), plateau)[1]
    assert twice == pytest.approx(log_rho, rel=1e-9)
    copies = finished_paths(np.tile(length, 2))
    copied = fitted(np.tile(start, (2, 1)), np.tile(promise, 2), 0.3, copies, plateau)[1]
    assert copied == pytest.approx(np.tile(log_rho, 2), rel=1e-9)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_the_prior_has_no_scale_of_its_own(shift, scale):
    promise = np.random.default_rng(0).standard_normal(60)
    promise[0] = 40.0
    start = np.zeros((60, 2))
    _, log_rho = fitted(start, promise, 0.3, plateau=0.3)
    _, moved = fitted(start, shift + scale * promise, 0.3, plateau=0.3)
    assert moved == pytest.approx(log_rho, abs=1e-4)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_saturation_keeps_the_order_and_what_is_usual(values):
    ordered = np.sort(values)[None]
    bounds = np.array([-1.0]), np.array([2.0]), np.array([0.5])
    ours = saturated(ordered, *bounds)
    apart = np.diff(ordered) > 1e-3
    assert (np.diff(ours)[apart] > 0).all()
    assert ours.min() >= -1.5
    assert ours.max() <= 2.5
    usual = (ordered >= -1.0) & (ordered <= 2.0)
    assert (ours[usual] == ordered[usual]).all()
    just_beyond = np.array([[2.0 + 1e-6, -1.0 - 1e-6]])
    assert saturated(just_beyond, *bounds) == pytest.approx(just_beyond, abs=1e-11)


@pytest.mark.parametrize("promise", [np.full(5, 3.0), np.full(5, -1e9), np.zeros(1)])
def test_a_constant_promise_gives_a_uniform_prior(promise):
    _, log_rho = fitted(np.zeros((len(promise), 2)), promise)
    assert log_rho == pytest.approx(np.zeros(len(promise)), abs=1e-9)


def test_the_members_of_a_joined_prior_are_those_of_its_parts():
    generator = np.random.default_rng(0)
    start, promise = generator.standard_normal((20, 3)), generator.standard_normal((2, 20))
    parts = [fitted(start, one)[0] for one in promise]
    paths = finished_paths(np.full(20, 10))
    joined = PathPrior.joined(parts).log_rho(paths, start, promise)
    alone = [part.log_rho(paths, start, one[None])[0] for part, one in zip(parts, promise, strict=True)]
    assert joined == pytest.approx(np.stack(alone))


def test_neighbors_change_no_bit_of_a_path():
    generator = np.random.default_rng(0)
    start, promise = generator.standard_normal((300, 3)), generator.standard_normal((1, 300))
    prior, _ = fitted(start, promise[0])
    paths = finished_paths(np.full(300, 10))
    whole = prior.log_rho(paths, start, promise)
    for part in (np.arange(1), np.arange(63, 66), np.arange(7, 250)):
        assert (prior.log_rho(paths.take(part), start[part], promise[:, part]) == whole[:, part]).all()


def test_the_prior_prefers_the_path_that_earns_what_others_only_promise():
    """Two paths from one start: the value of the start is what the good one earns."""
    data = make_transitions(
        episodes=2, length=5, columns={"terminated": np.tile([0, 0, 0, 0, 1], 2), "truncated": np.zeros(10)}
    )
    paths = all_paths(data)
    reward = np.repeat([1.0, 0.0], 5)
    promise = kept_promise(paths, reward, np.array([5.0, 5.0]), np.zeros(2), discount=1.0)
    assert promise.tolist() == [0.0, -5.0]
    _, log_rho = fitted(np.zeros((2, 2)), promise, 0.6, paths)
    assert log_rho[0] > log_rho[1]


@pytest.mark.parametrize("has_successor", [True, False])
@pytest.mark.parametrize("reward", [1.0, -1.0])
def test_identical_behavior_is_judged_alike_however_long_its_recording(reward, has_successor):
    """Constant rewards, exact values, recordings of many lengths; then one path that does better, and
    recordings longer than any that it was fitted to."""
    length = np.append(np.arange(20, 220), 120)
    count = len(length)
    paths = Paths(np.cumsum(length) - length, length, np.zeros(count, bool), np.full(count, has_successor))
    earned = np.repeat(np.where(np.arange(count) < count - 1, reward, reward + 0.5), length)
    value = np.full(count, reward / (1.0 - 0.8))  # of a shorter horizon than the paths'
    promise = kept_promise(paths, earned, value, value, discount=0.98)
    assert np.ptp(promise[:-1]) > 5.0, "the promises themselves depend on the length"
    prior, _ = PathPrior.fit(
        paths,
        np.zeros((count, 2)),
        promise[None],
        sample_size=0.3,
        plateau=0.3,
        discount=0.98,
        longest_path=1000,
        bandwidth=0.3,
    )
    signal = prior.standardized(paths, np.zeros((count, 2)), promise[None])[0]
    assert np.abs(signal[:-1]).max() < 0.01 * signal[-1]
    longer = np.array([120, 300, 900])
    unseen = Paths(np.cumsum(longer) - longer, longer, np.zeros(3, bool), np.full(3, has_successor))
    promise = kept_promise(unseen, np.full(longer.sum(), reward), value[:3], value[:3], discount=0.98)
    other = prior.standardized(unseen, np.zeros((3, 2)), promise[None])[0]
    assert np.abs(other).max() < 0.01 * signal[-1]


def test_a_lonely_long_path_is_not_its_own_measure():
    generator = np.random.default_rng(0)
    good = np.arange(100) < 10
    length = np.where(good, 1000, 100)
    promise = np.where(good, 10.0, -10.0) + generator.standard_normal(100)
    _, log_rho = fitted(20.0 * generator.standard_normal((100, 6)), promise, paths=finished_paths(length))
    assert log_rho[good].min() > log_rho[~good].max()
    assert np.ptp(log_rho[good]) > 0.0


def test_rows_that_were_not_trained_on_stay_within_the_fitted_range():
    generator = np.random.default_rng(0)
    start, promise = generator.standard_normal((50, 3)), generator.standard_normal(50)
    prior, log_rho = fitted(start, promise)
    far = prior.log_rho(finished_paths(np.full(50, 10)), start, 1e6 * promise[None])[0]
    assert (far.min(), far.max()) == (log_rho.min(), log_rho.max())


def test_landmarks_of_many_paths_are_not_all_of_one_kind():
    """Good and bad paths in turn, twice as many as landmarks."""
    good = np.tile([1.0, -1.0], LANDMARKS)
    prior, _ = fitted(np.zeros((len(good), 1)), good)
    assert 0.4 < (prior.promise > 0).mean() < 0.6
