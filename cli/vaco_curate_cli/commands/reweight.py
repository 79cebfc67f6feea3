"""``vaco-curate reweight``."""

from __future__ import annotations

from pathlib import Path

import click

from vaco_curate.stages.select import WEIGHT_FORMATS, WITHOUT_WEIGHTS, reweight_dataset
from vaco_curate.store.engines import Engine
from vaco_curate_cli.display import Display, summary_table
from vaco_curate_cli.options import (
    FOLDER,
    columns_option,
    dataset_option,
    engine_option,
    force_option,
    format_option,
    output_options,
    resolve_run,
    run_argument,
)


@click.command(name="reweight", short_help="Write every row with a weight (mean 1).")
@run_argument
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Use w ** (1 / temperature). Values above 1 make the weights more uniform, values below 1 less.",
)
@click.option(
    "--clip", type=float, metavar="MAX", help="Clip weights at this, then rescale the rest to keep mean 1."
)
@format_option(
    WEIGHT_FORMATS,
    "weights is a Parquet file of index and weight, npy an array, lerobot a file for LeRobot's RA-BC. "
    "None of them contains the rows.",
    WITHOUT_WEIGHTS,
)
@columns_option
@click.option("--out", type=FOLDER, help="Folder to write.  [default: beside the run]")
@engine_option
@dataset_option
@force_option
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
    force: bool,
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
    result = reweight_dataset(
        resolve_run(run, display),
        temperature=temperature,
        clip=clip,
        file_format=file_format,
        columns=carried,
        engine=engine,
        out=out,
        force=force,
        dataset=dataset,
    )
    display.result(result)
    display.show(summary_table(result.before, result.after))
    before_clip = result.effective_sample_share_before_clipping
    after_clip = result.after.effective_sample_size / result.after.rows
    if before_clip is not None:
        clipped = f", {after_clip:.1%} after clipping at {clip:g}" if clip is not None else ""
        display.show(f"effective sample size: {before_clip:.1%} of the rows{clipped}")
    for note in result.notes:
        display.note(note)
    for warning in result.warnings:
        display.warn(warning)
    display.show(f"written to {result.out}")
