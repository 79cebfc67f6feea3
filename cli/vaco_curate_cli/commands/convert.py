"""``vaco-curate convert``."""

from __future__ import annotations

from pathlib import Path

import click

from vaco_curate.data.formats import WRITERS
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.stages.convert import ROWS_PER_SHARD, convert_dataset
from vaco_curate_cli.display import Display
from vaco_curate_cli.options import (
    FOLDER,
    columns_option,
    force_option,
    format_option,
    output_options,
    read_options,
)


@click.command(name="convert", short_help="Write a dataset in another format.")
@click.argument("dataset")
@click.argument("out", type=FOLDER)
@format_option(tuple(WRITERS), "Format of the output files.")
@click.option(
    "--rows-per-shard",
    type=int,
    default=ROWS_PER_SHARD,
    show_default=True,
    help="Put about this many rows in each file. Episodes are never split.",
)
@columns_option
@force_option
@read_options
@output_options
def convert_command(
    dataset: str,
    out: Path,
    file_format: str,
    rows_per_shard: int,
    carried: list[str] | None,
    force: bool,
    options: ReadOptions | None,
    display: Display,
) -> None:
    """Write DATASET to the folder OUT in another format, without scores.

    \b
    Examples:
      vaco-curate convert hopper-medium-v2.hdf5 hopper
      vaco-curate convert lift/low_dim.hdf5 lift --format minari
    """
    result = convert_dataset(
        dataset,
        out,
        file_format=file_format,
        columns=carried,
        rows_per_shard=rows_per_shard,
        force=force,
        read_options=options,
    )
    display.result(result)
    for note in result.notes:
        display.note(note)
    display.show(f"{result.rows:,} rows in {result.episodes:,} episodes, written to {result.out}")
