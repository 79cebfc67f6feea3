"""``vaco-curate filter``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from vaco_curate.curation import EPISODE, ORDERS, TRANSITION, Cut, Level
from vaco_curate.curation.cut import parse_amount
from vaco_curate.curation.selection import REASONS, SUCCESSOR
from vaco_curate.errors import SettingsError
from vaco_curate.stages.outputs import FILTER_FORMATS
from vaco_curate_cli.display import Display, number_text
from vaco_curate_cli.failures import WrongValue
from vaco_curate_cli.group import SectionCommand, options_of
from vaco_curate_cli.options import (
    FOLDER,
    Command,
    columns_option,
    dataset_option,
    engine_option,
    format_option,
    if_exists_option,
    out_option,
    output_of,
    output_options,
    resolve_run,
    run_argument,
)

if TYPE_CHECKING:
    from vaco_curate.curation import By
    from vaco_curate.stages.select import SelectionResult
    from vaco_curate.store.engines import Engine
    from vaco_curate.store.folders import IfExists

AMOUNTS = "50%|20000|80%ep|64ep"
SUCCESSOR_KEPT = REASONS[SUCCESSOR]

how_much, how = options_of("How much to keep"), options_of("How to choose")


class LevelText(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``transition``, ``episode`` or ``window:N``."""

    name = "transition|episode|window:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level:
        """Parse."""
        return value if isinstance(value, Level) else Level(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """All there are; of windows, the size is left to be typed."""
        levels = (str(TRANSITION), str(EPISODE), "window:")
        return [CompletionItem(level) for level in levels if level.startswith(incomplete)]


class AmountText(click.ParamType):  # type: ignore[type-arg]
    """What ``Cut`` takes as a string."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check; ranges are checked by ``Cut``."""
        try:
            parse_amount(value, param.opts[0] if param is not None else "")
        except SettingsError as error:
            raise WrongValue(error, ctx, param) from error
        return str(value)


def _as_typed(**values: Any) -> list[Any]:
    """Values of options of which one excludes the others: what is typed comes before what a variable gives."""
    source = click.get_current_context().get_parameter_source
    typed = [name for name in values if source(name) is ParameterSource.COMMANDLINE]
    return [value if name in typed or not typed else None for name, value in values.items()]


def cut_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--top, --bottom, --threshold and --budget; the command receives ``cut`` in their place."""

    @functools.wraps(command)
    def with_them(
        *args: Any,
        top: str | None,
        bottom: str | None,
        threshold: float | None,
        budget: int | None,
        **kwargs: Any,
    ) -> Any:
        top, bottom, threshold = _as_typed(top=top, bottom=bottom, threshold=threshold)
        amounts = sum(value is not None for value in (top, bottom, threshold))
        if amounts > 1 or (amounts == 0 and budget is None):
            raise click.UsageError("give exactly one of --top, --bottom and --threshold, or --budget alone")
        cut = Cut(top or bottom, threshold=threshold, worst=bottom is not None, budget=budget)
        return command(*args, cut=cut, **kwargs)

    options = (
        how_much(
            "--top",
            type=AmountText(),
            metavar=AMOUNTS,
            help="Keep the best rows: a share of them (50%) or this many (20000). With ep, whole episodes: a "
            "share of the episodes (80%ep) or this many (64ep).",
        ),
        how_much(
            "--bottom",
            type=AmountText(),
            metavar=AMOUNTS,
            help="Keep the worst rows instead, for inspection or as negative examples.",
        ),
        how_much(
            "--threshold", type=float, help="Keep rows whose score, or other --by value, is at least this."
        ),
        how_much("--budget", type=int, metavar="ROWS", help="Keep at most this many rows, the best ones."),
    )
    for option in reversed(options):
        with_them = option(with_them)
    return with_them


def choice_options(command: Command) -> Command:
    """--by to --seed."""
    options = (
        how(
            "--by",
            type=click.Choice(ORDERS),
            default="score",
            show_default=True,
            help="Rank rows by this. The choices other than score are for comparison.",
        ),
        how(
            "--level",
            type=LevelText(),
            metavar="transition|episode|window:N",
            default=str(TRANSITION),
            show_default=True,
            help="episode and window:N keep whole episodes or windows, best mean score first. "
            "Selection stops at the first one that does not fit. A share stays a share of the rows.",
        ),
        how(
            "--per",
            metavar="COLUMN",
            help="Keep the same share for each value of this column, such as task_index or source_file.",
        ),
        how(
            "--min-episode-length",
            type=int,
            default=1,
            show_default=True,
            help="Leave out episodes with fewer rows than this.",
        ),
        how(
            "--keep-successors",
            type=int,
            default=0,
            metavar="STEPS",
            help="Also keep this many steps after each kept row, for n-step learners.",
        ),
        how("--seed", type=int, default=0, show_default=True, help="Random seed for --by random."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(cls=SectionCommand, name="filter")
@run_argument
@cut_options
@choice_options
@out_option("beside the run, named after the cut")
@output_of("--excluded", type=FOLDER, help="Also write the dropped rows, each with its reason, to this folder.")
@format_option(
    FILTER_FORMATS,
    "npz is one file of arrays. minari needs whole episodes. robomimic writes a filter key and a link to "
    "the source file, "
    "lerobot flags of frames, as RLinf reads them.",
)
@columns_option
@output_of("--selection-only", is_flag=True, help="Write only _selection.pq, the decision for every row.")
@output_of("--dry-run", is_flag=True, help="Show what would be kept, but write nothing.")
@if_exists_option()
@engine_option
@dataset_option
@output_options
def filter_command(
    run: Path | None,
    cut: Cut,
    by: By,
    level: Level,
    per: str | None,
    min_episode_length: int,
    keep_successors: int,
    seed: int,
    out: Path | None,
    excluded: Path | None,
    file_format: str,
    carried: list[str] | None,
    selection_only: bool,
    dry_run: bool,
    if_exists: IfExists,
    engine: Engine,
    dataset: str | None,
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
    from vaco_curate.stages.select import filter_dataset

    with display.progress():
        result = filter_dataset(
            resolve_run(run, display),
            cut,
            by=by,
            level=level,
            per=per,
            min_episode_length=min_episode_length,
            keep_successors=keep_successors,
            seed=seed,
            out=out,
            excluded=excluded,
            file_format=file_format,
            columns=carried,
            engine=engine,
            selection_only=selection_only,
            dry_run=dry_run,
            if_exists=if_exists,
            dataset=dataset,
        )
    display.result(result)
    _show(result, display)


def _show(result: SelectionResult, display: Display) -> None:
    from vaco_curate_cli.tables import summary_table

    display.show(summary_table(result.before, result.after))
    end = "up" if result.rule.startswith(("bottom", "value <=")) else "down"
    at = "" if result.cut is None else f", {end} to {number_text(result.cut)}"
    display.show(f"rule: {result.rule}{at}")
    for note in result.notes:
        display.note(note)
    for warning in result.warnings:
        display.warn(warning)
    for reason, rows in result.reasons.items():
        done = "kept" if reason == SUCCESSOR_KEPT else "dropped"
        display.show(f"{rows:,} rows {done}: {reason}")
    done = "already there:" if result.skipped else "written to"
    display.show(f"{done} {result.out}" if result.out else "dry run: nothing written")
