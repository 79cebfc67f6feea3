"""What the HDF5 readers share: opening a file, and refusing what is not one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vaco_curate.errors import DatasetError

SUFFIXES = (".hdf5", ".h5")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file at a path, open for reading.

    Raises:
        DatasetError: no such file, not HDF5, or damaged where it is read.
    """
    import h5py  # deferred: the training core runs without it

    if not path.is_file():
        raise DatasetError(f"{path}: no such file", fix=f"check the path; the current folder is {Path.cwd()}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except KeyError as error:
        raise DatasetError(
            f"{path}: something is missing in it",
            details=(str(error.args[0]),),
            fix="download or export it again",
        ) from error
    except OSError as error:
        raise DatasetError(
            f"{path}: not a readable HDF5 file",
            details=(str(error),),
            fix="the file may be truncated or of another format: download or export it again",
        ) from error


def root_keys(source: str, *, groups: bool = False) -> frozenset[str]:
    """Names at the root of a file, or of the groups there; none where it is no readable HDF5."""
    import h5py  # deferred: the training core runs without it

    if not source.lower().endswith(SUFFIXES):
        return frozenset()
    try:
        with opened(Path(source)) as file:
            return frozenset(name for name in file if not groups or isinstance(file.get(name), h5py.Group))
    except DatasetError:
        return frozenset()


def text(value: Any) -> str:
    """A string attribute, which is bytes in files of some writers."""
    return value.decode() if isinstance(value, bytes) else str(value)
