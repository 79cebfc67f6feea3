"""What the documents and the commands say of the board is what its table of results holds."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from vaco_curate.curation.advice import BEST, COMMANDS, DATASETS

ROOT = Path(__file__).parents[2]
NAMES = {"BC": "cloning"}
NEAR = 5.0


@pytest.fixture
def board(quality):
    """The table of results, the names of its datasets, and the settings that it must be of."""
    table = pl.read_parquet(ROOT / "benchmarks" / "quality" / "results.parquet")
    return table, list(quality["datasets"].BOARD), quality["board"].Setup(Path(), Path(), "cpu", smoke=False)


def test_the_table_of_the_readme_is_the_boards(quality, board):
    summary = quality["page"].summary(*board)
    assert summary in (ROOT / "README.md").read_text(), f"put this into README.md:\n{summary}"


def test_the_advice_is_what_the_board_shows(quality, board):
    page = quality["page"]
    results, found = page.Results(*board), {}
    for kind in BEST:
        datasets = [dataset for dataset in results.datasets if results.kind(dataset) == kind]
        assert len(datasets) == DATASETS[kind]
        for learner in quality["learners"].LEARNERS:
            means = page.mean_by_column(results, datasets, learner)
            ours = {column: mean for column, mean in means.items() if column in COMMANDS}
            if ours:
                ordered = sorted(ours, key=lambda column: -ours[column])
                near = [column for column in ordered if ours[column] > max(ours.values()) - NEAR]
                found.setdefault(kind, {})[NAMES.get(learner, learner)] = tuple(near)
    assert found == BEST
