"""``vaco-curate convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaco_curate.data.formats import WRITERS
from vaco_curate_cli.display import Display
from vaco_curate_cli.group import SectionCommand
from vaco_curate_cli.options import (
    DATASET,
    FOLDER,
    columns_option,
    format_option,
    if_exists_option,
    output_of,
    output_options,
    read_options,
)

if TYPE_CHECKING:
    from vaco_curate.data.formats.options import ReadOptions
    from vaco_curate.store.folders import IfExists

ROWS_PER_SHARD = 1_000_000


@click.command(cls=SectionCommand, name="convert")
@click.argument("dataset", type=DATASET)
@click.argument("out", type=FOLDER)
@format_option(tuple(WRITERS), "Format of the output files.")
@output_of(
    "--rows-per-shard",
    type=int,
    default=ROWS_PER_SHARD,
    show_default=True,
    help="Put about this many rows in each file. Episodes are never split.",
)
@columns_option
@if_exists_option()
@read_options
@output_options
def convert_command(
    dataset: str,
    out: Path,
    file_format: str,
    rows_per_shard: int,
    carried: list[str] | None,
    if_exists: IfExists,
    options: ReadOptions | None,
    display: Display,
) -> None:
    """Write DATASET to the folder OUT in another format, without scores.

    \b
    Examples:
      vaco-curate convert hopper-medium-v2.hdf5 hopper
      vaco-curate convert lift/low_dim.hdf5 lift --format minari
    """
    from vaco_curate.stages.convert import convert_dataset

    with display.progress():
        result = convert_dataset(
            dataset,
            out,
            file_format=file_format,
            columns=carried,
            rows_per_shard=rows_per_shard,
            if_exists=if_exists,
            read_options=options,
        )
    display.result(result)
    for note in result.notes:
        display.note(note)
    done = "already there:" if result.skipped else "written to"
    display.show(f"{result.rows:,} rows in {result.episodes:,} episodes, {done} {result.out}")
