"""One command at a time writes a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from vaco_curate.errors import RunError
from vaco_curate.store.files import hidden, is_local


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold ``.NAME.lock`` beside a folder or file, which need not exist, until the block or the process ends.

    What is in an object store is not locked.

    Args:
        wait: until another command lets go of it.

    Raises:
        RunError: another command holds it.
    """
    if not is_local(folder):
        yield
        return
    path = hidden(folder, "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquired(path, folder, wait)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it looks whether it is still the file
        os.close(descriptor)


def _acquired(path: Path, folder: Path, wait: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise RunError(
                f"{folder}: another command is writing it, process {holder}",
                fix="wait until it has ended, or give another --out",
            ) from error
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
        os.close(descriptor)  # its last holder has removed it
