"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import click

from vaco_curate.errors import SettingsError
from vaco_curate.folders import newest_run
from vaco_curate.formats.options import ReadOptions
from vaco_curate_cli.display import Display

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json and --quiet; the command receives ``display`` in their place."""

    @functools.wraps(command)
    def with_display(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        return command(*args, display=Display(as_json=as_json, quiet=quiet), **kwargs)

    with_quiet = click.option("--quiet", is_flag=True, help="Print nothing but errors and --json.")(
        with_display
    )
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")(
        with_quiet
    )


def run_argument(command: Command) -> Command:
    """RUN, by default the newest finished run folder here."""
    return click.argument("run", type=FOLDER, required=False)(command)


def resolve_run(run: Path | None, display: Display) -> Path:
    """The run a command works on; says which when it was not named."""
    if run is not None:
        return run
    newest = newest_run()
    display.note(f"using the newest run here: {newest}")
    return newest


def dataset_option(command: Command) -> Command:
    """--dataset, for a dataset that has moved."""
    return click.option("--dataset", help="Where the scored dataset is now, if it has moved.")(command)


def device_option(command: Command) -> Command:
    """--device."""
    choice = click.Choice(["auto", "cpu", "cuda"])
    return click.option(
        "--device", type=choice, default="auto", show_default=True, help="auto: CUDA if there."
    )(command)


def force_option(command: Command) -> Command:
    """--force."""
    return click.option("--force", is_flag=True, help="Replace an output folder of ours that exists.")(command)


def read_options(command: Command) -> Command:
    """--column and --max-episode-steps."""
    command = click.option(
        "--max-episode-steps",
        type=int,
        help="Step limit of the environment, for files without time-limit flags.",
    )(command)
    return click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="OURS=THEIRS,...",
        help="Names of the columns in Parquet of another schema, e.g. observation=obs,action=act.",
    )(command)


def build_read_options(columns: tuple[str, ...], max_episode_steps: int | None) -> ReadOptions | None:
    """The reader's options from the two flags, None when neither is given."""
    if not columns and max_episode_steps is None:
        return None
    pairs = [pair for group in columns for pair in group.split(",") if pair]
    for pair in pairs:
        if pair.count("=") != 1 or pair.startswith("=") or pair.endswith("="):
            raise click.BadParameter(f"{pair!r} is not OURS=THEIRS", param_hint="--column")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise SettingsError(f"--max-episode-steps {max_episode_steps} must be at least 1")
    return ReadOptions(dict(pair.split("=") for pair in pairs), max_episode_steps)


class Top(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``50%`` as an exact fraction, ``20000`` as a number of rows."""

    name = "SHARE%|ROWS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction | int:
        """Parse; ranges are checked by ``Cut``."""
        if isinstance(value, (Fraction, int)):
            return value
        try:
            return Fraction(value[:-1]) / 100 if value.endswith("%") else int(value)
        except (ValueError, ZeroDivisionError):
            self.fail(
                f"{value!r} is neither a share such as 50% nor a number of rows such as 20000", param, ctx
            )


class JsonObject(click.ParamType):  # type: ignore[type-arg]
    """A JSON object given on the command line."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """Parse."""
        if isinstance(value, dict):
            return value
        try:
            parsed = json.loads(value)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return parsed
