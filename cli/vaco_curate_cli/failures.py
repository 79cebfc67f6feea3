"""What ends a command before its time: the message, the exit code, and the same as JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from vaco_curate.errors import CurateError
from vaco_curate.store.files import FULL_DISK, store_unusable
from vaco_curate.store.folders import CHECKPOINT_FILE
from vaco_curate.store.manifest import FILE_NAME
from vaco_curate_cli.console import PlainConsole, escaped
from vaco_curate_cli.signals import Terminated

STORE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "fsspec")
"""Packages whose errors are an object store's."""

NO_MEMORY = re.compile("can't allocate memory|out of memory")
"""What torch says where Python would raise a ``MemoryError``."""


@dataclass(frozen=True)
class Unfinished:
    """What a training leaves when it is interrupted.

    Attributes:
        folder: of the run until it is complete; need not be there.
        go_on: the command that continues it.
        reached: how far it was, in words; None where it did not say.
    """

    folder: Path
    go_on: str
    reached: str | None = None

    @property
    def begun(self) -> bool:
        """Whether there is anything to continue."""
        return (self.folder / FILE_NAME).is_file()

    @property
    def trained(self) -> bool:
        """Whether anything that was trained is kept."""
        return self.begun and (self.folder / CHECKPOINT_FILE).is_file()


class WrongValue(click.BadParameter):
    """A value of an option that was understood and refused."""

    def __init__(self, error: CurateError, ctx: click.Context | None, param: click.Parameter | None) -> None:
        super().__init__("\n".join(error.lines()), ctx, param)
        self.error = error

    def facts(self) -> dict[str, Any]:
        """The error for machines."""
        problem = click.BadParameter(self.error.problem, self.ctx, self.param).format_message()
        return {"problem": problem, "details": list(self.error.details), "fix": self.error.fix}


class Failure(click.ClickException):
    """A request that was understood and refused.

    Args:
        error: what is wrong, and how to fix it.
    """

    exit_code = 1
    kind = "refused"

    def __init__(self, error: CurateError) -> None:
        super().__init__("\n".join(error.lines()))
        self.error = error

    def show(self, file: Any = None) -> None:
        """Print the message to stderr."""
        first, *rest = self.message.splitlines()
        console = PlainConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.say(Text.assemble(("Error: ", "bold red"), escaped(first)))
        for line in rest:
            console.say(line)

    def to_json(self) -> dict[str, Any]:
        """Under the key ``error``."""
        error = self.error
        facts = {"problem": error.problem, "details": list(error.details), "fix": error.fix}
        return {"error": {"kind": self.kind, **facts}, "exit_code": self.exit_code}


class Interrupted(Failure):
    """Ctrl-C."""

    exit_code = 130
    kind = "interrupted"
    go_on = "to go on"

    def show(self, file: Any = None) -> None:
        """Print the message to stderr, below what was being shown."""
        console = PlainConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print()
        console.say(self.error.problem)
        console.print(f"  {self.go_on}: {self.error.fix}")


class Ended(Interrupted):
    """SIGTERM."""

    exit_code = 143
    kind = "terminated"


def failure_of(error: BaseException, left: Unfinished | None, typed: Sequence[str]) -> Failure | None:
    """What a user is told of an exception; None for a bug, which keeps its traceback.

    Args:
        left: by a command that trains.
        typed: the command line.
    """
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return _stopped(error, left)
    if isinstance(error, CurateError):
        return Failure(error)
    if isinstance(error, OSError) and not _of_store(error):
        return Failure(_system_error(error, left))
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        reason = str(error).strip().splitlines() or ["no reason given"]
        fix = "use a machine with more, or fewer rows"
        return Failure(CurateError(f"not enough memory: {reason[0]}", fix=fix))
    if isinstance(error, Exception) and _of_store(error):
        return Failure(store_unusable(_stores_in(typed), error))
    return None


def usage_failure(error: click.UsageError) -> dict[str, Any]:
    """Wrong usage as JSON; click prints it for people."""
    plain: dict[str, Any] = {"problem": error.format_message(), "details": [], "fix": None}
    facts = error.facts() if isinstance(error, WrongValue) else plain
    return {"error": {"kind": "usage", **facts}, "exit_code": error.exit_code}


def _of_store(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in STORE_CLIENTS


def _stores_in(typed: Sequence[str]) -> str:
    """The addresses in stores that a command line names."""
    found = [word[word.find(scheme) :] for word in typed for scheme in ("s3://", "gs://") if scheme in word]
    return " or ".join(found) or "output or input"


def _stopped(error: BaseException, left: Unfinished | None) -> Failure:
    # click raises an ``Abort`` because of what ended a command that another one has called
    stopped = Ended if isinstance(error, Terminated) or isinstance(error.__cause__, Terminated) else Interrupted
    if left is None or not left.begun:
        nothing = stopped(CurateError(f"{stopped.kind}: nothing is kept", fix="give the command again"))
        nothing.go_on = "to begin anew"
        return nothing
    kept = "nothing was trained yet, the run is begun"
    if left.trained:
        kept = "what was trained is kept" + (f", {left.reached}" if left.reached else "")
    return stopped(CurateError(f"{stopped.kind}: {kept}", fix=left.go_on))


def _system_error(error: OSError, left: Unfinished | None) -> CurateError:
    if error.errno in FULL_DISK:
        where = f"{error.filename}: " if error.filename else ""
        fix = "free some space, or write elsewhere"
        if left is not None and left.trained:
            fix = f"free some space, then go on from the last checkpoint: {left.go_on}"
        return CurateError(
            f"{where}no space left to write: {error.strerror or error}",
            details=("output that was already finished is untouched",),
            fix=fix,
        )
    return CurateError(
        f"{error.filename or 'file system'}: {error.strerror or error}",
        fix="check the path and its permissions",
    )
