"""Writing a file so that readers see the old contents or the new, never a part."""

from __future__ import annotations

from pathlib import Path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the contents of ``path``; on any failure what stood there stays, and nothing else is left.

    Raises:
        OSError: the disk is full, or the folder cannot be written to.
    """
    unfinished = path.with_name(f"{path.name}.partial")
    try:
        unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
