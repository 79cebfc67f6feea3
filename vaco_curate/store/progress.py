"""How far long work is, told to whoever listens; nobody need pass a callback down to the loops.

On a terminal and in a notebook, bars are shown where nobody listens.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

_numbers = itertools.count()

SOON = 1.0
"""Seconds that a task may take without a bar."""


@dataclass
class Task:
    """Something that takes a while.

    Attributes:
        what: in words, such as "scoring".
        total, done: in ``unit``.
        number: which of the process's tasks this is.
        ended: nothing more will be told of it.
    """

    what: str
    total: int
    unit: str
    done: int = 0
    number: int = field(default_factory=lambda: next(_numbers))
    ended: bool = False


OnTask = Callable[[Task], None]
"""Called when a task begins, whenever some of it is done, and when it ends."""

_listener: ContextVar[OnTask | None] = ContextVar("listener", default=None)
_task: ContextVar[Task | None] = ContextVar("task", default=None)


@contextmanager
def listening(on_task: OnTask) -> Iterator[None]:
    """Call ``on_task`` with all tasks within the block."""
    token = _listener.set(on_task)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def task(what: str, total: int, unit: str = "rows") -> Iterator[None]:
    """Begin a task, of which ``advance`` tells within the block."""
    begun = Task(what, total, unit)
    token = _task.set(begun)
    try:
        tell(begun)
        yield
    finally:
        _task.reset(token)
        begun.ended = True
        tell(begun)


def advance(count: int) -> None:
    """Tell that so much more of the task is done; outside of any, nothing."""
    begun = _task.get()
    if begun is not None and count:
        begun.done += count
        tell(begun)


def tell(begun: Task) -> None:
    """Tell of a task."""
    listener = _listener.get() or (_bars if _somebody_looks() else None)
    if listener is not None:
        listener(begun)


def _somebody_looks() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    in_notebook = type(shell).__name__ == "ZMQInteractiveShell"
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


class _Bars:
    """tqdm's bars, of a terminal or of a notebook."""

    def __init__(self) -> None:
        self._open: dict[int, Any] = {}

    def __call__(self, task: Task) -> None:
        if task.number not in self._open:
            if task.ended:
                return
            with warnings.catch_warnings(action="ignore"):  # a notebook without widgets gets a bar of text
                from tqdm.auto import tqdm  # deferred: nobody looks, mostly

            self._open[task.number] = tqdm(
                desc=task.what, total=task.total, unit=f" {task.unit}", unit_scale=True, delay=SOON
            )
        bar = self._open[task.number]
        bar.total = task.total
        bar.set_description(task.what, refresh=False)
        bar.update(task.done - bar.n)
        if task.ended:
            self._open.pop(task.number).close()


_bars = _Bars()
