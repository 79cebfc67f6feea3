"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from vaco_curate.store.engines import ENGINES
from vaco_curate.store.files import place
from vaco_curate.store.folders import CURATED, RUN, is_complete, newest_run
from vaco_curate_cli.command_line import effective_command, unknown_variables
from vaco_curate_cli.display import DISPLAY, Display
from vaco_curate_cli.group import options_of

if TYPE_CHECKING:
    from vaco_curate.data.formats.options import ReadOptions

Command = TypeVar("Command", bound=Callable[..., Any])

WARNED = 3
"""Exit code under --strict where there were warnings."""

reading, output_of, where, messages = map(
    options_of, ("How to read the dataset", "Output", "Where to compute", "Messages")
)


class FolderAddress(click.ParamType):  # type: ignore[type-arg]
    """A folder here, or in an object store."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Parse."""
        return place(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Folders."""
        return [CompletionItem(incomplete, type="dir")]


class RunFolder(FolderAddress):
    """A run folder, or one of further kinds; completed with the finished ones of a folder."""

    def __init__(self, *further: str) -> None:
        self.kinds = (RUN, *further)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Finished ones, or else folders to look into."""
        parent, start = Path(incomplete).parent, Path(incomplete).name if incomplete[-1:] != "/" else ""
        parent = Path(incomplete) if incomplete[-1:] == "/" else parent
        folders = [path for path in parent.glob(f"{start}*") if path.is_dir()] if parent.is_dir() else []
        finished = [str(path) for path in folders if any(is_complete(path, kind) for kind in self.kinds)]
        return [CompletionItem(name) for name in finished] or super().shell_complete(ctx, param, incomplete)


class DatasetAddress(click.ParamType):  # type: ignore[type-arg]
    """A file, a folder, a pattern or an id; completed as a file."""

    name = "dataset"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Files and folders."""
        return [CompletionItem(incomplete, type="file")]


FOLDER, RUN_FOLDER, DATASET = FolderAddress(), RunFolder(), DatasetAddress()
RUN_OR_CURATED = RunFolder(CURATED)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--json to --log-file; the command receives ``display`` in their place."""

    @functools.wraps(command)
    def with_display(
        *args: Any, as_json: bool, quiet: bool, strict: bool, log_file: Path | None, **kwargs: Any
    ) -> Any:
        context = click.get_current_context()
        name = context.command.name or ""
        display = context.meta[DISPLAY] = Display(
            name, as_json=as_json, quiet=quiet, log_file=log_file, line=effective_command()
        )
        for variable in unknown_variables(context):
            display.warn(f"{variable} is no option of {name}: it has no effect")
        command(*args, display=display, **kwargs)
        if strict and display.warnings:
            display.note(f"--strict: {display.warnings} warning(s), so the exit code is {WARNED}")
            context.exit(WARNED)

    options = (
        messages("--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON on stdout."),
        messages("--quiet", is_flag=True, help="Print only errors, warnings and the --json result."),
        messages("--strict", is_flag=True, help=f"Exit with code {WARNED} if there was a warning."),
        messages(
            "--log-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Also append every message, with its time, to this file.",
        ),
    )
    for option in reversed(options):
        with_display = option(with_display)
    return with_display


def run_argument(command: Command) -> Command:
    """RUN, by default the newest finished run folder here."""
    return click.argument("run", type=RUN_FOLDER, required=False)(command)


def resolve_run(run: Path | None, display: Display) -> Path:
    """The run a command works on; says which when it was not named."""
    if run is not None:
        return run
    newest = newest_run()
    display.note(f"using the newest run here: {newest}")
    return newest


def dataset_option(command: Command) -> Command:
    """--dataset, for a dataset that has moved."""
    return reading("--dataset", type=DATASET, help="New location of the scored dataset, if it has moved.")(
        command
    )


def device_option(command: Command) -> Command:
    """--device."""
    choice = click.Choice(["auto", "cpu", "cuda"])
    return where(
        "--device", type=choice, default="auto", show_default=True, help="auto uses CUDA if it is available."
    )(command)


def engine_option(command: Command) -> Command:
    """--engine."""
    return where(
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
    return output_of(
        "--format",
        "file_format",
        type=FormatName(formats, refused or {}),
        default="parquet",
        show_default=True,
        help=help_text,
    )


def columns_option(command: Command) -> Command:
    """--columns; None for all, none where it is empty."""
    return output_of(
        "--columns",
        "carried",
        callback=lambda context, option, value: (
            value if value is None else [n.strip() for n in value.split(",") if n.strip()]
        ),
        metavar="NAME,...",
        or_empty=True,
        help="Other columns of the source to write with the rows. The default is all, '' none.",
    )(command)


def out_option(default: str) -> Callable[[Command], Command]:
    """--out."""
    return output_of("--out", type=FOLDER, help=f"Folder to write.  [default: {default}]")


def if_exists_option(choices: Sequence[str] = ("fail", "skip", "replace")) -> Callable[[Command], Command]:
    """--if-exists."""
    skip = "skip: end with exit code 0 if it is finished and was made from the same inputs and settings. "
    return output_of(
        "--if-exists",
        type=click.Choice(choices),
        default="fail",
        show_default=True,
        help=f"What to do if the output exists. {skip * ('skip' in choices)}"
        "replace: only what vaco-curate wrote is ever replaced.",
    )


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how to read a dataset; the command receives ``options`` in their place."""

    @functools.wraps(command)
    def with_options(*args: Any, **kwargs: Any) -> Any:
        names = ("columns", "success", "step_cost", "max_episode_steps", "dropped")
        return command(*args, options=_build_options(**{name: kwargs.pop(name) for name in names}), **kwargs)

    options = (
        reading(
            "--column",
            "columns",
            multiple=True,
            metavar="OURS=THEIRS,...",
            help="Map column names: observation=obs,action=act. Join several columns with 'obs_*' or a+b.",
        ),
        reading(
            "--success",
            metavar="NAME",
            help="Success flag of frames, or of LeRobot episodes: it becomes a reward of 1 and a true end.",
        ),
        reading(
            "--step-cost",
            type=float,
            metavar="COST",
            help="Subtract this from every reward, so that slow successes are worth less than fast ones.",
        ),
        reading(
            "--max-episode-steps",
            type=int,
            help="Step limit of the environment. Files without time-limit flags need it.",
        ),
        reading(
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
    names = tuple(name for name in (dropped or "").split(",") if name)
    mapped = dict(pair.split("=") for pair in pairs)
    from vaco_curate.data.formats.options import ReadOptions

    return ReadOptions(mapped, max_episode_steps, names, success, step_cost or 0.0)


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
