"""What ends a command before its time: the message, the exit code, and the same as JSON."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from vaco_curate.errors import CurateError
from vaco_curate.store.files import store_unusable
from vaco_curate_cli.console import PlainConsole, escaped
from vaco_curate_cli.signals import Terminated

STORE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google", "fsspec")
"""Packages whose errors are an object store's."""

NO_MEMORY = re.compile("can't allocate memory|out of memory")
"""What torch says where Python would raise a ``MemoryError``."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class GoOn:
    """How to continue a training that is interrupted now.

    Attributes:
        command: to be given.
        kept: what is not lost, in words.
    """

    command: str
    kept: str


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


def failure_of(error: BaseException, go_on: GoOn | None) -> Failure | None:
    """What a user is told of an exception; None for a bug, which keeps its traceback.

    Args:
        go_on: with what was interrupted; None where there is nothing to continue.
    """
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return _stopped(error, go_on)
    if isinstance(error, CurateError):
        return Failure(error)
    if isinstance(error, OSError) and not _of_store(error):
        return Failure(_system_error(error))
    if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
        reason = str(error).strip().splitlines() or ["no reason given"]
        fix = "use a machine with more, or fewer rows"
        return Failure(CurateError(f"not enough memory: {reason[0]}", fix=fix))
    if isinstance(error, Exception) and _of_store(error):
        return Failure(store_unusable("output or input", error))
    return None


def usage_failure(error: click.UsageError) -> dict[str, Any]:
    """Wrong usage as JSON; click prints it for people."""
    return {
        "error": {"kind": "usage", "problem": error.format_message(), "details": [], "fix": None},
        "exit_code": error.exit_code,
    }


def _of_store(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in STORE_CLIENTS


def _stopped(error: BaseException, go_on: GoOn | None) -> Failure:
    # click raises an ``Abort`` because of what ended a command that another one has called
    stopped = Ended if isinstance(error, Terminated) or isinstance(error.__cause__, Terminated) else Interrupted
    if go_on is None:
        return stopped(CurateError(f"{stopped.kind}: nothing unfinished is left", fix="give the command again"))
    return stopped(CurateError(f"{stopped.kind}: what was trained is kept, {go_on.kept}", fix=go_on.command))


def _system_error(error: OSError) -> CurateError:
    if error.errno in FULL_DISK:
        return CurateError(
            f"no space left to write: {error.strerror or error}",
            details=("output that was already finished is untouched",),
            fix="free some space, or write elsewhere with --out; continue a scoring run with --resume",
        )
    return CurateError(
        f"{error.filename or 'file system'}: {error.strerror or error}",
        fix="check the path and its permissions",
    )
