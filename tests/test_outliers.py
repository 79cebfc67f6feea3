"""Single numbers that are far from all others are named, with their row; what is merely rare is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import make_transitions, write_d4rl

from vaco_curate.core.outliers import outliers
from vaco_curate.core.scaling import constant_columns, fit_scaling, mean_and_deviation


def with_value(name, row, value, **options):
    data = make_transitions(**options)
    column = getattr(data, name).copy()
    column[(row, 1) if column.ndim == 2 else row] = value
    return dataclasses.replace(data, **{name: column})


@pytest.mark.parametrize("episodes", [6, 100])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "words"), [("reward", "the reward"), ("observation", "observation[1]"), ("action", "action[1]")]
)
def test_one_damaged_number_is_named_with_its_row(name, words, sign, episodes):
    (said,) = outliers(with_value(name, 77, sign * 1000.0, episodes=episodes))
    assert said.startswith(f"row 77: {words} is {sign * 1000}")


def test_what_is_rare_or_crashes_is_no_outlier():
    data = make_transitions(episodes=100)
    assert outliers(data) == []
    reward = np.zeros(len(data), np.float32)
    reward[1999] = 1.0  # one success
    assert outliers(dataclasses.replace(data, reward=reward)) == []
    reward = data.reward.copy()
    reward[data.episode_start[1:] - 1] = -100.0  # every episode ends in a crash
    assert outliers(dataclasses.replace(data, reward=reward)) == []


def test_inspect_and_score_say_it(vaco, here):
    write_d4rl(here / "data.hdf5", with_value("reward", 7, 1e6, episodes=100))
    (here / "tiny.json").write_text('{"value": {"updates": 20}, "bilevel": {"updates": 0}}')
    assert "row 7: the reward is 1e+06" in vaco("inspect", "data.hdf5").stderr
    outcome = vaco("score", "data.hdf5", "--config", "tiny.json", "--json")
    assert outcome.code == 0, outcome.stderr
    assert any("row 7: the reward is 1e+06" in warning for warning in outcome.json["warnings"])


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_observations_are_scaled_alike_in_any_unit(unit):
    data = make_transitions()
    observation = data.observation.astype(np.float64) * unit
    scaling = fit_scaling(dataclasses.replace(data, observation=observation), reward_shift=0.0)
    assert scaling.observation(observation).std(axis=0) == pytest.approx(np.ones(4), rel=1e-5)


def test_constant_columns_and_rounding_dust_are_not_blown_up():
    columns = np.random.default_rng(0).standard_normal((500, 5))
    columns[:, 1] = 7.0
    columns[:, 2] *= 1e-12
    columns[:, 3] = np.float32(1e5) + columns[:, 3] * 1e-3
    columns[:, 4] *= 1e9  # a clock, beside which nothing is negligible
    assert constant_columns(*mean_and_deviation(columns)).tolist() == [False, True, True, True, False]
