"""Columns of a source beyond those of ``Transitions``: read some rows at a time, and written beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.arrow import is_list, scalars, vectors, words
from vaco_curate.errors import DatasetError

OTHER_ROWS = 65_536
"""Rows that are read at a time."""

NUMBERS, WORDS = "fiub", "SUO"
"""Kinds of numpy types."""

OURS = frozenset(
    (
        *("observation", "action", "reward", "next_observation", "has_successor", "terminated", "truncated"),
        *("index", "episode_id", "step_index", "score", "rank", "weight", "reason"),
    )
)
"""Columns that we write; one of these names in a source gets another one beside them."""


def written_names(names: Iterable[str]) -> dict[str, str]:
    """The names that a source's further columns get in an output, by their own.

    A name that is one of ours gets ``source_`` before it; ``infos/``, D4RL's folder for such columns, is no
    part of a name here.
    """
    found: dict[str, str] = {}
    taken = set(OURS)
    for name in names:
        folder = "infos/" if name.startswith("infos/") else ""
        plain = name.removeprefix(folder)
        while plain in taken:
            plain = f"source_{plain}"
        taken.add(plain)
        found[name] = folder + plain
    return found


def further_arrays(arrays: Mapping[str, Any], names: Iterable[str], rows: int) -> tuple[list[str], list[str]]:
    """(labels, wide) of the arrays with an entry for every row: those of one value, and those of several."""
    labels, wide = list[str](), list[str]()
    for name in names:
        array = arrays[name]
        if array.shape in ((rows,), (rows, 1)) and array.dtype.kind in NUMBERS + WORDS:
            labels.append(name)
        elif array.shape is not None and len(array.shape) == 2 and array.dtype.kind in NUMBERS:
            wide += [name] if len(array) == rows and array.shape[1] else []
    return labels, wide


def array_tables(arrays: Mapping[str, Any], rows: int) -> Iterator[pa.Table]:
    """Arrays with an entry for every row as tables, some rows at a time."""
    for start in range(0, rows, OTHER_ROWS):
        part = slice(start, min(start + OTHER_ROWS, rows))
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
    kind = pa.list_(pa.field("element", flat.type, nullable=False), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(flat, type=kind)


def plain_values(name: str, column: Array | pa.Array) -> Array:
    """A column as an array of numbers or of words, (n,) or (n, k), for formats that hold nothing else.

    Raises:
        DatasetError: it holds nulls, lists of different lengths, or times.
    """
    if isinstance(column, np.ndarray):
        return column
    several = pa.chunked_array([column])
    try:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            return np.asarray(words("", several, name).to_numpy(), dtype=str)
        if is_list(column.type):
            return vectors("", several, name)[0]
        return scalars("", several, name)
    except DatasetError as error:
        raise DatasetError(
            f"column {name} cannot be written as plain numbers or words",
            details=(error.args[0].partition(": ")[2],),
            fix="name those to carry along with --columns, or choose --format parquet",
        ) from error


WORD_BYTES = 256


def stored_values(name: str, column: Array | pa.Array) -> Array:
    """The same with words as bytes of one length, for formats that grow row by row.

    Raises:
        DatasetError: as ``plain_values``; or a word is too long.
    """
    values = plain_values(name, column)
    if values.dtype.kind != "U":
        return values
    encoded = np.char.encode(values, "utf-8")
    if encoded.dtype.itemsize > WORD_BYTES:
        raise DatasetError(
            f"column {name} has words of more than {WORD_BYTES} bytes, which this format does not hold",
            fix="name the columns to carry along with --columns, or choose --format parquet",
        )
    return encoded.astype(f"S{WORD_BYTES}")


def chosen_rows(table: pa.Table, rows: Array, names: Mapping[str, str]) -> dict[str, pa.Array]:
    """Some rows of columns, each under the name that is given for its own."""
    taken = table.take(pa.array(rows)).combine_chunks()
    return {written: taken.column(own).combine_chunks() for own, written in names.items()}


class RowsInOrder:
    """Tables of any sizes, of which the next rows are taken."""

    def __init__(self, source: str, tables: Iterator[pa.Table]) -> None:
        self._source, self._tables, self._held = source, tables, list[pa.Table]()

    def read(self, rows: int) -> pa.Table:
        """The next rows, in one chunk.

        Raises:
            DatasetError: there are fewer.
        """
        missing = rows - sum(len(table) for table in self._held)
        while missing > 0:
            table = next(self._tables, None)
            if table is None:
                raise DatasetError(
                    f"{self._source}: a column ends {missing} row(s) before the others",
                    fix="the file is damaged: download or export it again",
                )
            self._held.append(table)
            missing -= len(table)
        together = pa.concat_tables(self._held)
        self._held = [together.slice(rows)]
        return together.slice(0, rows).combine_chunks()


def of_one_schema(source: str, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables with the types of the first, and without what programs note in schemas.

    Raises:
        DatasetError: a later file has a column of a type that does not fit.
    """
    schema: pa.Schema | None = None
    for table in tables:
        if schema is None:
            schema = pa.schema([(field.name, _value_type(field.type)) for field in table.schema])
        try:
            yield table.cast(schema)
        except (pa.ArrowException, ValueError) as error:
            raise DatasetError(
                f"{source}: further columns differ between its files",
                details=(str(error).splitlines()[0],),
                fix="name those to carry along with --columns",
            ) from error


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
