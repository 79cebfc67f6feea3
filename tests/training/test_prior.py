from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.curation import effective_sample_share
from vaco_curate.training.prior import LARGEST_RANGE, Paths, kept_promise, log_prior_with_sample_size

DISCOUNT = 0.9


def promise(data, reward, value, next_value, look_ahead):
    return kept_promise(Paths.of(data), reward, value, next_value, discount=DISCOUNT, look_ahead=look_ahead)


def by_hand(data, reward, value, next_value, look_ahead):
    """The definition, row by row."""
    result = []
    ends = [*data.path_start[1:], len(data)]
    for start, end in zip(data.path_start, ends, strict=True):
        for row in range(start, end):
            reach = min(row + look_ahead, end)
            if reach == end and not (data.terminated[end - 1] or data.has_successor[end - 1]):
                reach = end - 1
            total = sum(DISCOUNT ** (k - start) * reward[k] for k in range(start, reach))
            if reach < end:
                total += DISCOUNT ** (reach - start) * value[reach]
            elif not data.terminated[end - 1]:
                total += DISCOUNT ** (reach - start) * next_value[end - 1]
            result.append(total - value[start])
    return result


@pytest.mark.parametrize("look_ahead", [0, 1, 7, 100])
@pytest.mark.parametrize("stored_successors", [False, True])
def test_the_kept_promise_equals_its_definition(look_ahead, stored_successors):
    columns = {"next_observation": np.zeros((60, 4), np.float32)} if stored_successors else {}
    data = make_transitions(episodes=6, length=10, columns=columns)
    generator = np.random.default_rng(0)
    reward, value, next_value = generator.standard_normal((3, len(data)))
    ours = promise(data, reward, value, next_value, look_ahead)
    assert ours == pytest.approx(by_hand(data, reward, value, next_value, look_ahead))


def test_values_that_predict_every_reward_keep_every_promise():
    data = make_transitions(episodes=1, length=8)
    reward = np.random.default_rng(0).standard_normal(8)
    value = np.zeros(9)
    for t in reversed(range(8)):
        value[t] = reward[t] + DISCOUNT * value[t + 1]
    assert promise(data, reward, value[:-1], value[1:], 3) == pytest.approx(np.zeros(8), abs=1e-12)


@given(st.integers(0, 1000), st.floats(0.05, 0.95), st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_the_prior_has_the_wanted_sample_size_whatever_the_scale(seed, share, shift, scale):
    signal = shift + scale * np.random.default_rng(seed).standard_normal(500)
    log_prior = log_prior_with_sample_size(signal, share)
    assert effective_sample_share(np.exp(log_prior)) == pytest.approx(share, abs=1e-3)
    assert (np.argsort(log_prior) == np.argsort(signal)).all()


def test_ties_for_the_best_do_not_collapse_the_prior():
    log_prior = log_prior_with_sample_size(np.repeat([0.0, -1.0], 50), 0.35)
    assert log_prior.min() >= -LARGEST_RANGE


def test_a_constant_signal_gives_a_uniform_prior():
    assert (log_prior_with_sample_size(np.full(5, 3.0), 0.3) == 0).all()
