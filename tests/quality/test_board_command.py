"""The board end to end, on a recorded pendulum with a few updates of everything."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from helpers import PROTOCOL


def smoke(folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(PROTOCOL), "--smoke", "--seeds", "2", "--workers", "2", "--device", "cpu"]
    places = ["--results", folder / "results.parquet", "--work", folder / "work", "--page", folder / "page.md"]
    finished = subprocess.run([*command, *map(str, places), *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    smoke(folder)
    return folder


def test_every_cell_of_the_board_gives_finite_figures(folder, quality):
    results = pl.read_parquet(folder / "results.parquet")
    returns = results.filter(pl.col("figure") == "return")
    assert returns["value"].is_finite().all()
    cells = set(returns.select("dataset", "learner", "column", "seed").unique().iter_rows())
    assert cells == {
        (dataset, learner, column, seed)
        for dataset in ("pendulum", "pendulum-50-percent-best")
        for learner in ("BC", "IQL", "TD3+BC")
        for column in quality["columns"].measured_of(learner)
        for seed in (0, 1)
    }
    scores = results.filter(pl.col("learner") == "")
    assert {"Pearson", "AUC", "AUC, Q", "scale", "shrinkage"} <= set(scores["figure"])


def test_what_is_finished_is_not_done_again_and_what_is_missing_is(folder):
    path = folder / "results.parquet"
    before = pl.read_parquet(path)
    assert " | " not in smoke(folder), "a finished cell was done again"
    (lost,) = (key for key in before["key"].unique() if key.startswith("pendulum | 1 | BC | weights |"))
    before.filter(pl.col("key") != lost).write_parquet(path)
    assert smoke(folder).count("pendulum | 1 | BC | weights") == 1
    made_again, first = (
        frame.filter(pl.col("key") == lost).sort("episode") for frame in (pl.read_parquet(path), before)
    )
    assert made_again.equals(first), "the same cell gave other numbers"


def test_the_page_holds_the_board_and_its_regret(folder):
    page = (folder / "page.md").read_text()
    for table in ("BC", "IQL", "TD3+BC"):
        assert page.split(f"### {table}\n")[1].split("\n#")[0].count("\n| pendulum |") == 1, table
    assert "| cells measured | all | 6 of 6 |" in page
    assert page.count(", 2 seeds)") == 2 * (10 + 6 + 6 + 2 * 3), (
        "the smoke board has fewer seeds than wanted, and the page says so"
    )
    assert "{" not in page


@pytest.mark.parametrize("kept", ["--results", "--work", "--page"])
def test_the_smoke_board_cannot_overwrite_what_the_project_keeps(tmp_path, kept):
    others = {"--results": "r.parquet", "--work": "work", "--page": "p.md"}
    places = [part for name, file in others.items() if name != kept for part in (name, str(tmp_path / file))]
    command = [sys.executable, str(PROTOCOL), "--smoke", *places]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "--results, --work and --page" in finished.stderr


def test_a_cell_that_fails_is_named_and_the_others_are_done(tmp_path, quality):
    """The datasets are not where they are looked for."""
    places = {"--results": "r.parquet", "--work": "work", "--page": "p.md"}
    arguments = [part for name, file in places.items() for part in (name, str(tmp_path / file))]
    chosen = [
        "--dataset",
        "hopper-mixed",
        "--learner",
        "BC",
        "--seeds",
        "2",
        "--workers",
        "1",
        "--device",
        "cpu",
    ]
    ended = CliRunner().invoke(quality["main"].main, [str(tmp_path), *arguments, *chosen])
    assert ended.exit_code == 1
    assert "failed: hopper-mixed | 0 | BC | all rows" in ended.output
    assert "22 cells failed" in ended.output
    assert (tmp_path / "p.md").exists()


def test_a_killed_worker_ends_with_what_to_do_and_keeps_what_is_finished(quality, tmp_path, monkeypatch):
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
    chosen = ["--smoke", "--seeds", "2", "--workers", "1", "--device", "cpu"]
    try:
        ended = CliRunner().invoke(quality["main"].main, [*chosen, *arguments])
    finally:
        running.clear()
        killer.join()
    assert ended.exit_code == 1, ended.output
    assert "a worker was killed" in ended.output
    assert "run again" in ended.output
    assert len(pl.read_parquet(results))


def test_policies_learned_side_by_side_as_on_a_gpu_earn_what_they_earn_alone(folder, quality, tmp_path):
    """The path of a GPU, on a CPU: all columns and seeds of a dataset and a learner in one stack."""
    main, board = quality["main"], quality["board"]
    setup = board.Setup(Path(), folder / "work", "cpu", smoke=True)
    wanted = [
        board.Cell("pendulum", seed, learner, column)
        for learner in ("BC", "TD3+BC")
        for seed in (0, 1)
        for column in ("all rows", "weights")
    ]
    results = main.Results(tmp_path / "r.parquet", main.Console())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        assert main.on_gpu(wanted, setup, results, pool) == 0
    alone = pl.read_parquet(folder / "results.parquet").filter(pl.col("figure") == "return")
    compared = results.table.join(alone, on=["key", "figure", "episode"], suffix=" alone")
    assert len(compared) == len(results.table) == 8 * board.EPISODES
    difference = (compared["value"] - compared["value alone"]).abs()
    assert difference.median() < 1.0, "of returns of about -1000"
