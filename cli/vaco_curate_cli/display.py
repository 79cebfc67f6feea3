"""All that the user sees: results on stdout; progress, notes and warnings on stderr, and in a log."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from vaco_curate.wording import Note
from vaco_curate_cli.console import PlainConsole, escaped

if TYPE_CHECKING:  # commands that train nothing need no torch
    from vaco_curate.core.training.loop import OnProgress

DISPLAY = "vaco_curate.display"
"""Name of a command's display in the context's ``meta``."""

SCHEMA_VERSION = 1
"""Of what --json prints (docs/reference/json.md); raised when a key goes or changes its meaning."""


def _answer(command: str, facts: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    document = {"schema_version": SCHEMA_VERSION, "command": command, **facts}
    with _printing():
        click.echo(json.dumps(document, indent=2))


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Where stdout cannot be written, say so, and drop what is left for it: Python would try again."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError), Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        error.filename = "standard output"
        raise


class Display:
    """Where a command's output goes.

    Args:
        command: its name.
        as_json: results as one JSON document on stdout in place of tables.
        quiet: no tables, notes or progress; warnings stay.
        log_file: gets every message with its time, too.
        line: the command, for the log.

    Attributes:
        warnings: how many there were.
    """

    def __init__(
        self,
        command: str = "",
        *,
        as_json: bool = False,
        quiet: bool = False,
        log_file: Path | None = None,
        line: str = "",
    ) -> None:
        self.command, self.as_json, self.quiet = command, as_json, quiet
        self.warnings, self._answered = 0, False
        # No markup: paths and names may hold square brackets.
        self.stdout = PlainConsole(highlight=False, markup=False, soft_wrap=True)
        self.stderr = PlainConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._log = _log_to(log_file)
        self._began = time.monotonic()
        self._log.info("began: %s (process %d)", escaped(line), os.getpid())

    def note(self, text: str) -> None:
        """A remark, on stderr."""
        text = Note(text).on_command_line
        self._log.info("%s", escaped(text))
        if not self.quiet:
            self.stderr.say(text, "dim")

    def warn(self, text: str) -> None:
        """A warning, on stderr."""
        text = Note(text).on_command_line
        self.warnings += 1
        self._log.warning("%s", escaped(text))
        self.stderr.say(Text.assemble(("Warning: ", "yellow"), escaped(text)))

    def show(self, text: str | Table) -> None:
        """A part of the result for people, on stdout."""
        if isinstance(text, str):
            self._log.info("%s", escaped(text).strip())
        if not (self.quiet or self.as_json):
            with _printing():
                self.stdout.print(text)

    def result(self, facts: Any) -> None:
        """The result for machines, on stdout, when --json asks for it."""
        if self.as_json:
            self._answered = True  # also where it cannot be written: the error could not be either
            _answer(self.command, to_json(facts))

    def failed(self, facts: dict[str, Any], message: str) -> None:
        """The error for machines, unless a result was printed; and in the log."""
        with contextlib.suppress(OSError):  # which may be the error itself
            self._log.error("%s", escaped(message))
        if self.as_json and not self._answered:
            self._answered = True
            with contextlib.suppress(OSError):
                _answer(self.command, facts)

    def ended(self, code: int) -> None:
        """The last line of the log."""
        with contextlib.suppress(OSError):
            self._log.info("ended: exit code %d in %.1f s", code, time.monotonic() - self._began)

    @contextlib.contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """Show how far the work within the block is; gives what is called with a training's progress."""
        from vaco_curate_cli.progress import shown  # deferred: most of rich

        with shown(self) as on_progress:
            yield on_progress


class _Appended(logging.FileHandler):
    """Open for a message at a time: several commands may share a log, and none need close it."""

    def emit(self, record: logging.LogRecord) -> None:
        """As ``FileHandler.emit``."""
        super().emit(record)
        self.close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        """Where the log cannot be written, the command is refused."""
        raise


class _Lines(logging.Formatter):
    """Time, process and level before every line: several commands may write to one log at a time."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """As ``Formatter.format``."""
        head = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%SZ')} {record.process} {record.levelname}"
        return "\n".join(f"{head} {line}" for line in record.getMessage().splitlines() or [""])


def _log_to(path: Path | None) -> logging.Logger:
    """A logger of its own: commands may be called one after the other in one process."""
    log = logging.Logger("vaco-curate")
    if path is None:
        log.addHandler(logging.NullHandler())
        return log
    handler = _Appended(path, encoding="utf-8", delay=True)
    handler.setFormatter(_Lines())
    log.addHandler(handler)
    return log


def table(title: str, *columns: str) -> Table:
    """An empty table, first column left, the others right aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", header_style="dim")
    return made


def number_text(value: float | None) -> str:
    """A number for a table: thousands separated, about four digits."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def to_json(facts: Any) -> Any:
    """Dataclasses, paths and containers as plain JSON values."""
    if dataclasses.is_dataclass(facts) and not isinstance(facts, type):
        return {field.name: to_json(getattr(facts, field.name)) for field in dataclasses.fields(facts)}
    if isinstance(facts, Note):
        return facts.on_command_line
    if isinstance(facts, Path):
        return str(facts)
    if isinstance(facts, Mapping):
        return {str(key): to_json(value) for key, value in facts.items()}
    if isinstance(facts, (list, tuple)):
        return [to_json(value) for value in facts]
    return facts
