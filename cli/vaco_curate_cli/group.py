"""Our click classes: a group that loads commands when they are called, and options that come in sections."""

from __future__ import annotations

import difflib
import importlib
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click
from click.shell_completion import CompletionItem

from vaco_curate_cli.command_line import ARGUMENTS, asked_for, named, variable_of
from vaco_curate_cli.display import DISPLAY, Display
from vaco_curate_cli.failures import Failure, failure_of, usage_failure
from vaco_curate_cli.signals import stopped_by_signals

GO_ON = "vaco_curate.go_on"
"""Name in the context's ``meta`` of the ``Unfinished`` that the command leaves when it is interrupted."""


@dataclass(frozen=True)
class Entry:
    """A command that is not loaded yet.

    Attributes:
        module: of ``vaco_curate_cli.commands``.
        name: of the command in it.
        about: what the command does, in a line.
    """

    module: str
    name: str
    about: str


class SectionOption(click.Option):
    """An option that stands under a heading in the help of its command.

    Args:
        or_empty: whether an empty variable is a value, too; of others it says no more than none.
    """

    def __init__(self, *args: Any, section: str, or_empty: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section, self.or_empty = section, or_empty

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """As ``variable_of`` names it."""
        if ctx.auto_envvar_prefix is None:
            return None
        value = os.environ.get(variable_of(self, ctx))
        return value if value or self.or_empty else None


Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class MakesOption(Protocol):
    """``click.option``."""

    def __call__(self, *declarations: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
        """Make a decorator."""


def options_of(section: str) -> MakesOption:
    """``click.option`` for options under a heading."""

    def option(*declarations: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
        return click.option(*declarations, cls=SectionOption, section=section, **attributes)

    return option


class SectionCommand(click.Command):
    """A command whose options are listed by section, in the order in which sections first appear."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all options, those without a section last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                sections.setdefault(getattr(parameter, "section", "Help"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


class CurateGroup(click.Group):
    """Loads a command's module when it is called, and turns errors into messages and exit codes.

    Args:
        entries: the commands by name, in the order of use.
    """

    def __init__(self, *args: Any, entries: Mapping[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of use."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of this name."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"vaco_curate_cli.commands.{entry.module}")
        command: click.Command = getattr(module, entry.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's; a name that is no command's is refused with the one that is nearest."""
        if args[0] not in self.entries and not args[0].startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], self.entries, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" There are: {', '.join(self.entries)}."
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.about) for name, entry in self.entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of commands, without loading them, and the group's options."""
        found = [
            CompletionItem(name, help=entry.about)
            for name, entry in self.entries.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click's; what was typed is kept for messages."""
        ctx.meta[ARGUMENTS] = list(args)
        with _logged(ctx, only_failures=True), _telling_usage(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a bug keeps its traceback, everything a user can mend does not."""
        with _logged(ctx), _telling_usage(ctx):
            try:
                with stopped_by_signals():
                    return super().invoke(ctx)
            except (Exception, KeyboardInterrupt) as error:
                self._fail(ctx, error)

    def _fail(self, ctx: click.Context, error: BaseException) -> NoReturn:
        if isinstance(error, (click.exceptions.Exit, click.UsageError, Failure, BrokenPipeError)):
            raise error  # click ends quietly where nobody reads on
        failure = failure_of(error, ctx.meta.get(GO_ON), ctx.meta[ARGUMENTS])
        if failure is None:
            raise error
        _tell(ctx, failure.to_json(), failure.message)
        raise failure from error


@contextmanager
def _telling_usage(ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        _tell(ctx, usage_failure(error), error.format_message())
        raise


@contextmanager
def _logged(ctx: click.Context, *, only_failures: bool = False) -> Iterator[None]:
    """Close the log, where there is one, with the exit code that the block leads to."""
    code: Any = 1
    try:
        yield
        code = 0
    except click.exceptions.Exit as done:
        code = done.exit_code
        raise
    except click.ClickException as failure:
        code = failure.exit_code
        raise
    finally:
        display = ctx.meta.get(DISPLAY)
        if display is not None and not (only_failures and code == 0):
            display.ended(code)


def _tell(ctx: click.Context, facts: dict[str, Any], message: str) -> None:
    """Give the error as JSON where that was asked for and nothing was answered; log it where there is a log."""
    display = ctx.meta.get(DISPLAY)
    if display is None:  # what was typed could not be parsed
        display = ctx.meta[DISPLAY] = _display_as_typed(ctx.meta[ARGUMENTS])
    display.failed(facts, message)


def _display_as_typed(arguments: list[str]) -> Display:
    name, as_json, log = named(arguments), bool(asked_for(arguments, "json")), asked_for(arguments, "log-file")
    with suppress(OSError):
        line = shlex.join(["vaco-curate", *arguments])
        return Display(name, as_json=as_json, log_file=Path(log) if log else None, line=line)
    return Display(name, as_json=as_json)
