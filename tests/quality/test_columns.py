"""What the board compares, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers import make_transitions

from vaco_curate.core.scorer import RowScores


@pytest.fixture
def scored(quality):
    data = make_transitions(episodes=20, length=10)
    generator = np.random.default_rng(0)
    scores = RowScores(*generator.standard_normal((5, len(data))).astype(np.float32))
    return quality["columns"].Scored(data, scores, 2.0)


def test_every_column_gives_weights(scored, quality):
    for name, column in quality["columns"].COLUMNS.items():
        weight = column(scored)
        assert weight.shape == (200,), name
        assert np.isfinite(weight).all(), name
        assert weight.min() >= 0.0 < weight.sum(), name


def test_trajectory_weights_are_those_of_hong_et_al(scored, quality):
    data, columns = scored.data, quality["columns"]
    returns = data.episode_return
    scaled = (returns - returns.min()) / (returns.max() - returns.min())
    ratio = columns.COLUMNS["RW"](scored)[data.episode_start]
    assert ratio / ratio[0] == pytest.approx(np.exp((scaled - scaled[0]) / 0.1), rel=1e-6)
    linear = data.observation[data.episode_start] @ np.array([1.0, -2.0, 0.5, 3.0])
    reward = data.reward.copy()
    reward[data.episode_start] += linear - returns
    explained = dataclasses.replace(data, reward=reward)
    assert columns.return_advantage(explained) == pytest.approx(np.zeros(20), abs=1e-5)


def test_filters_keep_the_best_rows_and_whole_episodes_by_return(scored, quality):
    columns, data = quality["columns"].COLUMNS, scored.data
    kept = columns["top 10 %"](scored) > 0
    assert kept.sum() == 20
    assert scored.scores.score[kept].min() > scored.scores.score[~kept].max()
    episodes = columns["return, top 10 %"](scored) > 0
    best = np.argsort(-data.episode_return)[:2]
    assert set(data.episode_id[episodes]) == set(data.episode_id[data.episode_start[best]])


def test_noise_adds_the_variance_that_returns_have(quality):
    datasets = quality["datasets"]
    data = make_transitions(episodes=2000, length=10)
    labelled = datasets.Labelled(data, np.zeros(len(data), int), ("a",), (0,))
    noisy = datasets._with_noise(labelled).data
    assert noisy.episode_return.var() == pytest.approx(2.0 * data.episode_return.var(), rel=0.1)
    assert (noisy.observation == data.observation).all()
