"""Files that stay open while a command reads them."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

MOST_OPEN = 64
"""Files that are kept open for the next reader; systems allow a process some hundreds."""

_kept: ContextVar[_Kept | None] = ContextVar("_kept", default=None)


@contextlib.contextmanager
def opened_once() -> Iterator[None]:
    """Within, a file stays open for those who read it again, so that all is read of one version.

    Also a decorator: ``@opened_once()``.
    """
    if _kept.get() is not None:
        yield
        return
    kept = _Kept()
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        kept.close()


@contextlib.contextmanager
def shared(path: Path, opener: Callable[[Path], Any]) -> Iterator[Any]:
    """A file, opened by ``opener`` if it is not open; it is closed at the end, or by ``opened_once``."""
    kept = _kept.get()
    if kept is not None:
        with kept.read(path, opener) as file:
            yield file
        return
    with contextlib.closing(opener(path)) as file:
        yield file


class _Kept:
    """Open files by path, those that were read last at the end."""

    def __init__(self) -> None:
        self._files: dict[Path, Any] = {}
        self._readers: Counter[Path] = Counter()
        self._lock = threading.Lock()  # rows, and columns beside them, are read by two threads

    @contextlib.contextmanager
    def read(self, path: Path, opener: Callable[[Path], Any]) -> Iterator[Any]:
        with self._lock:
            file = self._files.pop(path, None)
            file = self._files[path] = opener(path) if file is None else file
            self._readers[path] += 1
        try:
            yield file
        finally:
            with self._lock:
                self._readers[path] -= 1
                idle = [other for other in self._files if not self._readers[other]]
                for other in idle[: max(0, len(self._files) - MOST_OPEN)]:
                    self._files.pop(other).close()

    def close(self) -> None:
        """Close all, which nobody reads any more."""
        for file in self._files.values():
            file.close()
