"""The numbers of the page, from a table of results made by hand."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

DATASET, LEARNER = "hopper-mixed", "BC"


@pytest.fixture
def results_of(quality):
    """``Results`` from what policies earned, by column and seed."""
    board, page = quality["board"], quality["page"]
    setup = board.Setup(Path(), Path(), "cpu", smoke=False)

    def results(earned):
        rows = []
        for column, by_seed in earned.items():
            for seed, returns in by_seed.items():
                cell = board.Cell(DATASET, seed, LEARNER, column)
                rows += [
                    board.row(cell, setup, figure="return", episode=episode, value=value)
                    for episode, value in enumerate(returns)
                ]
        return page.Results(pl.DataFrame(rows, schema=board.SCHEMA), [DATASET], setup)

    return results


def earned_by(quality, **of_columns):
    """Every column earns 10 with seed 0, but for those that are given; blanks in names are underscores."""
    given = {name.replace("_", " "): by_seed for name, by_seed in of_columns.items()}
    return {column: {0: [10.0]} for column in quality["columns"].COLUMNS} | given


def test_regret_is_what_the_best_column_earns_beyond_the_better_of_our_leading_two(quality, results_of):
    earned = earned_by(quality, weights={0: [40.0, 60.0]}, AW={0: [70.0]})
    earned |= {"top 10 %": {0: [30.0]}, "top 25 %": {0: [65.0]}}
    assert results_of(earned).regret(DATASET, LEARNER) == pytest.approx(70.0 - 50.0)


def test_columns_are_compared_over_the_seeds_that_all_measured_ones_have(quality, results_of):
    earned = earned_by(quality, AW={0: [10.0], 1: [1000.0]}, weights={0: [8.0]})
    results = results_of(earned)
    assert results.regret(DATASET, LEARNER) == pytest.approx(0.0), "the top 10 % earn 10, too"
    assert results.earned(DATASET, LEARNER, "AW").mean == 10.0
    earned["AW"] = {}
    assert math.isnan(results_of(earned).regret(DATASET, LEARNER)), "a column is missing"
    assert results_of(earned).earned(DATASET, LEARNER, "AW") is None


def test_weights_do_harm_where_all_rows_earn_more_by_more_than_both_intervals(quality, results_of):
    everything = {0: [50.0, 51.0, 52.0], 1: [49.0, 50.0, 51.0]}
    poor, wide = {0: [1.0, 2.0, 3.0], 1: [2.0, 2.0, 3.0]}, {0: [0.0, 100.0, 0.0], 1: [90.0, 0.0, 0.0]}
    for weights, harm in ((poor, True), (wide, False)):
        earned = earned_by(quality, weights=weights, all_rows=everything)
        assert results_of(earned).harm(DATASET, LEARNER) is harm


def test_results_of_other_settings_are_left_out(quality, results_of):
    results = results_of(earned_by(quality))
    board = quality["board"]
    other = board.Setup(Path(), Path(), "cpu", smoke=True)
    cell = board.Cell(DATASET, 0, LEARNER, "weights")
    table = pl.DataFrame([board.row(cell, other, figure="return", episode=0, value=1.0)], schema=board.SCHEMA)
    assert quality["page"].Results(table, [DATASET], results.setup).earned(DATASET, LEARNER, "weights") is None


@pytest.mark.parametrize(
    ("scale", "predicted", "kind"),
    [(math.inf, 0.4, "whole episodes"), (10.0, 0.1, "some steps"), (math.inf, math.nan, None)],
)
def test_what_ours_earn_is_averaged_over_the_datasets_of_a_kind(quality, results_of, scale, predicted, kind):
    results = results_of(earned_by(quality, weights={0: [40.0, 60.0]}))
    for figure, value in (("scale", scale), ("predicted", predicted)):
        results.rows[DATASET, "", "", figure] = {0: [value]}
    assert results.kind(DATASET) == kind
    rows = quality["page"].by_kind(results)
    assert rows == ([(kind, LEARNER, "1", "10", "50", "10", "10", "10")] if kind else [])


def test_weights_on_the_policy_alone_are_compared_over_the_seeds_that_both_have(quality):
    board, page = quality["board"], quality["page"]
    setup = board.Setup(Path(), Path(), "cpu", smoke=False)
    earned = {
        "all rows": {0: 1.0, 1: 3.0},
        "weights": {0: 10.0, 1: 20.0, 2: 900.0},
        "weights, policy alone": {0: 30.0, 1: 20.0},
    }
    rows = [
        board.row(board.Cell(DATASET, seed, "IQL", column), setup, figure="return", episode=0, value=value)
        for column, by_seed in earned.items()
        for seed, value in by_seed.items()
    ]
    found = page.policy_alone(page.Results(pl.DataFrame(rows, schema=board.SCHEMA), [DATASET], setup))
    assert (
        f"| IQL | {DATASET} | 2 (1 to 3, 2 seeds) | 15 (10 to 20, 2 seeds) | 25 (20 to 30, 2 seeds) |" in found
    )
    assert "IQL: +10 on average over 1 datasets; better by more than 5 on 1, worse on 0" in found
    assert (
        page.policy_alone(page.Results(pl.DataFrame(schema=board.SCHEMA), [DATASET], setup))
        == "Not measured.\n"
    )
