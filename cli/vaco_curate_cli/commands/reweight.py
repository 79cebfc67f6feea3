"""``vaco-curate reweight``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaco_curate.stages.outputs import WEIGHT_FORMATS, WITHOUT_WEIGHTS
from vaco_curate_cli.display import Display
from vaco_curate_cli.group import SectionCommand, options_of
from vaco_curate_cli.options import (
    columns_option,
    dataset_option,
    engine_option,
    format_option,
    if_exists_option,
    out_option,
    output_options,
    resolve_run,
    run_argument,
)

if TYPE_CHECKING:
    from vaco_curate.store.engines import Engine
    from vaco_curate.store.folders import IfExists

weighing = options_of("Weights")


@click.command(cls=SectionCommand, name="reweight")
@run_argument
@weighing(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Use w ** (1 / temperature). Values above 1 make the weights more uniform, values below 1 less.",
)
@weighing(
    "--clip", type=float, metavar="MAX", help="Clip weights at this, then rescale the rest to keep mean 1."
)
@format_option(
    WEIGHT_FORMATS,
    "weights is a Parquet file of index and weight, npy an array, lerobot a file for LeRobot's RA-BC. "
    "None of them contains the rows.",
    WITHOUT_WEIGHTS,
)
@columns_option
@out_option("beside the run")
@engine_option
@dataset_option
@if_exists_option()
@output_options
def reweight_command(
    run: Path | None,
    temperature: float,
    clip: float | None,
    file_format: str,
    carried: list[str] | None,
    out: Path | None,
    engine: Engine,
    dataset: str | None,
    if_exists: IfExists,
    display: Display,
) -> None:
    """Write every row of a scored dataset with a weight. The mean weight is 1.

    RUN is a folder that 'score' wrote. The default is the newest one in the current folder.

    \b
    Examples:
      vaco-curate reweight
      vaco-curate reweight hopper.vaco --clip 10
      vaco-curate reweight --format weights --temperature 2
    """
    from vaco_curate.stages.select import reweight_dataset
    from vaco_curate_cli.tables import summary_table

    with display.progress():
        result = reweight_dataset(
            resolve_run(run, display),
            temperature=temperature,
            clip=clip,
            file_format=file_format,
            columns=carried,
            engine=engine,
            out=out,
            if_exists=if_exists,
            dataset=dataset,
        )
    display.result(result)
    display.show(summary_table(result.before, result.after))
    before_clip = result.effective_sample_share_before_clipping
    after_clip = result.after.effective_sample_size / result.after.rows
    if before_clip is not None:
        clipped = f", {after_clip:.1%} after clipping at {clip:g}" if clip is not None else ""
        display.show(f"effective rows: {before_clip:.1%}{clipped}")
    for note in result.notes:
        display.note(note)
    for warning in result.warnings:
        display.warn(warning)
    display.show(f"{'already there:' if result.skipped else 'written to'} {result.out}")
