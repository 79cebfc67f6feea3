"""What the spread of the members says of filters and episodes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions, write_scores

from vaco_curate.core.scorer import RowScores
from vaco_curate.curation import Candidates
from vaco_curate.reporting.uncertainty import uncertainty


@pytest.fixture
def table(tmp_path):
    def write(data, score, score_std):
        zeros = np.zeros(len(data), np.float32)
        scores = RowScores(score.astype(np.float32), score_std.astype(np.float32), zeros, zeros, zeros)
        written = write_scores(tmp_path / "scores.parquet", data, scores)
        return Candidates.scored(written), written

    return write


def test_rows_within_one_spread_of_a_cut_are_counted_on_both_sides(table):
    data = make_transitions(episodes=10, length=10)
    found = uncertainty(*table(data, np.arange(100.0), np.full(100, 3.1)))
    half = next(cut for cut in found.cuts if cut.share == 50)  # the cut is at 49.5
    assert half.kept == pytest.approx(3 / 50)  # 50, 51, 52
    assert half.dropped == pytest.approx(3 / 50)  # 47, 48, 49
    assert found.spread == pytest.approx(3.1 / np.arange(100.0).std())


def test_the_most_uncertain_episodes_come_first(table):
    data = make_transitions(episodes=10, length=10)
    score_std = np.repeat(np.linspace(0, 1, 10), 10)
    found = uncertainty(*table(data, np.random.default_rng(0).standard_normal(100), score_std))
    assert [episode.episode_id for episode in found.episodes] == [9, 8, 7, 6, 5]
    assert found.episodes[0].score_std == pytest.approx(1.0)
    assert found.episodes[0].episode_return == pytest.approx(data.episode_return[9])


def test_one_member_has_no_uncertainty_to_tell(table):
    data = make_transitions()
    assert uncertainty(*table(data, np.arange(120.0), np.full(120, np.nan))) is None
