"""The quality protocol end to end, on a recorded pendulum with a few updates of everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

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
    for score in ("VACO", "VACO, paper", "VACO, sigmoid", "Q", "AWR weight", "1 / Q", "return", "random"):
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
    assert "| rank correlation between seeds, every dataset | >= 0.9 |  | not measured |" in page
    assert page.count("## ") >= 7


@pytest.mark.parametrize("kept", ["--results", "--work", "--page"])
def test_the_smoke_protocol_cannot_overwrite_what_the_project_keeps(tmp_path, kept):
    others = {"--results": "r.parquet", "--work": "work", "--page": "p.md"}
    places = [part for name, file in others.items() if name != kept for part in (name, str(tmp_path / file))]
    command = [sys.executable, str(PROTOCOL), "--smoke", *places]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "--results, --work and --page" in finished.stderr


def test_a_mixture_has_the_wanted_share_of_the_best(monkeypatch):
    monkeypatch.syspath_prepend(str(PROTOCOL))
    import datasets

    mixture = datasets.load("pendulum-50-percent-best", Path())
    assert mixture.is_best.mean() == pytest.approx(0.5, abs=0.03)
    assert set(np.unique(mixture.label)) == {mixture.best[0], mixture.names.index("random")}
    assert (mixture.label[mixture.data.episode_start][mixture.episode_is_best] == mixture.best[0]).all()
