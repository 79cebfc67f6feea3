"""Files for what is larger than memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_file(folder: Path, size: int) -> Iterator[str]:
    """A file of so many bytes to be mapped. It loses its name at the end, and goes with its last user.

    Raises:
        OSError: no room on the disk.
    """
    handle, name = tempfile.mkstemp(dir=folder)
    try:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(handle, 0, size)  # a full disk is an error here, and death later
        else:
            os.truncate(handle, size)
        yield name
    finally:
        os.close(handle)
        os.unlink(name)  # noqa: PTH108
