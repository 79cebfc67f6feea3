"""The ``vaco-curate`` group, and the one place where library errors become exit codes."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from vaco_curate.errors import CurateError
from vaco_curate.store import interrupts
from vaco_curate.store.files import store_unusable
from vaco_curate_cli.console import PlainConsole, escaped

COMMANDS = {
    "inspect": "inspect:inspect_command",
    "score": "score:score_command",
    "filter": "filter:filter_command",
    "reweight": "reweight:reweight_command",
    "eval": "evaluate:eval_command",
    "report": "report:report_command",
    "convert": "convert:convert_command",
    "verify": "verify:verify_command",
    "demo": "demo:demo_command",
}
STORE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "s3fs", "gcsfs", "google")
"""Packages whose errors are an object store's."""

NO_MEMORY = re.compile("can't allocate memory|out of memory")
"""What torch says where Python would raise a ``MemoryError``."""

SOON = 0.05
"""Seconds after which a signal that was lost is sent again."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(click.ClickException):
    """A request that was understood and refused: exit code 1."""

    exit_code = 1

    def __init__(self, lines: list[str]) -> None:
        super().__init__("\n".join(lines))

    def show(self, file: Any = None) -> None:
        """Print the message to stderr."""
        first, *rest = self.message.splitlines()
        console = PlainConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(Text.assemble(("Error: ", "bold red"), escaped(first)))
        for line in rest:
            console.print(line)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send: it cleans up as Ctrl-C does."""


class Interrupted(click.ClickException):
    """Ctrl-C: exit code 130."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("interrupted; to continue a scoring run, use 'vaco-curate score DATASET --resume'")

    def show(self, file: Any = None) -> None:
        """Print the message to stderr."""
        Console(stderr=True, highlight=False).print(f"\n{self.message}")


class Ended(Interrupted):
    """SIGTERM: exit code 143."""

    exit_code = 143


class CurateGroup(click.Group):
    """Loads a command's module when it is called, and turns errors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(importlib.import_module(f"vaco_curate_cli.commands.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a bug keeps its traceback, everything a user can mend does not."""
        try:
            with _stopped_by_signals():
                return super().invoke(ctx)
        except CurateError as error:
            raise Refused(error.lines()) from error
        except Terminated as error:
            raise Ended from error
        except (KeyboardInterrupt, click.Abort) as error:
            raise Interrupted from error
        except OSError as error:
            raise Refused(_system_error(error)) from error
        except Exception as error:
            if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
                reason = str(error).strip().splitlines() or ["no reason given"]
                raise Refused(
                    [f"not enough memory: {reason[0]}", "  fix: use a machine with more, or fewer rows"]
                ) from error
            if type(error).__module__.partition(".")[0] not in STORE_CLIENTS:
                raise
            raise Refused(store_unusable("output or input", error).lines()) from error


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, and both also where Python or a library has lost them.

    What a signal raises is dropped if it comes while an object is finalized, and the command would go on: it is
    sent again. What fails after a signal that a library has swallowed is taken for its consequence, and what is
    made after one gets no name (``store.interrupts``).
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Python takes no signals
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        interrupts.receive(Terminated if number == signal.SIGTERM else KeyboardInterrupt)

    def dropped(ignored: sys.UnraisableHookArgs) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            hook_before(ignored)
            return
        number = signal.SIGTERM if issubclass(ignored.exc_type, Terminated) else signal.SIGINT
        again = threading.Timer(SOON, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    hook_before, sys.unraisablehook = sys.unraisablehook, dropped
    handlers_before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception:
        interrupts.raise_received()
        raise
    finally:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook_before
        interrupts.forget()


def _system_error(error: OSError) -> list[str]:
    if error.errno in FULL_DISK:
        return [
            f"no space left to write: {error.strerror or error}",
            "  output that was already finished is untouched",
            "  fix: free some space, or write elsewhere with --out; continue a scoring run with --resume",
        ]
    return [
        f"{error.filename or 'file system'}: {error.strerror or error}",
        "  fix: check the path and its permissions",
    ]


@click.group(
    cls=CurateGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused with a message, 2 wrong usage, 130 interrupted, 143 terminated.",
)
@click.version_option(package_name="vaco-curate")
def main() -> None:
    """Which rows of an offline-RL dataset are worth learning from?

    \b
    vaco-curate score dataset.hdf5      train the scorer, score every row
    vaco-curate filter --top 50%        write the better half as Parquet
    vaco-curate report                  write an HTML page about the scores
    """
