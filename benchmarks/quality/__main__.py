"""The quality protocol: scores judged by labels, returns and the policies learned from what they choose.

    python benchmarks/quality ../shared/data          # all of it: about eight hours on two cores, resumable
    python benchmarks/quality --smoke                  # a recorded pendulum, a few updates of everything

Results are one Parquet table, a row for each figure and each episode; finished tasks are not done again. The
page is rendered from the table after every run, whatever it holds.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

import click
import polars as pl
from datasets import SMOKE_SOURCES, SOURCES
from page import render
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tasks import PARTS, SCHEMA, Row, Setup, Task, needs, run

HERE = Path(__file__).parent
RESULTS, WORK, PAGE = HERE / "results.parquet", HERE / "work", HERE.parents[1] / "docs" / "quality.md"


def tasks_of(parts: tuple[str, ...], datasets: list[str], seeds: int) -> list[Task]:
    """Of the chosen parts, each once."""
    return list(dict.fromkeys(task for part in parts for task in PARTS[part](datasets, seeds)))


def read_results(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=SCHEMA)


def write_results(results: pl.DataFrame, path: Path) -> None:
    partial = path.with_suffix(".partial")
    results.write_parquet(partial, compression="zstd")
    partial.replace(path)


def measure(todo: list[Task], setup: Setup, path: Path, workers: int, console: Console) -> None:
    """Do the tasks side by side, a core each; whatever is finished is in the table."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    with Progress(*columns, console=console) as progress, ProcessPoolExecutor(workers, context) as pool:
        bar = progress.add_task("measuring", total=len(todo))
        waiting = list(todo)
        running: dict[Future[list[Row]], Task] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                position = next((i for i, task in enumerate(waiting) if _ready(task, waiting, running)), None)
                if position is None:
                    break
                task = waiting.pop(position)
                running[pool.submit(run, task, setup)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                rows: list[Row] = future.result()
                results = pl.concat([read_results(path), pl.DataFrame(rows, schema=SCHEMA)])
                write_results(results, path)
                progress.update(bar, advance=1, description=task.key)
                console.print(f"{rows[-1]['value']:7.1f} s  {task.key}", highlight=False)


def _ready(task: Task, waiting: list[Task], running: dict[Future[list[Row]], Task]) -> bool:
    """Whether the scores that a task reads are there."""
    unfinished = {*waiting, *running.values()}
    return not any(needed in unfinished for needed in needs(task))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Default: all.")
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(list(SOURCES)), help="Default: all.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), show_default="one a core")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--work", type=click.Path(path_type=Path), default=WORK, help="Scores for the policies.")
@click.option("--page", type=click.Path(path_type=Path), default=PAGE)
@click.option("--render-only", is_flag=True, help="Only write the page.")
@click.option(
    "--smoke", is_flag=True, help="A few updates on a recorded pendulum; --results, --work and --page apply."
)
def main(
    folder: Path | None,
    parts: tuple[str, ...],
    datasets: tuple[str, ...],
    seeds: int,
    workers: int,
    results: Path,
    work: Path,
    page: Path,
    render_only: bool,
    smoke: bool,
) -> None:
    """Measure what is not measured yet on the datasets in FOLDER, and render the page."""
    console = Console()
    if smoke and PAGE in (page, results):
        raise click.UsageError("--smoke measures nothing that the page should show: give --results and --page")
    if folder is None and not (smoke or render_only):
        raise click.UsageError("name the folder of the datasets, or use --smoke or --render-only")
    chosen = list(SMOKE_SOURCES) if smoke else list(datasets or SOURCES)
    if not render_only:
        work.mkdir(parents=True, exist_ok=True)
        done = set(read_results(results)["task"].unique())
        todo = [task for task in tasks_of(parts or tuple(PARTS), chosen, seeds) if task.key not in done]
        os.environ["OMP_NUM_THREADS"] = "1"  # a core for each task
        measure(todo, Setup(folder or Path(), work, smoke), results, workers, console)
    page.write_text(render(read_results(results)))
    console.print(f"wrote {page}")


if __name__ == "__main__":
    main()
