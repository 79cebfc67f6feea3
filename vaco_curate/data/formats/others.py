"""Columns of a source beyond those of ``Transitions``: read some rows at a time, and written beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.arrow import BATCH_BYTES, BATCH_ROWS, holds_words, is_label, row_bytes
from vaco_curate.errors import DatasetError

OWN_NAMES = frozenset(
    (
        *("observation", "action", "reward", "next_observation", "has_successor", "terminated", "truncated"),
        *("index", "episode_id", "step_index", "score", "rank", "weight", "weights", "reason"),
    )
)
"""Names of columns that we write; a column of a source that has one of them gets another beside them."""


def written_names(names: Iterable[str]) -> dict[str, str]:
    """The names that a source's further columns get in an output, by their own.

    A name that is one of ours gets ``source_`` before it; ``infos/``, D4RL's folder for such columns, is no
    part of a name here.
    """
    found: dict[str, str] = {}
    taken = set(OWN_NAMES)
    for name in names:
        folder = "infos/" if name.startswith("infos/") else ""
        plain = name.removeprefix(folder)
        while plain in taken:
            plain = f"source_{plain}"
        taken.add(plain)
        found[name] = folder + plain
    return found


def array_type(dtype: Any, shape: tuple[int, ...]) -> pa.DataType | None:
    """The type of a column that holds an array with an entry for every row; None if it cannot be one."""
    if dtype.kind in "SUO":
        return pa.string() if shape[1:] in ((), (1,)) and _holds_words(dtype) else None
    if dtype.kind not in "fiub" or len(shape) > 2 or shape[1:] == (0,):
        return None
    kind = pa.from_numpy_dtype(dtype.newbyteorder("="))
    return kind if shape[1:] in ((), (1,)) else _vector_type(kind, shape[1])


def _holds_words(dtype: Any) -> bool:
    """Whether a type is one of words; objects are so in HDF5 alone, where references are objects, too."""
    if dtype.kind != "O":
        return True
    import h5py  # deferred: the training core runs without it

    return h5py.check_string_dtype(dtype) is not None


def _vector_type(kind: pa.DataType, size: int) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False), size)


def further_arrays(
    arrays: Mapping[str, Any], names: Iterable[str], rows: int
) -> tuple[dict[str, pa.DataType], list[str]]:
    """Types by name of the arrays that can be copied with the rows, and names of others with an entry a row."""
    types, unread = dict[str, pa.DataType](), list[str]()
    for name in names:
        array = arrays[name]
        if not array.shape or array.shape[0] != rows:
            continue
        kind = array_type(array.dtype, array.shape)
        if kind is None:
            unread.append(name)
        else:
            types[name] = kind
    return types, unread


def array_tables(arrays: Mapping[str, Any], rows: int) -> Iterator[pa.Table]:
    """Arrays with an entry for every row as tables, some rows at a time."""
    types = (array_type(array.dtype, array.shape) for array in arrays.values())
    step = max(1, min(BATCH_ROWS, BATCH_BYTES // row_bytes(kind for kind in types if kind is not None)))
    for start in range(0, rows, step):
        part = slice(start, min(start + step, rows))
        yield table_of({name: np.asarray(array[part]) for name, array in arrays.items()})


def table_of(columns: Mapping[str, Array]) -> pa.Table:
    """Arrays of (n,), (n, 1) or (n, k) as columns."""
    return pa.table({name: _arrow(values) for name, values in columns.items()})


def _arrow(values: Array) -> pa.Array:
    if values.ndim == 2 and values.shape[1] != 1:
        return vector_column(values)
    flat = values.reshape(-1)
    if flat.dtype.kind == "O":  # of HDF5
        return pa.array([word.decode(errors="replace") if isinstance(word, bytes) else word for word in flat])
    return pa.array(np.char.decode(flat, errors="replace") if flat.dtype.kind == "S" else flat)


def vector_column(values: Array) -> pa.FixedSizeListArray:
    """(n, k) numbers as lists of fixed size."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, type=_vector_type(flat.type, values.shape[1]))


def is_plain(kind: pa.DataType) -> bool:
    """Whether formats of arrays can hold a column: a number, a flag or a word a row, or so many numbers."""
    inner = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return is_label(inner) and (inner is kind or not holds_words(inner))


def plain_values(name: str, column: Array | pa.Array) -> Array:
    """A column as an array of numbers or of words, (n,) or (n, k).

    Raises:
        DatasetError: it holds nulls, or is not plain.
    """
    if isinstance(column, np.ndarray):
        return column
    several = pa.types.is_fixed_size_list(column.type)
    flat = column.flatten() if several else column
    if not is_plain(column.type) or column.null_count or flat.null_count:
        raise DatasetError(
            f"column {name} cannot be an array: it holds {column.type}{' and nulls' * bool(column.null_count)}",
            fix="Parquet holds it; for other formats name the columns to write with --columns",
        )
    values = flat.to_numpy(zero_copy_only=False)
    if holds_words(column.type):
        return np.asarray(values, dtype=str)
    return np.asarray(values.reshape(len(column), column.type.list_size) if several else values)


LONGEST_WORD = 256


def stored_values(name: str, column: Array | pa.Array) -> Array:
    """The same with words as bytes of one length, for formats that grow row by row.

    Raises:
        DatasetError: as ``plain_values``; or a word is too long.
    """
    values = plain_values(name, column)
    if values.dtype.kind != "U":
        return values
    encoded = np.char.encode(values, "utf-8")
    if encoded.dtype.itemsize > LONGEST_WORD:
        raise DatasetError(
            f"column {name} has words of more than {LONGEST_WORD} bytes, which this format does not hold",
            fix="name the columns to carry along with --columns, or choose --format parquet",
        )
    return encoded.astype(f"S{LONGEST_WORD}")


def chosen_rows(table: pa.Table, rows: Array, names: Mapping[str, str]) -> dict[str, pa.Array]:
    """Some rows of columns, each under the name that is given for its own."""
    taken = table.take(pa.array(rows)).combine_chunks()
    return {written: taken.column(own).combine_chunks() for own, written in names.items()}
