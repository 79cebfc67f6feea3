"""``vaco-curate inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vaco_curate_cli.display import Display, number_text, table
from vaco_curate_cli.group import SectionCommand
from vaco_curate_cli.options import DATASET, output_options, read_options

if TYPE_CHECKING:
    from vaco_curate.data.formats.options import ReadOptions
    from vaco_curate.stages.inspect import Inspection, Spread


@click.command(cls=SectionCommand, name="inspect")
@click.argument("dataset", type=DATASET)
@read_options
@output_options
def inspect_command(dataset: str, options: ReadOptions | None, display: Display) -> None:
    """Describe DATASET: its format, sizes, returns and problems.

    DATASET is a file or folder in the format of D4RL, robomimic, d3rlpy, OGBench, LeRobot or Parquet. It can
    also be the id or the folder of a Minari dataset; minari:ID downloads the dataset. A pattern or a folder of
    several files is read as one dataset.

    \b
    Examples:
      vaco-curate inspect hopper-medium-v2.hdf5
      vaco-curate inspect mujoco/hopper/medium-v0
      vaco-curate inspect logs.parquet --column observation=obs,action=act
      vaco-curate inspect 'runs/*.hdf5'
      vaco-curate inspect lift/image.hdf5 --drop-columns agentview_image
    """
    from vaco_curate.stages.inspect import inspect_dataset

    with display.progress():
        inspection = inspect_dataset(dataset, options)
    display.result(inspection)
    _show(inspection, display)


def _show(found: Inspection, display: Display) -> None:
    facts = table(f"{found.source}", "", "")
    facts.columns[1].justify = "left"
    dtypes = ", ".join(f"{name} {dtype}" for name, dtype in found.dtypes.items())
    low, high = found.action_range
    rows = {
        "format": found.format,
        "files": _files_text(found.files),
        "environment": found.env_id or "not named",
        "rows": number_text(found.rows),
        "episodes": number_text(found.episodes),
        "observation size": _size_text(found),
        "action size": f"{found.action_size}, values from {low:.4g} to {high:.4g}",
        "stored as": dtypes,
        "episode length": _spread_text(found.episode_length),
        "episode return": _spread_text(found.episode_return),
        "terminated rows": number_text(found.terminated_rows),
        "truncated rows": number_text(found.truncated_rows),
        "rows without successor": _without_successor(found),
        "other columns": ", ".join(found.labels),
        "fingerprint": found.fingerprint[:16],
    }
    for label, text in rows.items():
        facts.add_row(label, text)
    display.show(facts)
    for problem in found.problems:
        display.warn(problem)


def _files_text(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{len(files)}, from {files[0]} to {files[-1]}"


def _size_text(found: Inspection) -> str:
    parts = ", ".join(f"{name} {size}" for name, size in found.observation_parts)
    return f"{found.observation_size}: {parts}" if parts else str(found.observation_size)


def _spread_text(spread: Spread) -> str:
    ends_and_middle = (spread.minimum, spread.maximum, spread.mean, spread.median)
    least, most, mean, median = (
        number_text(int(value) if value.is_integer() else value) for value in ends_and_middle
    )
    return f"{least} to {most}, mean {mean}, median {median}"


def _without_successor(found: Inspection) -> str:
    if not found.rows_without_successor:
        return "none"
    first = ", ".join(map(str, found.first_rows_without_successor[:5]))
    more = ", ..." if found.rows_without_successor > 5 else ""
    return (
        f"{found.rows_without_successor:,} rows ({first}{more}); "
        f"{found.rows_without_target:,} of them are not terminal and are left out of TD updates"
    )
