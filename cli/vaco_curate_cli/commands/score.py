"""``vaco-curate score``."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import TrainSettings, settings_from_json
from vaco_curate.errors import SettingsError
from vaco_curate.stages.training_tasks import how_far
from vaco_curate.store.folders import run_folder_for, unfinished_folder
from vaco_curate_cli.command_line import effective_command
from vaco_curate_cli.display import Display, table
from vaco_curate_cli.failures import Unfinished
from vaco_curate_cli.group import GO_ON, SectionCommand, options_of
from vaco_curate_cli.options import (
    DATASET,
    RUN_FOLDER,
    Size,
    device_option,
    engine_option,
    if_exists_option,
    out_option,
    output_of,
    output_options,
    read_options,
    where,
)

if TYPE_CHECKING:
    from vaco_curate.core.training.loop import OnProgress, Progress
    from vaco_curate.data.formats.options import ReadOptions
    from vaco_curate.stages.score_runs import ScoreResult
    from vaco_curate.store.engines import Engine
    from vaco_curate.store.folders import IfExists

training = options_of("Training")


@click.command(cls=SectionCommand, name="score")
@click.argument("dataset", type=DATASET)
@training(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="Which networks to train, and for how long (see above).  [default: standard]",
)
@training(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file of settings that override the preset. The _manifest.json of a run works too.",
)
@training("--seed", type=int, help="Random seed for networks and minibatches.  [default: 0]")
@training("--members", type=int, help="Train this many scorers and use their mean score.  [default: 1]")
@training(
    "--scorer", type=RUN_FOLDER, metavar="RUN", help="Apply the scorer of this run instead of training one."
)
@out_option("NAME.vaco in the current folder")
@if_exists_option()
@output_of(
    "--resume",
    is_flag=True,
    help="Continue an unfinished run with its own settings. With --if-exists replace, continue one that the "
    "same command began, and replace any other run.",
)
@device_option
@engine_option
@where(
    "--memory-limit",
    type=Size(),
    help="Train from memory-mapped files if training needs more memory than this.  "
    "[default: half of the machine's memory, and half of the GPU's]",
)
@where("--no-cache", is_flag=True, help="Do not keep the memory-mapped files in the cache folder.")
@read_options
@output_options
def score_command(
    dataset: str,
    out: Path | None,
    scorer: Path | None,
    preset: str | None,
    config: Path | None,
    seed: int | None,
    members: int | None,
    device: str,
    engine: Engine,
    resume: bool,
    if_exists: IfExists,
    memory_limit: int | None,
    no_cache: bool,
    options: ReadOptions | None,
    display: Display,
) -> None:
    """Train a scorer on DATASET and score every row.

    The score of a row says how much reward the trajectory around it earned, and how much better the states are
    that this trajectory led to. The command writes a run folder with the scorer, the scores and the training
    metrics. You can interrupt training with Ctrl-C and continue it with --resume.

    \b
    Presets:
      quick     learns the values only, in at most 20k updates.
                The score needs nothing more.
      standard  learns the values in at most 30k updates, then the paper's
                network in at most 6k updates, for the column vaco_score.
      paper     makes 1M + 1M updates, which takes hours. The equations,
                networks and learning rates are the published ones. The numbers
                of updates, the sigmoid, the noise and the scaling of inputs
                and rewards are our choices.

    The training time hardly depends on the number of rows.

    \b
    Examples:
      vaco-curate score hopper-medium-v2.hdf5
      vaco-curate score hopper-medium-v2.hdf5 --preset quick --out first-look
      vaco-curate score more-data.parquet --scorer hopper-medium-v2.vaco
    """
    if scorer is not None:
        trains = preset or config or resume or no_cache
        if trains or any(option is not None for option in (seed, members, memory_limit)):
            raise click.UsageError(
                "--scorer applies a trained scorer to some rows at a time. Leave out --preset, --config, "
                "--seed, --members, --resume, --memory-limit and --no-cache"
            )
        from vaco_curate.stages.apply import apply_scorer

        with display.progress():
            result = apply_scorer(
                dataset,
                scorer,
                out=out,
                device=device,
                engine=engine,
                if_exists=if_exists,
                read_options=options,
            )
    elif engine != "local":
        raise click.UsageError("--engine ray does not train; name a trained scorer with --scorer")
    else:
        from vaco_curate.stages.train import score_dataset

        left = Unfinished(unfinished_folder(out or run_folder_for(dataset)), effective_command("--resume"))
        with _trained(display, left) as on_progress:
            result = score_dataset(
                dataset,
                out=out,
                settings=_settings(preset, config),
                seed=seed,
                members=members,
                device=device,
                resume=resume,
                if_exists=if_exists,
                read_options=options,
                memory_limit=memory_limit,
                cache=not no_cache,
                on_progress=on_progress,
                on_note=display.note,
            )
    display.result(result)
    _show(result, display)


@contextmanager
def _trained(display: Display, left: Unfinished) -> Iterator[OnProgress]:
    """Show training; what interrupts it says what is left, and how far it was."""
    context = click.get_current_context()
    context.meta[GO_ON] = left
    with display.progress() as shown:

        def on_progress(progress: Progress) -> None:
            context.meta[GO_ON] = dataclasses.replace(left, reached=how_far(progress))
            shown(progress)

        yield on_progress


def _settings(preset: str | None, config: Path | None) -> TrainSettings | None:
    if preset is None and config is None:
        return None
    base = PRESETS[preset or "standard"]
    if config is None:
        return base
    try:
        facts = json.loads(config.read_text())
    except ValueError as error:
        raise SettingsError(f"{config}: not JSON", details=(str(error),)) from error
    if not isinstance(facts, dict):
        raise SettingsError(f"{config}: must hold a JSON object of settings")
    settings = facts.get("settings", facts)
    if not isinstance(settings, dict):
        raise SettingsError(f"{config}: 'settings' must be a JSON object")
    try:
        return settings_from_json(settings, base)
    except SettingsError as error:
        raise SettingsError(f"{config}: {error.problem}", details=error.details, fix=error.fix) from error


def _show(result: ScoreResult, display: Display) -> None:
    for note in result.notes:
        display.note(note)
    for warning in result.warnings:
        display.warn(warning)
    facts = table("", "", "")
    facts.columns[1].justify = "left"
    facts.add_row("run", f"{result.run}{', already there' if result.skipped else ''}")
    facts.add_row("scored", f"{result.rows:,} rows in {result.episodes:,} episodes")
    if result.members > 1:
        facts.add_row("score", f"mean of {result.members} members; score_std is their spread")
    share = f"{result.effective_sample_share:.0%}"
    facts.add_row("effective rows", f"{share} of all carry the weights (set by the temperature)")
    facts.add_row("effective episodes", f"{result.effective_episodes:.1f} of {result.episodes:,} carry them")
    if result.seconds:
        spent = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in result.seconds.items())
        facts.add_row("time", spent)
    display.show(facts)
    run = shlex.quote(str(result.run))
    display.note(f"next: vaco-curate report {run}")
    if result.proposed is not None:
        command, _, options = result.proposed.on_command_line.partition(" ")
        display.note(f"next: vaco-curate {command} {run} {options}".rstrip())
