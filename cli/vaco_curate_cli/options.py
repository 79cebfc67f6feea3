"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

import click

from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.errors import SettingsError
from vaco_curate.store.engines import ENGINES
from vaco_curate.store.files import place
from vaco_curate.store.folders import newest_run
from vaco_curate_cli.display import Display

Command = TypeVar("Command", bound=Callable[..., Any])


class FolderAddress(click.ParamType):  # type: ignore[type-arg]
    """A folder here, or in an object store."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Parse."""
        return place(value)


FOLDER = FolderAddress()


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json and --quiet; the command receives ``display`` in their place."""

    @functools.wraps(command)
    def with_display(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        return command(*args, display=Display(as_json=as_json, quiet=quiet), **kwargs)

    with_quiet = click.option("--quiet", is_flag=True, help="Print only errors and the --json result.")(
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
    return click.option("--dataset", help="New location of the scored dataset, if it has moved.")(command)


def device_option(command: Command) -> Command:
    """--device."""
    choice = click.Choice(["auto", "cpu", "cuda"])
    return click.option(
        "--device", type=choice, default="auto", show_default=True, help="auto uses CUDA if it is available."
    )(command)


def engine_option(command: Command) -> Command:
    """--engine."""
    return click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        show_default=True,
        help="ray spreads the files of the dataset over a Ray cluster. "
        "To continue after a failure, run the same command again.",
    )(command)


class FormatName(click.Choice):  # type: ignore[type-arg]
    """One of some formats; another known one is refused with the reason."""

    def __init__(self, formats: Sequence[str], refused: Mapping[str, str]) -> None:
        super().__init__(formats)
        self._refused = refused

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse."""
        if value in self._refused:
            self.fail(self._refused[value], param, ctx)
        return super().convert(value, param, ctx)


def format_option(
    formats: Sequence[str], help_text: str, refused: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """--format, Parquet by default; with the reasons why others are refused."""
    return click.option(
        "--format",
        "file_format",
        type=FormatName(formats, refused or {}),
        default="parquet",
        show_default=True,
        help=help_text,
    )


def columns_option(command: Command) -> Command:
    """--columns; None for all, none where it is empty."""
    return click.option(
        "--columns",
        "carried",
        callback=lambda context, option, value: (
            value if value is None else [n.strip() for n in value.split(",") if n.strip()]
        ),
        metavar="NAME,...",
        help="Other columns of the source to write with the rows. The default is all, '' none.",
    )(command)


def force_option(command: Command) -> Command:
    """--force."""
    return click.option("--force", is_flag=True, help="Replace the output folder if vaco-curate wrote it.")(
        command
    )


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how to read a dataset; the command receives ``options`` in their place."""

    @functools.wraps(command)
    def with_options(*args: Any, **kwargs: Any) -> Any:
        names = ("columns", "success", "step_cost", "max_episode_steps", "dropped")
        return command(*args, options=_build_options(**{name: kwargs.pop(name) for name in names}), **kwargs)

    options = (
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="OURS=THEIRS,...",
            help="Map column names: observation=obs,action=act. Join several columns with 'obs_*' or a+b.",
        ),
        click.option(
            "--success",
            metavar="NAME",
            help="Success flag of frames, or of LeRobot episodes: it becomes a reward of 1 and a true end.",
        ),
        click.option(
            "--step-cost",
            type=float,
            metavar="COST",
            help="Subtract this from every reward, so that slow successes are worth less than fast ones.",
        ),
        click.option(
            "--max-episode-steps",
            type=int,
            help="Step limit of the environment. Files without time-limit flags need it.",
        ),
        click.option(
            "--drop-columns",
            "dropped",
            metavar="NAME,...",
            help="Leave out these parts of the observation, such as images. Use their names in the source.",
        ),
    )
    for option in reversed(options):
        with_options = option(with_options)
    return with_options


def _build_options(
    columns: tuple[str, ...],
    success: str | None,
    step_cost: float | None,
    max_episode_steps: int | None,
    dropped: str | None,
) -> ReadOptions | None:
    """None when no option is given: a resumed run then goes on with those that it began with."""
    if not columns and all(given is None for given in (success, step_cost, max_episode_steps, dropped)):
        return None
    pairs = [pair for group in columns for pair in group.split(",") if pair]
    for pair in pairs:
        if pair.count("=") != 1 or pair.startswith("=") or pair.endswith("="):
            raise click.BadParameter(f"{pair!r} is not OURS=THEIRS", param_hint="--column")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise SettingsError(f"--max-episode-steps {max_episode_steps} must be at least 1")
    names = tuple(name for name in (dropped or "").split(",") if name)
    mapped = dict(pair.split("=") for pair in pairs)
    return ReadOptions(mapped, max_episode_steps, names, success, step_cost or 0.0)


class Amount(TypedDict, total=False):
    """How much to keep, as an argument of ``Cut``."""

    share: Fraction
    rows: int
    episodes: Fraction | int


class Top(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """``50%`` as an exact fraction, ``20000`` as a number of rows; with ``ep`` at the end, of episodes."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Amount:
        """Parse; ranges are checked by ``Cut``."""
        if isinstance(value, dict):
            return cast(Amount, value)
        value = value.lower()
        text = value.removesuffix("ep")
        try:
            amount = Fraction(text[:-1]) / 100 if text.endswith("%") else int(text)
        except (ValueError, ZeroDivisionError):
            self.fail(
                f"{value!r} is neither a share such as 50% nor a number of rows such as 20000; "
                "of episodes: 80%ep, or 64ep",
                param,
                ctx,
            )
        if value.endswith("ep"):
            return Amount(episodes=amount)
        return Amount(share=amount) if isinstance(amount, Fraction) else Amount(rows=amount)


class Size(click.ParamType):  # type: ignore[type-arg]
    """``8GB`` or ``500MB`` as bytes."""

    name = "GB|MB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([GM])B", value.strip(), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is not a size such as 8GB or 500MB", param, ctx)
        return int(float(found[1]) * {"G": 1e9, "M": 1e6}[found[2].upper()])


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
