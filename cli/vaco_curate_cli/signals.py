"""Ctrl-C and SIGTERM, which end a command also where Python or a library has lost them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from vaco_curate.store import interrupts

SOON = 0.05
"""Seconds after which a signal that was lost is sent again."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which batch systems send: it cleans up as Ctrl-C does."""


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
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
