"""The further columns of a dataset: which there are, under which names they are written, and their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.arrow import is_label, row_bytes, words_or_numbers
from vaco_curate.data.formats.others import is_plain, written_names
from vaco_curate.data.formats.recording import Recording
from vaco_curate.data.formats.writing import Writable
from vaco_curate.errors import DatasetError

SOURCE_FILE = "source_file"
"""The label that every dataset has: the file or folder that a row was read from."""

MAY_HOLD_NULLS = ("parquet", "lerobot")


@dataclass(frozen=True)
class FurtherColumns:
    """Columns beyond those of ``Transitions`` that can be copied with all rows of some recordings.

    Attributes:
        source: what the user called the dataset.
        recordings: of one format.
        files: what the label ``source_file`` calls each.
        settled: types by name; None to find them. The units of a dataset have those of the whole.
    """

    source: str
    recordings: tuple[Recording, ...]
    files: tuple[str, ...]
    settled: Mapping[str, pa.DataType] | None = None

    @cached_property
    def types(self) -> Mapping[str, pa.DataType]:
        """By name. Where recordings hold other types, it is one that holds the values of all."""
        if self.settled is not None:
            return self.settled
        several = [one.further for one in self.recordings if one.rows] or [self.recordings[0].further]
        shared = [name for name in several[0] if all(name in types for types in several)]
        found = {name: _unified([types[name] for types in several]) for name in shared}
        return {name: kind for name, kind in found.items() if kind is not None}

    @cached_property
    def partly(self) -> Mapping[str, str]:
        """Why a column of some files is not one of the dataset: the first file that lacks it, by column."""
        with_rows = [n for n, one in enumerate(self.recordings) if one.rows]
        every = dict.fromkeys(chain.from_iterable(self.recordings[n].further for n in with_rows))
        first = {
            name: next((self.files[n] for n in with_rows if name not in self.recordings[n].further), None)
            for name in every
            if name not in self.types
        }
        return {name: "of several types" if file is None else f"not in {file}" for name, file in first.items()}

    @property
    def labels(self) -> tuple[str, ...]:
        """Names that ``label`` knows: of columns with one value a row, and ``source_file``."""
        return (*(name for name, kind in self.types.items() if is_label(kind)), SOURCE_FILE)

    def label(self, name: str) -> Array:
        """A number or a word for every row, (n,).

        Raises:
            DatasetError: there is no such column.
        """
        if name not in self.labels:
            raise DatasetError(
                f"{self.source}: no column {name} with a value for every row",
                details=(f"found: {', '.join(self.labels)}",),
            )
        if name == SOURCE_FILE:
            names = np.array(self.files, dtype=object)
            return np.repeat(names, [recording.rows for recording in self.recordings])
        table = pa.concat_tables(self._tables([name]))
        return words_or_numbers(self.source, table.column(name), name)

    def groups(self, name: str) -> Array:
        """(n,) int32: the number of each row's value among the different values of a label.

        Raises:
            DatasetError: there is no such column.
        """
        if name == SOURCE_FILE:
            rows = [recording.rows for recording in self.recordings]
            return np.repeat(np.arange(len(rows), dtype=np.int32), rows)
        return np.unique(self.label(name), return_inverse=True)[1].astype(np.int32)

    def written(self, asked: Sequence[str] | None, form: Writable) -> tuple[dict[str, str], tuple[str, ...]]:
        """The names that columns get in an output, by their own; and notes on them.

        Args:
            asked: which; None for all that the format holds.
            form: of the output.

        Raises:
            DatasetError: one that is asked for is not there, or the format cannot hold it.
        """
        if asked is None:
            names = self._held_by(form)
            held = dict.fromkeys(chain.from_iterable((*one.further, *one.unread) for one in self.recordings))
            left = [name for name in held if name not in names]
        else:
            names, left = list(dict.fromkeys(asked)), []
            self._refuse_unwritable(names, form)
        written = written_names(names)
        renamed = [f"{own} as {other}" for own, other in written.items() if own != other]
        notes = [f"columns that are written under other names: {', '.join(renamed)}"] if renamed else []
        left = [f"{name} ({self.partly[name]})" if name in self.partly else name for name in left]
        return written, (*notes, *([f"columns that are not written: {', '.join(left)}"] if left else []))

    def rows(self, names: Sequence[str]) -> RowsInOrder:
        """The values of some, row by row in the order of the dataset."""
        return RowsInOrder(self.source, self._tables(names))

    def row_bytes(self, names: Sequence[str]) -> int:
        """Bytes that a row of some takes."""
        return row_bytes(self.types[name] for name in names)

    def _held_by(self, form: Writable) -> list[str]:
        if not form.plain:
            return list(self.types)
        names = [name for name, kind in self.types.items() if is_plain(kind)]
        holes = self._with_nulls(names)
        return [name for name in names if name not in holes]

    def _with_nulls(self, names: Sequence[str]) -> set[str]:
        found: set[str] = set()
        if names and self.recordings[0].format in MAY_HOLD_NULLS:
            for table in self._tables(names):
                found |= {name for name in names if table.column(name).null_count}
        return found

    def _refuse_unwritable(self, names: Iterable[str], form: Writable) -> None:
        for name in names:
            if name not in self.types:
                raise DatasetError(
                    f"{self.source}: --columns {name}: no such column beyond those of transitions",
                    details=(f"found: {', '.join(self.types) or 'none'}",),
                )
            if form.plain and not is_plain(self.types[name]):
                raise DatasetError(
                    f"{self.source}: --columns {name}: it holds {self.types[name]}, which this format cannot",
                    fix="choose --format parquet",
                )

    def _tables(self, names: Sequence[str]) -> Iterator[pa.Table]:
        read = chain.from_iterable(one.others(names) for one in self.recordings if one.rows)
        return _of_types(self.source, read, {name: self.types[name] for name in names})


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


def _of_types(source: str, tables: Iterator[pa.Table], types: Mapping[str, pa.DataType]) -> Iterator[pa.Table]:
    """The tables with columns of these types, and without what programs note in schemas.

    Raises:
        DatasetError: a value does not fit.
    """
    schema = pa.schema(list(types.items()))
    for table in tables:
        try:
            yield table.cast(schema)
        except (pa.ArrowException, ValueError) as error:
            raise DatasetError(
                f"{source}: a further column changes its type on the way",
                details=(str(error).splitlines()[0],),
                fix="name the columns to write with --columns",
            ) from error


def _unified(kinds: Iterable[pa.DataType]) -> pa.DataType | None:
    """A type that holds the values of several; None if there is none."""
    try:
        schemas = [pa.schema([("column", kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, ValueError):
        return None
