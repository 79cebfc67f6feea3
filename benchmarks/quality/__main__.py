"""The quality protocol: scores judged by labels, returns and the policies learned from what they choose.

    python benchmarks/quality FOLDER                  # all of it, ten hours on two cores; resumable
    python benchmarks/quality --smoke --results r.parquet --work w --page p.md   # a pendulum, a few updates

Results are one Parquet table, a row for each figure and each episode; finished tasks are not done again. After
every run the table is rid of what other settings gave, and the page is rendered from it, whatever it holds.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import click
import polars as pl
from datasets import SMOKE_SOURCES, SOURCES
from page import render
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tasks import PARTS, SCHEMA, Row, Setup, Task, end_with, is_kept, needs, run

HERE = Path(__file__).parent
RESULTS, WORK, PAGE = HERE / "results.parquet", HERE / "scores", HERE.parents[1] / "docs" / "quality.md"


def unfinished(
    parts: tuple[str, ...], datasets: list[str], seeds: int, setup: Setup, done: set[str]
) -> list[Task]:
    """Tasks of the chosen parts that are not done, and before them those whose scores they miss."""
    todo: dict[Task, None] = {}
    for task in (task for part in parts for task in PARTS[part](datasets, seeds)):
        if setup.key(task) in done:
            continue
        for needed in needs(task):
            if setup.key(needed) not in done or not is_kept(needed, setup):
                todo[needed] = None
        todo[task] = None
    return list(todo)


def as_set(results: pl.DataFrame, datasets: list[str], setup: Setup) -> pl.DataFrame:
    """What was measured with the settings as they are now, with however many seeds; agreement of the most."""
    most = 1 + int(results["seed"].max() or 0)  # type: ignore[arg-type]  # of an agreement, the number of seeds
    counts = range(2, max(most, 2) + 1)
    tasks = {task for part in PARTS.values() for seeds in counts for task in part(datasets, seeds)}
    makers = {needed for task in tasks for needed in needs(task)}
    current = results.filter(pl.col("task").is_in([setup.key(task) for task in tasks | makers]))
    most_seeds = pl.col("seed").max().over("dataset", "score", "figure")
    agreement = pl.col("figure") == "rank correlation between seeds"
    return current.filter(~agreement | (pl.col("seed") == most_seeds))


def read_results(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=SCHEMA)


def write_results(results: pl.DataFrame, path: Path) -> None:
    partial = path.with_suffix(".partial")
    results.write_parquet(partial, compression="zstd")
    partial.replace(path)


def measure(todo: list[Task], setup: Setup, path: Path, workers: int, console: Console) -> int:
    """Do the tasks side by side, a core each; whatever is finished is in the table. Returns how many failed."""
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    failed: list[Task] = []
    with (
        Progress(*columns, console=console) as progress,
        ProcessPoolExecutor(workers, context, initializer=end_with, initargs=(os.getpid(),)) as pool,
    ):
        bar = progress.add_task("measuring", total=len(todo))
        waiting = list(todo)
        running: dict[Future[list[Row]], Task] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                ahead = {*waiting, *running.values()}
                ready = (i for i, task in enumerate(waiting) if not any(n in ahead for n in needs(task)))
                position = next(ready, None)
                if position is None:
                    break
                task = waiting.pop(position)
                running[pool.submit(run, task, setup)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                progress.update(bar, advance=1, description=str(task))
                if future.exception() is not None:
                    failed.append(task)
                    console.print(f" failed: {task}: {future.exception()!r}", highlight=False)
                    without = [other for other in waiting if task in needs(other)]
                    failed += without
                    waiting = [other for other in waiting if other not in without]
                    progress.update(bar, advance=len(without))
                    continue
                rows = future.result()
                others = read_results(path).filter(pl.col("task") != rows[0]["task"])
                write_results(pl.concat([others, pl.DataFrame(rows, schema=SCHEMA)]), path)
                console.print(f"{rows[-1]['value']:7.1f} s  {task}", highlight=False)
    return len(failed)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option("--part", "parts", multiple=True, type=click.Choice(list(PARTS)), help="Default: all.")
@click.option("--dataset", "datasets", multiple=True, type=click.Choice(list(SOURCES)), help="Default: all.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=os.cpu_count(), show_default="one a core")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=WORK,
    help="Scores for the policies, and values for the ablations.",
)
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
    own = {RESULTS.resolve(), WORK.resolve(), PAGE.resolve()}
    if smoke and own & {path.resolve() for path in (results, work, page)}:
        raise click.UsageError("--smoke measures nothing worth keeping: give --results, --work and --page")
    if folder is None and not (smoke or render_only):
        raise click.UsageError("name the folder of the datasets, or use --smoke or --render-only")
    chosen = list(SMOKE_SOURCES) if smoke else list(datasets or SOURCES)
    setup = Setup(folder or Path(), work, smoke)
    failed = 0
    if not render_only:
        work.mkdir(parents=True, exist_ok=True)
        done = set(read_results(results)["task"].unique())
        todo = unfinished(parts or tuple(PARTS), chosen, seeds, setup, done)
        os.environ["OMP_NUM_THREADS"] = "1"  # a core for each task
        try:
            failed = measure(todo, setup, results, workers, console)
        except BrokenProcessPool:
            raise click.ClickException(
                "a worker was killed, perhaps for want of memory; what is finished is kept: "
                "run again, with fewer --workers if it was memory"
            ) from None
    known = list(SMOKE_SOURCES if smoke else SOURCES)
    current = as_set(read_results(results), known, setup)
    write_results(current, results)
    page.write_text(render(current, known))
    console.print(f"wrote {page}")
    if failed:
        raise click.ClickException(f"{failed} tasks failed, see above; run again to try them again")


if __name__ == "__main__":
    main()
