"""The quality protocol end to end, on a recorded pendulum with a few updates of everything."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console

PROTOCOL = Path(__file__).parents[1] / "benchmarks" / "quality"


def smoke(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(PROTOCOL), "--smoke", "--seeds", "2", "--workers", "2"]
    places = ["--results", folder / "results.parquet", "--work", folder / "work", "--page", folder / "page.md"]
    finished = subprocess.run([*command, *map(str, places), *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("d3rlpy", reason="the d3rlpy extra is not installed")
    folder = tmp_path_factory.mktemp("protocol")
    smoke(folder)
    return folder


def test_every_part_of_the_protocol_gives_finite_figures(folder):
    results = pl.read_parquet(folder / "results.parquet")
    assert results["value"].is_finite().all()
    assert set(results["learner"].unique()) == {"", "BC", "IQL", "TD3+BC"}
    for score in (
        "VACO",
        "VACO, paper",
        "VACO, sigmoid, unbounded",
        "Q",
        "AWR weight",
        "1 / Q",
        "return",
        "random",
    ):
        figures = results.filter((pl.col("score") == score) & (pl.col("dataset") == "pendulum"))
        assert {"Pearson", "AUC, rows", "best in top 10 %, episodes"} <= set(figures["figure"]), score
        assert set(figures["seed"]) >= {0, 1}, score
    oracle = results.filter((pl.col("score") == "return") & (pl.col("figure") == "Pearson"))
    assert oracle["value"].to_list() == pytest.approx([1.0] * len(oracle))


def test_what_is_finished_is_not_done_again_and_what_is_missing_is(folder):
    path = folder / "results.parquet"
    before = pl.read_parquet(path)
    assert " s  " not in smoke(folder), "a finished task was done again"
    name = "policy | pendulum | VACO | 1 | weights | transition | BC"
    (lost,) = (task for task in before["task"].unique() if task.startswith(name))
    before.filter(pl.col("task") != lost).write_parquet(path)
    assert smoke(folder).count(" s  ") == 1
    after = pl.read_parquet(path)
    order = ["task", "score", "figure", "episode"]
    made_again, first = (
        frame.filter((pl.col("task") == lost) & (pl.col("figure") == "return")).sort(order)
        for frame in (after, before)
    )
    assert made_again.equals(first), "the same task gave other numbers"


def test_the_page_holds_what_was_measured_and_says_what_was_not(folder):
    page = (folder / "page.md").read_text()
    assert "| Pearson, hopper-mixed | >= 0.90 |  | not measured |" in page
    for measured in ("**pendulum**", "| pendulum-50-percent-best, no plateau |", "| VACO, paper |"):
        assert measured in page
    for table in ("Datasets", "Scorers of half the episodes", "BC", "IQL", "TD3+BC"):
        assert page.split(f"# {table}\n")[1].split("\n#")[0].count("\n| pendulum |") == 1, table
    assert page.count(", 2 seeds)") > 4, "the smoke protocol has fewer seeds than wanted, and the page says so"


@pytest.mark.parametrize("kept", ["--results", "--work", "--page"])
def test_the_smoke_protocol_cannot_overwrite_what_the_project_keeps(tmp_path, kept):
    others = {"--results": "r.parquet", "--work": "work", "--page": "p.md"}
    places = [part for name, file in others.items() if name != kept for part in (name, str(tmp_path / file))]
    command = [sys.executable, str(PROTOCOL), "--smoke", *places]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "--results, --work and --page" in finished.stderr


@pytest.fixture
def protocol(monkeypatch):
    """The protocol's modules, by name."""
    monkeypatch.syspath_prepend(str(PROTOCOL))
    spec = importlib.util.spec_from_file_location("quality_main", PROTOCOL / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    return {name: importlib.import_module(name) for name in ("tasks", "signals", "page", "datasets")} | {
        "main": main
    }


def setup_of(protocol, folder):
    return protocol["tasks"].Setup(folder, folder, smoke=False)


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
def test_the_page_tells_goals_by_the_median_of_the_seeds(protocol, tmp_path, success, found):
    page = protocol["page"].render(
        by_hand(protocol, setup_of(protocol, tmp_path), success), list(protocol["datasets"].SOURCES)
    )
    assert "| Pearson, hopper-mixed | >= 0.90 | 0.910 | reached |" in page
    assert f"| >= 80 | {found} |" in page
    assert "| pointmaze-umaze-stitch | 60 (60 to 60) |" in page
    assert "| top 50 % | 1 | 0 | 0 |" in page
    assert ("as 0): pointmaze-umaze-stitch (70)" in page) == (success < 80), "the list of what was not reached"
    assert "| Pearson, halfcheetah-mixed | >= 0.98 |  | not measured |" in page


def test_what_not_all_seeds_have_measured_counts_for_no_goal_and_no_verdict(protocol, tmp_path):
    setup = setup_of(protocol, tmp_path)
    rows = by_hand(protocol, setup, 90.0)
    rows = rows.filter(~((pl.col("seed") == 2) & (pl.col("selection") == "top 50 %")))
    page = protocol["page"].render(rows, list(protocol["datasets"].SOURCES))
    assert "| 60 (60 to 60) |  |  | 90 (90 to 90, 2 seeds) |" in page
    assert "| >= 80 |  | not measured |" in page
    assert "| top 50 % | 0 | 0 | 0 |" in page


def test_seeds_agree_as_the_most_of_them_do(protocol, tmp_path):
    setup = setup_of(protocol, tmp_path)
    Task = protocol["tasks"].Task  # noqa: N806
    figure = "rank correlation between seeds"
    rows = []
    for seeds, value in ((2, 0.99), (3, 0.85)):
        task = Task("agreement", "hopper-mixed", "VACO", seeds)
        rows += measured(protocol, setup, task, value, figure=figure)
    results = pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA)
    sources = list(protocol["datasets"].SOURCES)
    page = protocol["page"].render(protocol["main"].as_set(results, sources, setup), sources)
    assert f"| {figure}, every dataset | >= 0.9 | 0.850 | **missed** (1 of 23 measured) |" in page


def test_an_ablation_has_a_row_of_its_own(protocol, tmp_path):
    setup = setup_of(protocol, tmp_path)
    Task = protocol["tasks"].Task  # noqa: N806
    rows = []
    for name, value in (("VACO", 0.97), ("VACO, KL 0", 0.5)):
        for dataset in ("hopper-mixed", "halfcheetah-mixed", protocol["datasets"].STITCH):
            task = Task("agreement", dataset, name, 3)
            rows += measured(protocol, setup, task, value, figure="rank correlation between seeds")
    page = protocol["page"].render(
        pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA), list(protocol["datasets"].SOURCES)
    )
    assert "| default |  |  |  |  |  |  |  |  |  | 0.97 |  |" in page
    assert "| KL 0 |  |  |  |  |  |  |  |  |  | 0.50 |  |" in page


def test_a_learner_that_is_worse_on_the_best_half_misses_the_goal(protocol, tmp_path):
    page = protocol["page"].render(
        by_hand(protocol, setup_of(protocol, tmp_path), 50.0), list(protocol["datasets"].SOURCES)
    )
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
def test_gain_and_harm_are_told_by_dataset(protocol, tmp_path, by_weights, gain, worse):
    """Gain by the learner that makes most of all rows, here IQL; harm by any."""
    setup = setup_of(protocol, tmp_path)
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


def test_the_page_says_where_a_plain_signal_does_better(protocol, tmp_path):
    """Figures by a notable difference, policies by their intervals; weights against weights."""
    setup = setup_of(protocol, tmp_path)
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
        ):
            task = Task("policy", "hopper-mixed", score, seed, selection, learner="BC")
            rows += measured(protocol, setup, task, earned)
    page = protocol["page"].render(
        pl.DataFrame(rows, schema=protocol["tasks"].SCHEMA), list(protocol["datasets"].SOURCES)
    )
    ahead = page.split("## Where a plain signal does better")[1].split("\n## ")[0]
    assert [line for line in ahead.splitlines() if line.startswith("| hopper")] == [
        "| hopper-mixed, Spearman | 0.90 | V 0.97 |",
        "| hopper-mixed, cloning, weights | 40 (40 to 40) | AWR weight 45 (45 to 45) |",
    ]


def test_a_variant_is_listed_by_what_it_changes(protocol):
    changes = protocol["signals"].changes
    assert changes("VACO") == {}
    assert changes("VACO, KL 0") == {"bilevel.divergence_coefficient": 0.0}
    assert changes("VACO, four members") == {"members": 4}
    variants = protocol["signals"].ABLATIONS
    listed = [str(changes(name)) for name in variants]
    assert "{}" not in listed
    assert len(set(listed)) == len(variants), "two variants are the same"


def test_the_table_is_rid_of_what_other_settings_gave(tmp_path, protocol):
    current = by_hand(protocol, setup_of(protocol, tmp_path), 90.0)
    path = tmp_path / "results.parquet"
    pl.concat([current, current.with_columns(task=pl.col("task") + "0")]).write_parquet(path)
    command = [sys.executable, str(PROTOCOL), "--render-only", "--results", str(path), "--page"]
    subprocess.run([*command, str(tmp_path / "page.md")], check=True, capture_output=True)
    assert pl.read_parquet(path).equals(current)


def test_only_what_was_measured_with_the_present_settings_is_shown(protocol, tmp_path):
    setup = setup_of(protocol, tmp_path)
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


def test_scores_of_other_settings_are_kept_apart(protocol, tmp_path, monkeypatch):
    setup = setup_of(protocol, tmp_path)
    before = setup.file("hopper-mixed", "Q", 0)
    assert before != setup.file("hopper-mixed", "Q", 1)
    random = setup.file("hopper-mixed", "random", 0)
    signals = protocol["signals"]
    changed = signals.altered(signals.VARIANTS["VACO"], {}, {"divergence_coefficient": 3.0})
    monkeypatch.setitem(signals.VARIANTS, "VACO", changed)
    assert setup.file("hopper-mixed", "Q", 0) != before
    assert setup.file("hopper-mixed", "random", 0) == random


def test_what_needs_a_failed_score_is_not_measured(protocol, tmp_path):
    """The datasets are not where they are looked for: no policy is learned from what is missing."""
    Task = protocol["tasks"].Task  # noqa: N806
    score = Task("score", "hopper-mixed", "free", 0)
    todo = [score, Task("policy", "hopper-mixed", "return", 0, "top 10 %", "episode", "BC")]
    results = tmp_path / "results.parquet"
    failed = protocol["main"].measure(todo, setup_of(protocol, tmp_path), results, 1, Console(quiet=True))
    assert failed == 2
    assert not results.exists()


def test_a_killed_worker_ends_with_what_to_do_and_keeps_what_is_finished(protocol, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the command sets it for its workers; it is put back afterwards
    results = tmp_path / "results.parquet"

    def kill_a_worker_once_something_is_finished():
        while running.is_set():
            if results.exists() and (workers := multiprocessing.active_children()):
                workers[0].kill()
                return
            time.sleep(0.01)

    running = threading.Event()
    running.set()
    killer = threading.Thread(target=kill_a_worker_once_something_is_finished)
    killer.start()
    places = {"--results": results, "--work": tmp_path / "work", "--page": tmp_path / "page.md"}
    arguments = [str(part) for place in places.items() for part in place]
    try:
        ended = CliRunner().invoke(
            protocol["main"].main, ["--smoke", "--seeds", "2", "--workers", "1", *arguments]
        )
    finally:
        running.clear()
        killer.join()
    assert ended.exit_code == 1, ended.output
    assert "a worker was killed" in ended.output
    assert "run again" in ended.output
    kept = pl.read_parquet(results)
    assert len(kept)
    assert kept["value"].is_finite().all()


def test_a_mixture_has_the_wanted_share_of_the_best(protocol, tmp_path):
    mixture = protocol["datasets"].load("pendulum-50-percent-best", tmp_path, tmp_path)
    assert mixture.is_best.mean() == pytest.approx(0.5, abs=0.03)
    assert set(np.unique(mixture.label)) == {mixture.best[0], mixture.names.index("random")}
    assert (mixture.label[mixture.data.episode_start][mixture.episode_is_best] == mixture.best[0]).all()


@pytest.mark.parametrize(
    ("name", "random_below", "heuristic_above"),
    [
        ("lander", 0.0, 200.0),
        ("mountain-car", -30.0, 85.0),
        ("reacher", -30.0, -10.0),
        ("double-pendulum", 100.0, 9_000.0),
        ("swimmer", 50.0, 300.0),
    ],
)
def test_a_script_is_recorded_grade_by_grade(protocol, tmp_path, name, random_below, heuristic_above):
    if name == "lander":
        pytest.importorskip("Box2D", reason="the quality extra is not installed")
    scripted = importlib.import_module("scripted")
    scripted.record_script(tmp_path / f"{name}.hdf5", scripted.SCRIPTS[name], rows=300)
    labelled = protocol["datasets"].load(f"{name}-mixed", tmp_path, tmp_path)
    data, grades = labelled.data, labelled.names
    assert grades == tuple(scripted.GRADES)
    assert all(labelled.rows_by(grade).sum() >= 300 for grade in grades)
    assert (np.diff(labelled.label) >= 0).all(), "one grade after the other, whole episodes"
    assert np.abs(data.action).max() <= 1.0
    mean = {grade: data.episode_return[labelled.rows_by(grade)[data.episode_start]].mean() for grade in grades}
    assert data.reference_returns == pytest.approx((mean["random"], mean["heuristic"]))
    assert mean["random"] < random_below
    assert mean["heuristic"] > heuristic_above


def test_variants_that_share_the_values_of_the_default_have_the_scores_of_their_own_training(
    protocol, tmp_path
):
    """Every ablation that begins where the default's value phase has ended, against one from the start."""
    Task, signals = protocol["tasks"].Task, protocol["signals"]  # noqa: N806
    setup = setup_of(protocol, tmp_path)
    data = protocol["datasets"].load("pendulum", tmp_path, tmp_path).data
    values = tmp_path / "values"
    few = {"batch_size": 32, "hidden": (8, 8), "settled_at": None}

    def scores(name, values):
        settings = signals.VARIANTS.get(name) or signals.ABLATIONS[name]
        updates = 30 if name == "VACO, K2 = 20k" else 20
        settings = signals.altered(settings, few | {"updates": 20}, few | {"updates": updates})
        return signals.train_scorer(data, settings, 0, 1, values).score(data).score

    default = scores(signals.DEFAULT, values)
    assert values.exists()
    sharing = [name for name in signals.ABLATIONS if setup.values_file(Task("score", "hopper-mixed", name, 0))]
    assert len(sharing) > 15
    differ = 0
    for name in sharing:
        shared, own = scores(name, values), scores(name, None)
        assert np.array_equal(shared, own), name
        differ += not np.array_equal(own, default)
    assert differ > 10, "hardly a variant changes anything here, and nothing is shown"


@pytest.mark.parametrize(
    "name",
    [
        "VACO, paper",
        "VACO, prior alone",
        "VACO, uniform prior, KL 1",
        "VACO, path discount 1",
        "VACO, paths of 100 steps",
        "VACO, without s",
        "VACO, K1 = 8k",
        "VACO, expectile 0.9",
        "VACO, reward horizon 1000",
        "VACO, four members",
    ],
)
def test_a_variant_with_values_or_networks_of_its_own_shares_none(protocol, tmp_path, name):
    Task = protocol["tasks"].Task  # noqa: N806
    assert setup_of(protocol, tmp_path).values_file(Task("score", "hopper-mixed", name, 0)) is None
