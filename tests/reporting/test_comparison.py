"""Two runs on the same dataset."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions, write_scores

from vaco_curate.core.scorer import RowScores
from vaco_curate.reporting.comparison import compare


@pytest.fixture
def table(tmp_path):
    """Scores of ten episodes of ten rows, given by episode."""
    data = make_transitions(episodes=10, length=10)

    def made(by_episode, name):
        zeros = np.zeros(100, np.float32)
        score = np.repeat(by_episode, 10).astype(np.float32)
        return write_scores(tmp_path / name, data, RowScores(score, *[zeros] * 4))

    return made


def test_equal_scores_agree_and_reversed_ones_do_not(table):
    up, down = table(np.arange(10), "up.parquet"), table(-np.arange(10), "down.parquet")
    same, reverse = compare(up, up, "up"), compare(up, down, "down")
    assert (same.spearman, same.pearson, same.overlap) == (1.0, 1.0, {10: 1.0, 25: 1.0, 50: 1.0})
    assert reverse.spearman == reverse.pearson == pytest.approx(-1)
    assert reverse.overlap == {10: 0.0, 25: 0.0, 50: 0.0}
    assert set(reverse.different["episode"][:2]) == {0, 9}


def test_what_two_runs_share_of_the_best_and_where_they_differ(table):
    first = np.arange(10)
    second = first.copy()
    second[[9, 0]] = second[[0, 9]]
    found = compare(table(first, "a.parquet"), table(second, "b.parquet"), "b")
    assert found.overlap[10] == 0.0
    assert found.overlap[50] == pytest.approx(0.8)
    assert found.different.row(0, named=True)["rank"] in (0.0, 1.0)
    assert found.correlations[0].signal == "score"


def test_scores_that_are_all_equal_have_no_correlation(table):
    found = compare(table(np.ones(10), "a.parquet"), table(np.arange(10), "b.parquet"), "b")
    assert found.spearman is None
