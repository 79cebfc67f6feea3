"""What a report says of scores beside returns."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions, write_scores

from vaco_curate.core.scorer import RowScores
from vaco_curate.reporting.facts import report_facts


@pytest.fixture
def warnings_of(tmp_path):
    """Warnings about scores of 36 episodes that are given by episode."""

    def found(by_episode):
        data = make_transitions(episodes=36)
        score = np.repeat(by_episode(data.episode_return), data.episode_length).astype(np.float32)
        zeros = np.zeros(len(data), np.float32)
        table = write_scores(tmp_path / "scores.parquet", data, RowScores(score, *[zeros] * 4))
        manifest = {"warnings": [{"text": "from the run", "against": None}]}
        assert report_facts(table, manifest, None, {}).warnings[0] == "from the run"
        return " ".join(report_facts(table, manifest, None, {}).warnings[1:])

    return found


def test_scores_against_returns_and_without_regard_to_them_are_warned_of(warnings_of):
    assert "higher returns tend to have lower scores (Spearman -1.00)" in warnings_of(lambda earned: -earned)
    mixed = warnings_of(lambda earned: np.argsort(np.argsort(earned)) * 7 % 36)
    assert "hardly correlate with the returns" in mixed
    assert "correlation is undefined" in warnings_of(np.zeros_like)
    assert warnings_of(lambda earned: earned) == ""
