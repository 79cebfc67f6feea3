"""The page of the quality protocol, from tables made by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import polars as pl
import pytest
from helpers import PROTOCOL


def measured(protocol, setup, task, value, **columns):
    """The rows of a finished task: one figure, or the returns of a policy's two episodes."""
    if task.learner:
        columns = {"figure": "return", "selection": task.selection, "policy_seed": task.seed} | columns
        episodes = [
            protocol["tasks"]._row(task, episode=i, value=value, learner=task.learner, **columns)
            for i in (0, 1)
        ]
    else:
        episodes = [protocol["tasks"]._row(task, value=value, **columns)]
    return [row | {"task": setup.key(task)} for row in episodes]


def by_hand(protocol, setup, success):
    """Three seeds of one figure, of an agreement, and of IQL in the maze."""
    Task = protocol["tasks"].Task  # noqa: N806
    stitch = protocol["datasets"].STITCH
    rows = measured(
        protocol,
        setup,
        Task("agreement", "hopper-mixed", "VACO", 3),
        0.97,
        figure="rank correlation between seeds",
    )
    for seed, value in enumerate((0.91, 0.95, 0.80)):
        rows += measured(protocol, setup, Task("score", "hopper-mixed", "VACO", seed), value, figure="Pearson")
        rows += measured(protocol, setup, Task("policy", stitch, "", seed, "all", learner="IQL"), 60.0)
        kept = Task("policy", stitch, "VACO", seed, "top 50 %", learner="IQL")
        rows += measured(protocol, setup, kept, success)
    return pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA)


@pytest.mark.parametrize(("success", "found"), [(90.0, "90 | reached"), (70.0, "70 | **missed**")])
def test_the_page_tells_goals_by_the_median_of_the_seeds(protocol, setup, success, found):
    page = protocol["page"].render(by_hand(protocol, setup, success), list(protocol["datasets"].SOURCES))
    assert "| Pearson, hopper-mixed | >= 0.90 | 0.910 | reached |" in page
    assert f"| >= 80 | {found} |" in page
    assert "| pointmaze-umaze-stitch | 60 (60 to 60) |" in page
    assert "| top 50 % | 1 | 0 | 0 |" in page
    assert ("as 0): pointmaze-umaze-stitch (70)" in page) == (success < 80), "the list of what was not reached"
    assert "| Pearson, halfcheetah-mixed | >= 0.98 |  | not measured |" in page


def test_what_not_all_seeds_have_measured_counts_for_no_goal_and_no_verdict(protocol, setup):
    rows = by_hand(protocol, setup, 90.0)
    rows = rows.filter(~((pl.col("seed") == 2) & (pl.col("selection") == "top 50 %")))
    page = protocol["page"].render(rows, list(protocol["datasets"].SOURCES))
    assert "| 60 (60 to 60) |  |  | 90 (90 to 90, 2 seeds) |" in page
    assert "| >= 80 |  | not measured |" in page
    assert "| top 50 % | 0 | 0 | 0 |" in page


def test_a_figure_of_fewer_seeds_counts_for_no_goal(protocol, setup):
    rows = by_hand(protocol, setup, 90.0).filter((pl.col("figure") != "Pearson") | (pl.col("seed") < 2))
    page = protocol["page"].render(rows, list(protocol["datasets"].SOURCES))
    assert "| Pearson, hopper-mixed | >= 0.90 |  | not measured |" in page


def test_something_was_tried_wherever_the_kept_results_miss_a_goal(protocol):
    """Held-back environments aside: nothing may be tried on them."""
    results = protocol["results"].Results(
        pl.read_parquet(PROTOCOL / "results.parquet"), list(protocol["datasets"].SOURCES)
    )
    tried = {attempt.dataset: set() for attempt in protocol["signals"].ATTEMPTS}
    for attempt in protocol["signals"].ATTEMPTS:
        tried[attempt.dataset] |= set(attempt.policies)
    missed = 0
    for goal in protocol["goals"].GOALS:
        for dataset, value in goal.found(results).items():
            if not (math.isnan(value) or goal.holds(value)) and not dataset.startswith(
                protocol["datasets"].HELD_BACK
            ):
                missed += 1
                assert dataset in tried, goal.text
    for one in protocol["goals"].comparisons(results):
        if one.is_worse:
            assert (one.selection, one.learner) in {*tried.get(one.dataset, ()), ("weights", "BC")}, one.dataset
    assert missed, "nothing is missed, and nothing is shown"


def test_seeds_agree_as_the_most_of_them_do(protocol, setup):
    Task = protocol["tasks"].Task  # noqa: N806
    figure = "rank correlation between seeds"
    rows = []
    for seeds, value in ((2, 0.99), (3, 0.85)):
        task = Task("agreement", "hopper-mixed", "VACO", seeds)
        rows += measured(protocol, setup, task, value, figure=figure)
    results = pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA)
    sources = list(protocol["datasets"].SOURCES)
    page = protocol["page"].render(protocol["main"].as_set(results, sources, setup), sources)
    assert "agrees least, every dataset | >= 0.9 | 0.850 | **missed** (1 of 23 measured) |" in page


def test_an_ablation_has_a_row_of_its_own(protocol, setup):
    Task = protocol["tasks"].Task  # noqa: N806
    rows = []
    stitch = protocol["datasets"].STITCH
    for name, values in (
        ("VACO", {"hopper-mixed": 0.99, "halfcheetah-mixed": 0.97, stitch: 0.98}),
        ("VACO, KL 0", {"hopper-mixed": 0.6, stitch: 0.5}),
    ):
        for dataset, value in values.items():
            task = Task("agreement", dataset, name, 3)
            rows += measured(protocol, setup, task, value, figure="rank correlation between seeds")
    page = protocol["page"].render(
        pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA), list(protocol["datasets"].SOURCES)
    )
    assert "| default |  |  |  |  |  |  |  |  |  | 0.97 |  |" in page
    assert "| KL 0 |  |  |  |  |  |  |  |  |  | 0.50 |  |" in page


def test_a_learner_that_is_worse_on_the_best_half_misses_the_goal(protocol, setup):
    page = protocol["page"].render(by_hand(protocol, setup, 50.0), list(protocol["datasets"].SOURCES))
    assert "| >= 80 | 0 | **missed** |" in page
    assert "| top 50 % | 0 | 0 | 1 |" in page
    assert "| IQL, pointmaze-umaze-stitch, top 50 % | 60 (60 to 60) | 50 (50 to 50) |" in page


@pytest.mark.parametrize(
    ("by_weights", "gain", "worse"),
    [
        ((70.0, 70.0, 70.0), "10.00 | reached", "0 | reached"),
        ((70.0, 60.0, 62.0), "4.00 | reached", "0 | reached"),
        ((40.0, 50.0, 50.0), "-13.33 | **missed**", "1 | **missed**"),
    ],
)
def test_gain_and_harm_are_told_by_dataset(protocol, setup, by_weights, gain, worse):
    """Gain by the learner that makes most of all rows, here IQL; harm by any."""
    Task = protocol["tasks"].Task  # noqa: N806
    rows = []
    for seed, value in enumerate(by_weights):
        for score, selection, learner, earned in (
            ("", "all", "IQL", 60.0),
            ("VACO", "weights", "IQL", value),
            ("", "all", "BC", 20.0),
            ("VACO", "weights", "BC", 80.0),
        ):
            task = Task("policy", "hopper-mixed", score, seed, selection, learner=learner)
            rows += measured(protocol, setup, task, earned)
    page = protocol["page"].render(
        pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA), list(protocol["datasets"].SOURCES)
    )
    assert f"makes most of all rows | > 0 | {gain} (1 of 23 measured) |" in page
    assert f"all learners | 0 | {worse} (1 of 23 measured) |" in page
    beyond = int(min(by_weights) > 60.0)
    assert f"Of the gains, {beyond} of 1 are beyond the intervals." in page


def test_the_page_says_where_a_plain_signal_does_better(protocol, setup):
    """Figures by a notable difference, policies by their intervals; weights against weights."""
    Task = protocol["tasks"].Task  # noqa: N806
    rows = []
    for score, pearson, spearman in (("VACO", 0.80, 0.90), ("Q", 0.82, 0.95), ("V", 0.79, 0.97)):
        task = Task("score", "hopper-mixed", "VACO", 0)
        for figure, value in (("Pearson", pearson), ("Spearman", spearman)):
            rows += measured(protocol, setup, task, value, figure=figure, score=score)
    for seed in range(3):
        for score, selection, earned in (
            ("VACO", "weights", 40.0),
            ("AWR weight", "weights", 45.0),
            ("VACO", "top 10 %", 30.0),
            ("Q", "top 10 %", 29.0),
            ("return", "top 10 % of episodes", 31.0),
        ):
            task = Task("policy", "hopper-mixed", score, seed, selection, learner="BC")
            rows += measured(protocol, setup, task, earned)
    page = protocol["page"].render(
        pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA), list(protocol["datasets"].SOURCES)
    )
    ahead = page.split("## Where a plain signal does better")[1].split("\n## ")[0]
    assert [line for line in ahead.splitlines() if line.startswith("| hopper")] == [
        "| hopper-mixed, Spearman | 0.90 | V 0.97 |",
        "| hopper-mixed, cloning, top 10 % of episodes | 30 (30 to 30) | return 31 (31 to 31) |",
        "| hopper-mixed, cloning, weights | 40 (40 to 40) | AWR weight 45 (45 to 45) |",
    ]


def test_the_table_is_rid_of_what_other_settings_gave(tmp_path, protocol, setup):
    current = by_hand(protocol, setup, 90.0)
    path = tmp_path / "results.parquet"
    pl.concat([current, current.with_columns(task=pl.col("task") + "0")]).write_parquet(path)
    command = [sys.executable, str(PROTOCOL), "--render-only", "--results", str(path), "--page"]
    subprocess.run([*command, str(tmp_path / "page.md")], check=True, capture_output=True)
    assert pl.read_parquet(path).equals(current)


def test_only_what_was_measured_with_the_present_settings_is_shown(protocol, setup):
    results = by_hand(protocol, setup, 90.0)
    sources = list(protocol["datasets"].SOURCES)
    assert protocol["main"].as_set(results, sources, setup).equals(results), (
        "three seeds, whatever is asked for now"
    )
    other = results.with_columns(
        task=pl.when(pl.col("figure") == "Pearson").then(pl.col("task") + "0").otherwise(pl.col("task"))
    )
    left = protocol["main"].as_set(other, sources, setup)
    assert set(left["figure"]) == {"rank correlation between seeds", "return"}
