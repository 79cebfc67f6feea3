"""The quality protocol end to end, on a recorded pendulum with a few updates of everything."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from helpers import PROTOCOL
from rich.console import Console


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


def test_what_needs_a_failed_score_is_not_measured(protocol, setup, tmp_path):
    """The datasets are not where they are looked for: no policy is learned from what is missing."""
    Task = protocol["tasks"].Task  # noqa: N806
    score = Task("score", "hopper-mixed", "free", 0)
    todo = [score, Task("policy", "hopper-mixed", "return", 0, "top 10 %", "episode", "BC")]
    results = tmp_path / "results.parquet"
    failed = protocol["main"].measure(todo, setup, results, 1, Console(quiet=True))
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
