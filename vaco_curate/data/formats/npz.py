"""What the readers of ``.npz`` share: arrays that are read some rows at a time, and never unpickled."""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.openings import shared
from vaco_curate.errors import DatasetError

SUFFIX = ".npz"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class NpzArray:
    """An array of an archive; slices are read in their order, without the rest."""

    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self._archive, self._name = archive, name
        self._member, self._row = self._opened(), 0
        self._whole: Array | None = None

    def _opened(self) -> Any:
        member = self._archive.open(f"{self._name}.npy")
        version = np.lib.format.read_magic(member)
        if version not in HEADERS:
            raise ValueError(f"{self._name}: a .npy of version {version}")
        self.shape, self._in_columns, self.dtype = HEADERS[version](member)
        self.ndim = len(self.shape)
        return member

    @property
    def is_plain(self) -> bool:
        """Whether it holds values, and no pickled objects."""
        return not self.dtype.hasobject

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        if rows == ():
            rows = slice(0, len(self)) if self.ndim else ()
        if not self.ndim or self._in_columns:  # stored column by column, so all rows are read
            if self._whole is None:
                self._whole = np.lib.format.read_array(
                    self._archive.open(f"{self._name}.npy"), allow_pickle=False
                )
            return np.ascontiguousarray(self._whole[rows])
        start, stop, _ = rows.indices(len(self))
        width = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        if start < self._row:
            self._member, self._row = self._opened(), 0
        while self._row < start:
            skipped = min(start - self._row, 65_536)
            self._read(skipped, width)
        content = self._read(max(stop - start, 0), width)
        return np.frombuffer(content, self.dtype).reshape(max(stop - start, 0), *self.shape[1:])

    def _read(self, rows: int, width: int) -> bytes:
        content: bytes = self._member.read(rows * width)
        if len(content) < rows * width:
            raise ValueError(f"{self._name}: fewer values than its header says")
        self._row += rows
        return content


class NpzArrays(Mapping[str, NpzArray]):
    """The arrays of an archive by name, but for pickled ones, which are ``left_out``."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        self._plain = {name: NpzArray(archive, name).is_plain for name in names}
        self.left_out = tuple(name for name, plain in self._plain.items() if not plain)
        self.attrs: dict[str, Any] = {}

    def __getitem__(self, name: str) -> NpzArray:
        if not self._plain[name]:
            raise KeyError(name)
        return NpzArray(self._archive, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, plain in self._plain.items() if plain)

    def __len__(self) -> int:
        return sum(self._plain.values())


@contextlib.contextmanager
def opened_npz(path: Path) -> Iterator[NpzArrays]:
    """The arrays of an archive.

    Raises:
        DatasetError: no such file, no archive of arrays, or damaged where it is read.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file", fix=f"check the path; the current folder is {Path.cwd()}")
    try:
        with shared(path.absolute(), zipfile.ZipFile) as archive:
            yield NpzArrays(archive)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError) as error:
        raise DatasetError(
            f"{path}: not a readable npz file", details=(str(error),), fix="save or download it again"
        ) from error


def notes_on_left_out(arrays: NpzArrays) -> tuple[str, ...]:
    """What was not read because it is pickled."""
    if not arrays.left_out:
        return ()
    return (f"not read, since pickled objects can run code: {', '.join(arrays.left_out)}",)
