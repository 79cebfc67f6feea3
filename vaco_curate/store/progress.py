"""How far long work is, told to whoever listens; nobody need pass a callback down to the loops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

_numbers = itertools.count()


@dataclass
class Task:
    """Something that takes a while.

    Attributes:
        what: in words, such as "scoring".
        total, done: in ``unit``.
        number: which of the process's tasks this is.
    """

    what: str
    total: int
    unit: str
    done: int = 0
    number: int = field(default_factory=lambda: next(_numbers))


OnTask = Callable[[Task], None]
"""Called when a task begins and whenever some of it is done."""

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
        _tell(begun)
        yield
    finally:
        _task.reset(token)


def advance(count: int) -> None:
    """Tell that so much more of the task is done; outside of any, nothing."""
    begun = _task.get()
    if begun is not None:
        begun.done += count
        _tell(begun)


def _tell(begun: Task) -> None:
    listener = _listener.get()
    if listener is not None:
        listener(begun)
