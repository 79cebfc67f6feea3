"""What the HDF5 readers share: opening a file, and refusing what is not one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.openings import shared
from vaco_curate.errors import DatasetError

SUFFIXES = (".hdf5", ".h5")


def _open(path: Path) -> Any:
    import h5py  # deferred: the training core runs without it

    return h5py.File(path, "r")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file at a path, open for reading.

    Raises:
        DatasetError: no such file, not HDF5, or damaged where it is read.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file", fix=f"check the path; the current folder is {Path.cwd()}")
    try:
        with shared(path.absolute(), _open) as file:
            yield file
    except KeyError as error:
        raise DatasetError(
            f"{path}: something is missing in it",
            details=(str(error.args[0]),),
            fix="download or export it again",
        ) from error
    except (OSError, RuntimeError) as error:
        raise _unreadable(str(path), error) from error


def _unreadable(what: str, error: Exception) -> DatasetError:
    """The refusal of what HDF5 cannot read, with what helps."""
    reason = str(error)
    if "unable to lock" in reason:
        return DatasetError(
            f"{what}: another program has it open for writing",
            details=(reason,),
            fix="wait until the writer closes it, or read a copy",
        )
    if "filter" in reason or "plugin" in reason:
        return DatasetError(
            f"{what}: is compressed by a filter that is not installed here",
            details=(reason,),
            fix="pip install hdf5plugin, and 'import hdf5plugin' in a Python that writes it again with gzip",
        )
    return DatasetError(
        f"{what}: not a readable HDF5 file",
        details=(reason,),
        fix="the file may be truncated or of another format: download or export it again",
    )


class StoredArray:
    """An array of a file, read by rows; errors name the file and the key.

    Args:
        source: what the user calls the file.

    Raises:
        DatasetError: there is none under this key, or a group.
    """

    def __init__(self, file: Any, key: str, source: str) -> None:
        import h5py  # deferred: the training core runs without it

        self.name = f"{source}: {key}"
        item = file.get(key)
        if item is None:
            raise DatasetError(f"{source}: missing {key}", details=(f"found: {', '.join(file) or 'nothing'}",))
        if not isinstance(item, h5py.Dataset):
            raise DatasetError(
                f"{self.name} is a group, not an array",
                details=(f"it holds: {', '.join(item)}",),
                fix="store one array of state vectors, or name one in it: --column observation=group/name",
            )
        if item.shape is None:
            raise DatasetError(f"{self.name} is empty: it has no shape")
        _refuse_outside(item, self.name)
        _refuse_empty_space(item, self.name)
        _refuse_chunks_without_checksum(item, self.name)
        _refuse_short(item, self.name)
        self._item, self.shape, self.ndim, self.dtype = item, item.shape, item.ndim, item.dtype

    def __len__(self) -> int:
        if not self.ndim:
            raise DatasetError(f"{self.name} is a single value, not one per row")
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        try:
            values = self._item[rows]
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise _unreadable(self.name, error) from error
        return np.asarray(values)


def _refuse_outside(item: Any, name: str) -> None:
    """Refuse an array whose numbers lie in another file of any kind, or whose parts are not all there.

    HDF5 would take the bytes of whatever file is named, and zeros for a part that is missing.
    """
    if item.external:
        raise DatasetError(
            f"{name}: its numbers lie outside the file, in {item.external[0][0]}",
            fix="if you trust it, copy the array into an HDF5 file of its own",
        )
    for part in item.virtual_sources() if item.is_virtual else ():
        if part.file_name != "." and not (Path(item.file.filename).parent / part.file_name).is_file():
            raise DatasetError(
                f"{name}: is put together from several files, of which {part.file_name} is missing",
                fix="copy that file beside it",
            )


LARGE, LARGEST_RATIO = 1 << 28, 1 << 16
"""Bytes of an array that is looked at more closely, and how much a compressed one may grow."""


def _refuse_empty_space(item: Any, name: str) -> None:
    """Refuse a large array of which next to nothing is stored: HDF5 would make up the rest, in memory."""
    size, stored = item.nbytes, item.id.get_storage_size() if item.nbytes > LARGE else 0
    if size > LARGE and size > LARGEST_RATIO * max(stored, 1):
        raise DatasetError(
            f"{name}: declares {size:,} bytes, of which {stored:,} are stored",
            fix="the file is damaged, or was never written to the end: export it again",
        )


def _refuse_short(item: Any, name: str) -> None:
    """Refuse an array in one part that is shorter than its type says: HDF5 would read behind its end."""
    stored, declared = item.id.get_storage_size(), item.size * item.id.get_type().get_size()
    if item.chunks is None and not item.is_virtual and 0 < stored < declared:
        raise DatasetError(
            f"{name}: {stored:,} of {declared:,} bytes are stored", fix="the file is damaged: export it again"
        )


CHECKSUM_BYTES = 4


def _refuse_chunks_without_checksum(item: Any, name: str) -> None:
    """Refuse chunks that are shorter than the checksum in them: HDF5 would read before their first byte."""
    if not item.fletcher32 or not hasattr(item.id, "chunk_iter"):
        return
    if item.id.chunk_iter(lambda chunk: chunk.size <= CHECKSUM_BYTES or None):
        raise DatasetError(f"{name}: a part of it is shorter than its checksum", fix="export the file again")


def array_names(file: Any) -> Iterator[str]:
    """Names of all arrays of a file, also of those in groups; a group with several names is looked into once.

    Not by h5py's ``visititems`` and ``h5o.get_info``: where a group is damaged, they may go on for ever.
    """
    import h5py  # deferred: the training core runs without it

    seen = set()

    def look(group: Any, path: str) -> Iterator[str]:
        found = h5py.h5g.get_objinfo(group.id)
        if (found.fileno, found.objno) in seen:
            return
        seen.add((found.fileno, found.objno))
        for name in group:
            item = group.get(name)
            if isinstance(item, h5py.Dataset):
                yield f"{path}{name}"
            elif isinstance(item, h5py.Group):
                yield from look(item, f"{path}{name}/")

    return look(file, "")


def root_keys(source: str, *, groups: bool = False) -> frozenset[str]:
    """Names at the root of a file, or of the groups there; none where it is no readable HDF5."""
    if not source.lower().endswith(SUFFIXES):
        return frozenset()
    import h5py  # deferred: the training core runs without it

    try:
        with opened(Path(source)) as file:
            return frozenset(name for name in file if not groups or isinstance(file.get(name), h5py.Group))
    except (OSError, DatasetError, UnicodeDecodeError):  # names need not be text
        return frozenset()


def text(value: Any) -> str:
    """A string attribute; some writers store bytes, others an array of one string."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
