"""Arrow columns as numpy arrays, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vaco_curate.core.transitions import Array
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import is_local

BATCH_ROWS, BATCH_BYTES = 65_536, 1 << 26
"""Of columns that are read some rows at a time: so many rows, or fewer wide ones."""

LIST_BYTES, WORD_BYTES = 4_096, 64
"""Taken for a list of any length, and for a word."""

READ_BYTES = 1 << 20
"""Read at a time: as a whole, a file's buffers or a large row group would stay in memory."""

LISTS = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)


def leaf_fields(schema: pa.Schema) -> dict[str, pa.Field]:
    """Columns by name, those of structs by ``struct.field``."""
    found: dict[str, pa.Field] = {}

    def look(field: pa.Field, name: str) -> None:
        if pa.types.is_struct(field.type):
            for inner in field.type:
                look(inner, f"{name}.{inner.name}")
        else:
            found[name] = field

    for field in schema:
        look(field, field.name)
    return found


def top_column(name: str, schema: pa.Schema) -> str:
    """The column that holds a leaf."""
    if name in schema.names:
        return name
    parts = name.split(".")
    return next(top for n in range(len(parts), 0, -1) if (top := ".".join(parts[:n])) in schema.names)


def leaf(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column by the name that ``leaf_fields`` gives it."""
    top = top_column(name, table.schema)
    column = table.column(top)
    for part in name[len(top) + 1 :].split(".") if name != top else ():
        column = pc.struct_field(column, [part])
    return column


def words(source: str, column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column of words, none of them null.

    Raises:
        DatasetError: a null.
    """
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    _refuse_nulls(source, plain, name)
    return plain


def holds_words(kind: pa.DataType) -> bool:
    """Whether a column is one of words."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds a list a row."""
    return any(test(kind) for test in LISTS)


def scalars(source: str, column: pa.ChunkedArray, name: str, first_row: int = 0) -> Array:
    """A column of numbers or flags, (n,).

    Args:
        first_row: number of the first row in the source, for messages.

    Raises:
        DatasetError: a null, or something else than numbers.
    """
    _refuse_nulls(source, column, name, first_row)
    if is_list(column.type) and _is_flag_or_number(column.type.value_type):
        lengths = pc.list_value_length(column).to_numpy()
        if (lengths != 1).any():
            row = first_row + int(np.flatnonzero(lengths != 1)[0])
            raise DatasetError(
                f"{source}: {name} is a list of {lengths[row - first_row]} in row {row}, not one number"
            )
        flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type)
        return scalars(source, flat, name, first_row)
    if not _is_flag_or_number(column.type):
        raise DatasetError(f"{source}: {name} holds {column.type}, not numbers")
    return np.array(column.to_numpy())  # a copy: Arrow's own memory is read-only


def _refuse_nulls(source: str, column: pa.ChunkedArray, name: str, first_row: int = 0) -> None:
    # The metadata of a file counts nulls, too; but PyArrow ends the process where that part is damaged.
    if column.null_count:
        row = first_row + int(np.flatnonzero(pc.is_null(column).to_numpy())[0])
        raise DatasetError(
            f"{source}: {name} is null, first in row {row}",
            fix="fill the nulls in: false for flags, the value for numbers",
        )


def _is_flag_or_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or _is_number(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def vectors(
    source: str, column: pa.ChunkedArray, name: str, first_row: int = 0, *, nulls: bool = False
) -> tuple[Array, Array]:
    """A column of lists of numbers, or of numbers, as ((n, size) values, (n,) whether a row is there).

    Args:
        first_row: number of the first row in the source, for messages.
        nulls: whether a row may be missing; it is zeros then.

    Raises:
        DatasetError: a null that may not be, lists of different lengths, or something else than numbers.
    """
    if _is_number(column.type):
        present = pc.is_valid(column).to_numpy()
        filled = pc.fill_null(column, 0) if nulls else column
        return scalars(source, filled, name, first_row)[:, None], present
    if is_list(column.type) and is_list(column.type.value_type):
        raise DatasetError(
            f"{source}: {name} holds {column.type}: lists of lists, where a vector a row is expected",
            details=("a row must be a step",),
            fix="if rows are whole trajectories, take them apart: polars.read_parquet(FILE)"
            ".with_row_index('episode_id').explode(OBSERVATIONS, ACTIONS, REWARDS, ENDS).write_parquet(NEW); "
            "if they are matrices, flatten them",
        )
    if not is_list(column.type) or not _is_number(column.type.value_type):
        raise DatasetError(f"{source}: {name} holds {column.type}, expected a list of numbers a row")
    if not nulls:
        _refuse_nulls(source, column, name, first_row)
    valid = pc.is_valid(column).to_numpy()
    lengths = pc.list_value_length(column).drop_null().to_numpy()
    if len(lengths) and lengths.min() != lengths.max():
        raise DatasetError(
            f"{source}: {name} vectors differ in length, from {lengths.min()} to {lengths.max()}"
        )
    flat = [chunk.flatten() for chunk in column.chunks if len(chunk)]
    if any(chunk.null_count for chunk in flat):
        raise DatasetError(f"{source}: {name} has null elements")
    stored = np.concatenate([chunk.to_numpy() for chunk in flat]) if flat else np.empty(0, np.float32)
    size = int(lengths[0]) if len(lengths) else 0
    if valid.all():
        return stored.reshape(len(column), size), valid
    values = np.zeros((len(column), size), dtype=stored.dtype)
    if valid.any():
        values[valid] = stored.reshape(-1, size)
    return values, valid


def parquet_file(path: Path, **options: Any) -> pq.ParquetFile:
    """A Parquet file, open for reading; ``with`` closes it. Pages that have checksums are held against them.

    Raises:
        OSError, pyarrow.ArrowException: it is not there, or damaged.
    """
    return pq.ParquetFile(
        path if is_local(path) else path.open("rb"), page_checksum_verification=True, **options
    )


def is_label(kind: pa.DataType) -> bool:
    """Whether a column holds a number, a flag or a word for every row."""
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_string)
    return any(test(kind) for test in (*tests, pa.types.is_large_string))


def further_fields(schema: pa.Schema, free: Sequence[str]) -> tuple[dict[str, pa.DataType], list[str]]:
    """Types by name of the columns that can be copied among some, and names of the rest."""
    types, rest = dict[str, pa.DataType](), list[str]()
    for field in (field for field in schema if field.name in free):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        several = is_list(kind) and _is_flag_or_number(kind.value_type)
        empty = pa.types.is_fixed_size_list(kind) and not kind.list_size
        if (is_label(kind) or several or pa.types.is_temporal(kind)) and not empty:
            types[field.name] = kind
        else:
            rest.append(field.name)
    return types, rest


def row_bytes(types: Iterable[pa.DataType]) -> int:
    """Bytes that a row takes, of words and lists of any length about; at least 1."""
    return max(1, sum(map(_bytes_of, types)))


def _bytes_of(kind: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _bytes_of(kind.value_type)
    if pa.types.is_primitive(kind):
        return max(1, int(kind.bit_width) // 8)
    return LIST_BYTES if is_list(kind) else WORD_BYTES


def further_tables(path: Path, names: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of a Parquet file, some rows at a time.

    Raises:
        DatasetError: the file is damaged.
    """
    try:
        with parquet_file(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            rows = BATCH_BYTES // row_bytes(file.schema_arrow.field(name).type for name in names)
            for batch in file.iter_batches(max(1, min(BATCH_ROWS, rows)), columns=list(names)):
                yield pa.Table.from_batches([batch]).select(list(names))
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def scalar_batches(path: Path, names: Mapping[str, str]) -> Iterator[dict[str, Array]]:
    """Columns of numbers or flags of a Parquet file, some rows at a time, by names of our own.

    Args:
        names: in the file, by ours.

    Raises:
        DatasetError: the file is damaged; or a null, or something else than numbers.
    """
    row = 0
    try:
        with parquet_file(path, pre_buffer=False) as file:
            schema = file.schema_arrow
            for batch in file.iter_batches(columns=[top_column(name, schema) for name in names.values()]):
                table = pa.Table.from_batches([batch])
                yield {
                    name: scalars(str(path), leaf(table, column), name, row) for name, column in names.items()
                }
                row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def label_column(path: Path, name: str) -> Array:
    """A column of a Parquet file with a number, a flag or a word for every row, (rows,).

    Raises:
        DatasetError: the file is damaged, or a row has no value.
    """
    try:
        with parquet_file(path) as file:
            column = file.read([name]).column(name)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    return words_or_numbers(str(path), column, name)


def words_or_numbers(source: str, column: pa.ChunkedArray, name: str) -> Array:
    """A column with a number, a flag or a word for every row, (n,).

    Raises:
        DatasetError: a row has none.
    """
    return np.array(words(source, column, name).to_numpy(zero_copy_only=False))


def unreadable(path: Path, error: Exception) -> DatasetError:
    """The refusal of a damaged file."""
    return DatasetError(
        f"{path}: not readable as Parquet",
        details=(str(error).splitlines()[0],),
        fix="make it readable for this user"
        if isinstance(error, PermissionError)
        else "the file may be truncated: copy or export it again",
    )
