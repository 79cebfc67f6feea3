"""``vaco-curate filter``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vaco_curate.curation import ORDERS, TRANSITION, By, Cut, Level
from vaco_curate.stages.select import FILTER_FORMATS, Choice, SelectionResult, filter_dataset
from vaco_curate.store.engines import Engine
from vaco_curate_cli.display import Display, number_text, summary_table
from vaco_curate_cli.options import (
    FOLDER,
    Amount,
    Top,
    columns_option,
    dataset_option,
    engine_option,
    force_option,
    format_option,
    output_options,
    resolve_run,
    run_argument,
)

AMOUNTS = "50%|20000|80%ep|64ep"


class LevelText(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``transition``, ``episode`` or ``window:N``."""

    name = "transition|episode|window:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level:
        """Parse."""
        return value if isinstance(value, Level) else Level.parse(value)


def cut_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--top, --bottom, --threshold and --budget; the command receives ``cut`` in their place."""

    @functools.wraps(command)
    def with_them(
        *args: Any,
        top: Amount | None,
        bottom: Amount | None,
        threshold: float | None,
        budget: int | None,
        **kwargs: Any,
    ) -> Any:
        if top is None and bottom is None and threshold is None and budget is not None:
            top = {"rows": budget}
        if sum(value is not None for value in (top, bottom, threshold)) != 1:
            raise click.UsageError("give exactly one of --top, --bottom and --threshold, or --budget alone")
        cut = Cut(
            **(top if bottom is None else bottom) or {},
            threshold=threshold,
            worst=bottom is not None,
            budget=budget,
        )
        return command(*args, cut=cut, **kwargs)

    for option in reversed(
        (
            click.option(
                "--top",
                type=Top(),
                metavar=AMOUNTS,
                help="Keep the best rows: this share (50%) or this many (20000). "
                "Of whole episodes: 80%ep, 64ep.",
            ),
            click.option(
                "--bottom",
                type=Top(),
                metavar=AMOUNTS,
                help="Keep the worst rows instead, for inspection or as negative examples.",
            ),
            click.option(
                "--threshold", type=float, help="Keep rows whose score, or other --by value, is at least this."
            ),
            click.option(
                "--budget", type=int, metavar="ROWS", help="Keep at most this many rows, the best ones."
            ),
        )
    ):
        with_them = option(with_them)
    return with_them


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--by to --seed; the command receives ``choice`` in their place."""

    @functools.wraps(command)
    def with_them(
        *args: Any,
        by: By,
        level: Level,
        per: str | None,
        min_episode_length: int,
        keep_successors: int,
        seed: int,
        **kwargs: Any,
    ) -> Any:
        choice = Choice(by, level, per, min_episode_length, keep_successors, seed)
        return command(*args, choice=choice, **kwargs)

    for option in reversed(
        (
            click.option(
                "--by",
                type=click.Choice(ORDERS),
                default="score",
                show_default=True,
                help="Rank rows by this. The choices other than score are for comparison.",
            ),
            click.option(
                "--level",
                type=LevelText(),
                metavar="transition|episode|window:N",
                default=str(TRANSITION),
                show_default=True,
                help="episode and window:N keep whole episodes or windows, best mean score first. "
                "Selection stops at the first one that does not fit.",
            ),
            click.option(
                "--per",
                metavar="COLUMN",
                help="Keep the same share for each value of this column, such as task_index or source_file.",
            ),
            click.option(
                "--min-episode-length",
                type=int,
                default=1,
                show_default=True,
                help="Leave out episodes with fewer rows than this.",
            ),
            click.option(
                "--keep-successors",
                type=int,
                default=0,
                metavar="STEPS",
                help="Also keep this many steps after each kept row, for n-step learners.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Random seed for --by random."),
        )
    ):
        with_them = option(with_them)
    return with_them


@click.command(name="filter", short_help="Keep the best rows or episodes.")
@run_argument
@cut_options
@choice_options
@click.option("--out", type=FOLDER, help="Folder to write.  [default: beside the run, named after the cut]")
@click.option(
    "--excluded", type=FOLDER, help="Also write the dropped rows, each with its reason, to this folder."
)
@format_option(
    FILTER_FORMATS,
    "npz is one file of arrays. minari needs whole episodes. robomimic writes a filter key and a link to "
    "the source file, "
    "lerobot flags of frames, as RLinf reads them.",
)
@columns_option
@click.option("--selection-only", is_flag=True, help="Write only _selection.pq, the decision for every row.")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, but write nothing.")
@engine_option
@dataset_option
@force_option
@output_options
def filter_command(
    run: Path | None,
    cut: Cut,
    choice: Choice,
    out: Path | None,
    excluded: Path | None,
    file_format: str,
    carried: list[str] | None,
    selection_only: bool,
    dry_run: bool,
    engine: Engine,
    dataset: str | None,
    force: bool,
    display: Display,
) -> None:
    """Keep the best rows, episodes or windows of a scored dataset.

    RUN is a folder that 'score' wrote. The default is the newest one in the current folder.

    The output folder holds _selection.pq, with the decision and its reason for every row, and the kept rows
    under data/.

    \b
    Examples:
      vaco-curate filter --top 50%
      vaco-curate filter --top 80%ep
      vaco-curate filter hopper.vaco --top 10% --level episode --out best
      vaco-curate filter --top 25% --per task_index --min-episode-length 20
      vaco-curate filter --threshold 0 --budget 100000 --selection-only
    """
    result = filter_dataset(
        resolve_run(run, display),
        cut,
        choice,
        out=out,
        excluded=excluded,
        file_format=file_format,
        columns=carried,
        engine=engine,
        selection_only=selection_only,
        dry_run=dry_run,
        force=force,
        dataset=dataset,
    )
    display.result(result)
    _show(result, display)


def _show(result: SelectionResult, display: Display) -> None:
    display.show(summary_table(result.before, result.after))
    cut = "" if result.cut is None else f", cut at {number_text(result.cut)}"
    display.show(f"rule: {result.rule}{cut}")
    for note in result.notes:
        display.note(note)
    for warning in result.warnings:
        display.warn(warning)
    for reason, rows in result.reasons.items():
        display.show(f"{rows:,} rows: {reason}")
    display.show(f"written to {result.out}" if result.out else "dry run: nothing written")
