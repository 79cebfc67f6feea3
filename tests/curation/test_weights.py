from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import make_transitions
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.core import transitions
from vaco_curate.curation import Candidates, effective_sample_share, reweight, summarize
from vaco_curate.curation.health import _tied_rows, score_signs
from vaco_curate.curation.weights import (
    clipped_weights,
    effective_episodes_of_best,
    effective_episodes_of_scores,
    sample_share_of_scores,
    weights_from_scores,
)
from vaco_curate.errors import SettingsError


def weighted(log_weight, **settings):
    starts, nothing = np.array([0]), np.zeros(1)
    candidates = Candidates(log_weight, "score", starts, nothing, nothing, np.zeros(len(log_weight), bool))
    return reweight(candidates, **settings)


log_weights = st.integers(0, 10_000).map(lambda seed: 3 * np.random.default_rng(seed).standard_normal(200))


@given(log_weights, st.floats(0.1, 10))
def test_weights_have_mean_one_and_keep_the_order(log_weight, temperature):
    weight = weights_from_scores(log_weight, temperature)
    assert weight.mean() == pytest.approx(1.0)
    assert (np.diff(weight[np.argsort(log_weight)]) >= 0).all()


@pytest.mark.parametrize("maximum", [None, 2.0])
@pytest.mark.parametrize("temperature", [1.0, 1e-4])
def test_extreme_weights_neither_overflow_nor_drop_a_row(temperature, maximum):
    log_weight = np.linspace(-50, 50, 240)
    selection, _ = weighted(log_weight, temperature=temperature, maximum=maximum)
    assert len(selection.kept_rows) == 240
    assert (selection.weight.astype(np.float32) > 0).all()
    assert selection.weight.mean() == pytest.approx(1.0)
    assert maximum is None or selection.weight.max() <= maximum


@given(log_weights, st.floats(1.01, 50))
def test_clipped_weights_have_mean_one_and_none_above_the_maximum(log_weight, maximum):
    weight = weights_from_scores(log_weight, 1.0)
    clipped = clipped_weights(weight, maximum)
    assert clipped.mean() == pytest.approx(1.0)
    assert clipped.max() <= maximum * (1 + 1e-12)
    below = clipped < maximum * (1 - 1e-9)
    if below.sum() > 1:
        ratio = clipped[below] / weight[below]
        assert ratio == pytest.approx(ratio[0])


@given(log_weights)
def test_clipping_and_a_higher_temperature_raise_the_effective_sample_size(log_weight):
    plain, before = weighted(log_weight, temperature=1.0, maximum=None)
    assert before == pytest.approx(effective_sample_share(plain.weight))
    clipped, _ = weighted(log_weight, temperature=1.0, maximum=3.0)
    warm, _ = weighted(log_weight, temperature=2.0, maximum=None)
    assert effective_sample_share(clipped.weight) >= before - 1e-12
    assert effective_sample_share(warm.weight) >= before


@pytest.mark.parametrize(
    "bad",
    [{"temperature": 0.0}, {"temperature": -1.0}, {"temperature": np.nan}, {"maximum": 1.0}, {"maximum": -2.0}],
)
def test_absurd_weights_are_refused(bad):
    with pytest.raises(SettingsError):
        weighted(np.zeros(4), **({"temperature": 1.0, "maximum": None} | bad))


def test_a_summary_weighs_each_episode_by_the_rows_that_are_drawn_from_it():
    data = make_transitions(
        episodes=2, length=20, columns={"reward": np.repeat([1.0, 3.0], 20).astype(np.float32)}
    )
    weight = np.repeat([3.0, 1.0], 20)
    summary = summarize(data.episode_start, data.episode_return, weight)
    assert summary.return_mean == pytest.approx(0.75 * 20 + 0.25 * 60)
    assert summarize(data.episode_start, data.episode_return, np.ones(40)).return_mean == pytest.approx(40)
    assert summary.return_quantiles == (20.0, 20.0, 60.0)
    assert summary.effective_sample_size == pytest.approx(80**2 / (20 * 9 + 20))


def test_a_summary_counts_only_rows_with_weight():
    data = make_transitions(episodes=3, length=20)
    weight = np.zeros(60)
    weight[:5] = 1.0
    summary = summarize(data.episode_start, data.episode_return, weight)
    assert (summary.rows, summary.episodes, summary.effective_sample_size) == (5, 1, 5.0)


def test_collapsed_and_tied_scores_are_reported_and_sound_ones_are_not():
    generator = np.random.default_rng(0)
    sound = generator.standard_normal(1000)
    collapsed = sound.copy()
    collapsed[0] = 50.0

    def signs(score, *, q_value=sound, one_return=False, alone=0.01, effective=50.0, episodes=100):
        return score_signs(
            score,
            np.sort(q_value),
            sample_share_of_scores(score),
            one_return=one_return,
            rows_alone=alone,
            effective_episodes=effective,
            episodes=episodes,
        )

    assert signs(sound) == []
    assert signs(np.round(sound)) == [], "rows of a path share their score"
    expected = [
        ("on 3.0 effective episodes of 100", "weights", signs(sound, effective=3.0)),
        ("are only 9 episodes", "scores", signs(sound, effective=3.0, episodes=9)),
        ("collapsed", "weights", signs(collapsed)),
        ("all scores are equal", "scores", signs(np.ones(9))),
        ("share their Q(s, a)", None, signs(sound, q_value=np.round(sound))),
        ("single TD errors", "scores", signs(sound, alone=1.0)),
        ("same return", "scores", signs(sound, one_return=True)),
    ]
    for words, against, found in expected:
        assert words in found[0].text
        assert found[0].against == against


@pytest.mark.parametrize("block", [1, 2, 3, 7, 100])
def test_tied_rows_are_counted_across_blocks(monkeypatch, block):
    monkeypatch.setattr(transitions, "BLOCK", block)
    ascending = np.array([0.0, 1, 1, 2, 3, 3, 3, 4, 5, 5])
    assert _tied_rows(ascending) == 7
    assert _tied_rows(ascending[:1]) == 0


def test_the_sample_share_of_scores_is_that_of_their_weights():
    score = 3.0 * np.random.default_rng(1).standard_normal(1000)
    share = effective_sample_share(weights_from_scores(score, 1.0))
    assert sample_share_of_scores(score) == pytest.approx(share, rel=1e-12)
    assert share == pytest.approx(np.exp(score).sum() ** 2 / (1000 * np.exp(2 * score).sum()), rel=1e-12)


def test_effective_episodes_count_episodes_and_not_rows():
    """150 episodes, of which three carry nearly all weight: 20, 20 and 40 rows of it."""
    length = np.full(150, 20)
    length[149] = 40
    start = np.cumsum(length) - length
    weight = np.full(length.sum(), 1e-9)
    for episode in (3, 70, 149):
        weight[start[episode] : start[episode] + length[episode]] = 1.0
    summary = summarize(start, np.arange(150.0), weight)
    assert summary.effective_episodes == pytest.approx(80**2 / (20**2 + 20**2 + 40**2), rel=1e-4)
    assert summary.effective_sample_size == pytest.approx(80.0, rel=1e-4)


@pytest.mark.parametrize("batch", [1, 7, 40, 1000])
def test_effective_episodes_of_scores_do_not_depend_on_the_batches(batch):
    generator = np.random.default_rng(0)
    score = generator.standard_normal(300).astype(np.float32)
    episode_id = np.repeat(np.arange(12), [5, 40, 25, 1, 29, 50, 10, 40, 40, 20, 20, 20])
    parts = [(episode_id[at : at + batch], score[at : at + batch]) for at in range(0, 300, batch)]
    sums = np.array([np.exp(score[episode_id == number].astype(float)).sum() for number in range(12)])
    expected = sums.sum() ** 2 / np.square(sums).sum()
    assert effective_episodes_of_scores(parts, float(score.max())) == pytest.approx(expected)


@pytest.mark.parametrize("rows_at_a_time", [1, 7, 1000])
def test_the_episodes_of_the_best_rows_are_those_of_a_filter(rows_at_a_time):
    generator = np.random.default_rng(0)
    episode = np.repeat(np.arange(12), generator.integers(3, 40, 12))
    score = np.round(generator.normal(size=len(episode)) + generator.normal(size=12)[episode], 1)
    starts = range(0, len(score), rows_at_a_time)
    parts = [(episode[at : at + rows_at_a_time], score[at : at + rows_at_a_time]) for at in starts]
    shares = (5, 10, 50, 100)
    found = effective_episodes_of_best(parts, score, shares)
    for share, effective in zip(shares, found, strict=True):
        count = math.ceil(share * len(score) / 100)
        kept = np.argsort(-score, kind="stable")[:count]
        carried = np.bincount(episode[kept], minlength=12)
        assert effective == pytest.approx(carried.sum() ** 2 / np.square(carried).sum(), rel=1e-12)
