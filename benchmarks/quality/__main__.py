"""The board: verdicts on the default's weights and filters, by the policies that are learned from them.

    python benchmarks/quality FOLDER                     # all of it; resumable
    python benchmarks/quality FOLDER --learner BC        # cloning alone: an hour on two cores
    python benchmarks/quality --smoke --results r.parquet --work w --page p.md    # a pendulum, a few updates

Results are one Parquet table, a row for each figure and each episode; what is finished is not done again. On a
GPU all policies of a dataset and a learner are learned side by side, on CPUs one in each process. The page is
rendered from the table, whatever it holds.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import groupby
from pathlib import Path

import click
import polars as pl
from board import (
    SCHEMA,
    Cell,
    Row,
    Setup,
    cells,
    end_with,
    learn_and_roll_out,
    policies,
    rolled_out,
    score,
    scores_file,
)
from datasets import BOARD, SMOKE
from learners import LEARNERS
from page import render
from rich.console import Console

from vaco_curate.core.training.arithmetic import chosen_device

HERE = Path(__file__).parent
RESULTS, WORK, PAGE = HERE / "results.parquet", HERE / "scores", HERE.parents[1] / "docs" / "quality.md"


class Results:
    """The table of results on disk."""

    def __init__(self, path: Path, console: Console) -> None:
        self.path, self.console = path, console
        self.table = pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=SCHEMA)

    def add(self, cell: Cell, rows: list[Row]) -> None:
        """Write what a cell gave, in place of what it gave before."""
        others = self.table.filter(pl.col("key") != rows[0]["key"])
        self.table = pl.concat([others, pl.DataFrame(rows, schema=SCHEMA)])
        partial = self.path.with_suffix(".partial")
        self.table.write_parquet(partial, compression="zstd")
        partial.replace(self.path)
        self.console.print(str(cell), highlight=False)


def unfinished(wanted: Iterator[Cell], setup: Setup, done: set[str]) -> list[Cell]:
    """Cells that are not done, and scorers that are done but whose scores are not here."""
    todo = []
    for cell in wanted:
        kept = bool(cell.learner) or scores_file(cell.dataset, cell.seed, setup).exists()
        if cell.key(setup) not in done or not kept:
            todo.append(cell)
    return todo


def on_cpus(todo: list[Cell], setup: Setup, results: Results, pool: ProcessPoolExecutor, workers: int) -> int:
    """A core for each cell; scorers before the policies that need them. Returns how many failed."""
    failed = 0
    for has_learner, group in groupby(todo, key=lambda cell: bool(cell.learner)):
        work: Callable[[Cell, Setup], list[Row]] = learn_and_roll_out if has_learner else score
        waiting, running = list(group), dict[Future[list[Row]], Cell]()
        while waiting or running:
            while waiting and len(running) < workers:
                cell = waiting.pop(0)
                running[pool.submit(work, cell, setup)] = cell
            failed += _collect(running, results)
    return failed


def on_gpu(todo: list[Cell], setup: Setup, results: Results, pool: ProcessPoolExecutor) -> int:
    """All policies of a dataset and a learner side by side; their episodes are played meanwhile."""
    failed, running = 0, dict[Future[list[Row]], Cell]()
    for cell in (cell for cell in todo if not cell.learner):
        results.add(cell, score(cell, setup))
    learning = sorted((cell for cell in todo if cell.learner), key=lambda cell: cell.together)
    for _, group in groupby(learning, key=lambda cell: cell.together):
        together = list(group)
        for cell, policy in zip(together, policies(together, setup), strict=True):
            policy.network.cpu()
            running[pool.submit(rolled_out, cell, policy, setup)] = cell
    while running:
        failed += _collect(running, results)
    return failed


def _collect(running: dict[Future[list[Row]], Cell], results: Results) -> int:
    """Wait for one, and put what is finished in the table; how many failed."""
    failed = 0
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        cell = running.pop(future)
        if future.exception() is None:
            results.add(cell, future.result())
        else:
            failed += 1
            results.console.print(f"failed: {cell}: {future.exception()!r}", highlight=False)
    return failed


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--learner", "learners", multiple=True, type=click.Choice(LEARNERS), help="Default: all.")
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(BOARD), help="Default: all.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), show_default="one a core")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option(
    "--work", type=click.Path(path_type=Path), default=WORK, help="Scores, and what is recorded here."
)
@click.option("--page", type=click.Path(path_type=Path), default=PAGE)
@click.option("--render-only", is_flag=True, help="Only write the page.")
@click.option("--smoke", is_flag=True, help="A few updates on a pendulum; --results, --work and --page apply.")
def main(
    folder: Path | None,
    learners: tuple[str, ...],
    datasets: tuple[str, ...],
    seeds: int,
    device: str,
    workers: int,
    results: Path,
    work: Path,
    page: Path,
    render_only: bool,
    smoke: bool,
) -> None:
    """Measure what is not measured yet on the datasets in FOLDER, and render the page."""
    console = Console()
    own = {RESULTS.resolve(), WORK.resolve(), PAGE.resolve()}
    if smoke and own & {path.resolve() for path in (results, work, page)}:
        raise click.UsageError("--smoke measures nothing worth keeping: give --results, --work and --page")
    if folder is None and not (smoke or render_only):
        raise click.UsageError("name the folder of the datasets, or use --smoke or --render-only")
    setup = Setup(folder or Path(), work, str(chosen_device(device)), smoke)
    board = list(SMOKE if smoke else BOARD)
    table, failed = Results(results, console), 0
    if not render_only:
        work.mkdir(parents=True, exist_ok=True)
        wanted = cells(list(datasets) or board, list(learners or LEARNERS), seeds)
        todo = unfinished(wanted, setup, set(table.table["key"]))
        os.environ["OMP_NUM_THREADS"] = "1"  # a core for each process
        context = multiprocessing.get_context("spawn")
        try:
            with ProcessPoolExecutor(workers, context, initializer=end_with, initargs=(os.getpid(),)) as pool:
                if setup.device == "cpu":
                    failed = on_cpus(todo, setup, table, pool, workers)
                else:
                    failed = on_gpu(todo, setup, table, pool)
        except BrokenProcessPool:
            raise click.ClickException(
                "a worker was killed, perhaps for want of memory; what is finished is kept: "
                "run again, with fewer --workers if it was memory"
            ) from None
    page.write_text(render(table.table, board, setup))
    console.print(f"wrote {page}")
    if failed:
        raise click.ClickException(f"{failed} cells failed, see above; run again to try them again")


if __name__ == "__main__":
    main()
