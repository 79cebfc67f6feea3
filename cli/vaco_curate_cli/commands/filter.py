"""``vaco-curate filter``."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import click

from vaco_curate.curation import Cut, Level
from vaco_curate.stages.select import SelectionResult, filter_dataset
from vaco_curate_cli.display import Display, number_text, summary_table
from vaco_curate_cli.options import (
    FOLDER,
    Top,
    dataset_option,
    force_option,
    output_options,
    resolve_run,
    run_argument,
)


@click.command(name="filter", short_help="Keep the best rows or episodes, as Parquet.")
@run_argument
@click.option("--top", type=Top(), help="Keep this share of the rows (50%) or this many (20000), best first.")
@click.option("--threshold", type=float, help="Keep scores of at least this.")
@click.option(
    "--level",
    type=click.Choice(["transition", "episode"]),
    default="transition",
    show_default=True,
    help="episode: whole episodes by mean score, until the next one would exceed the rows of --top.",
)
@click.option("--out", type=FOLDER, help="Folder to write  [default: beside the run, named after the cut]")
@click.option("--excluded", type=FOLDER, help="Also write the dropped rows, with the reason, to this folder.")
@click.option("--dry-run", is_flag=True, help="Show what would be kept, write nothing.")
@dataset_option
@force_option
@output_options
def filter_command(
    run: Path | None,
    top: Fraction | int | None,
    threshold: float | None,
    level: Level,
    out: Path | None,
    excluded: Path | None,
    dry_run: bool,
    dataset: str | None,
    force: bool,
    display: Display,
) -> None:
    """Keep the best rows, or episodes, of a scored dataset, as Parquet.

    RUN is a folder that 'score' wrote; without it, the newest one here.

    \b
    Examples:
      vaco-curate filter --top 50%
      vaco-curate filter hopper.vaco --top 10% --level episode --out best
      vaco-curate filter --threshold 0 --excluded dropped --dry-run
    """
    if (top is None) == (threshold is None):
        raise click.UsageError("give one of --top and --threshold")
    share = top if isinstance(top, Fraction) else None
    rows = top if isinstance(top, int) else None
    result = filter_dataset(
        resolve_run(run, display),
        Cut(share=share, rows=rows, threshold=threshold),
        level=level,
        out=out,
        excluded=excluded,
        dry_run=dry_run,
        force=force,
        dataset=dataset,
    )
    display.result(result)
    _show(result, display)


def _show(result: SelectionResult, display: Display) -> None:
    display.show(summary_table(result.before, result.after))
    cut = "" if result.cut is None else f", cut at {number_text(result.cut)}"
    display.show(f"kept by: {result.rule}{cut}")
    display.show(f"written to {result.out}" if result.out else "dry run: nothing written")
