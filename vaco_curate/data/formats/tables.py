"""Parquet files written piece by piece, with the encodings of this project."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.arrow import row_bytes
from vaco_curate.store.files import is_local

ROWS_PER_GROUP = 131_072
BYTES_PER_GROUP = 1 << 28
"""Rows of a row group, and what is held of a file that is written; fewer rows, if they are wide."""


class TableWriter:
    """One file, whose bytes depend on its rows alone: row groups are full whatever pieces the rows came in.

    A row group is compressed and written while the next is gathered; an error in it comes with the next. The
    last is not, so that a small file needs no thread.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        floats = [leaf for field in schema for leaf in _float_leaves(field)]
        self._held, self._rows = list[pa.Table](), 0
        self._group = max(1, min(ROWS_PER_GROUP, BYTES_PER_GROUP // row_bytes(field.type for field in schema)))
        self._thread: ThreadPoolExecutor | None = None
        self._written: Future[None] | None = None
        self._sink = None if is_local(path) else path.open("wb")
        self._writer = pq.ParquetWriter(
            self._sink or path,
            schema,
            compression="zstd",
            use_dictionary=[field.name for field in schema if pa.types.is_string(field.type)] or False,
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT") or None,
            write_page_index=True,
            write_page_checksum=True,
        )

    def write(self, table: pa.Table) -> None:
        """Write the next rows, or hold them until a row group is full."""
        self._held.append(table)
        self._rows += table.num_rows
        while self._rows >= self._group:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1)
            group = self._next_group()
            self._wait()
            self._written = self._thread.submit(self._writer.write_table, group, row_group_size=self._group)

    def close(self) -> None:
        """Write what is held and finish the file."""
        self._wait()
        if self._rows:
            self._writer.write_table(self._next_group(), row_group_size=self._group)
        if self._thread is not None:
            self._thread.shutdown()
        self._writer.close()
        if self._sink is not None:
            self._sink.close()

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()

    def _next_group(self) -> pa.Table:
        together = pa.concat_tables(self._held)
        rest = together.slice(self._group)
        self._held, self._rows = [rest], rest.num_rows
        return together.slice(0, self._group)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as one file."""
    writer = TableWriter(path, table.schema)
    writer.write(table)
    writer.close()


class ShardedWriter:
    """Rows in the order of a dataset, written to a file for each of its recordings.

    Args:
        paths: of the files, one for each recording.
        rows: of each recording; raw row numbers run through all of them.
        first_row: raw row number of the first.
    """

    def __init__(self, paths: Sequence[Path], rows: Sequence[int], first_row: int = 0) -> None:
        self._paths, self._ends = list(paths), (first_row + np.cumsum(rows)).tolist()
        self._schema: pa.Schema | None = None
        self._file: TableWriter | None = None
        self._shard = -1

    def write(self, table: pa.Table, index: Array) -> None:
        """Write the next rows; a table without rows tells its schema.

        Args:
            index: (rows of the table,) raw row numbers, increasing.
        """
        self._schema, start = table.schema, 0
        while start < len(index):
            file = self._file if self._file is not None and index[start] < self._ends[self._shard] else None
            if file is None:
                self._next()
                continue
            stop = int(np.searchsorted(index, self._ends[self._shard]))
            file.write(table.slice(start, stop - start))
            start = stop

    def close(self) -> None:
        """Finish all files; that of a recording without a row to write holds none."""
        while self._schema is not None and self._shard < len(self._paths) - 1:
            self._next()
        if self._file is not None:
            self._file.close()

    def _next(self) -> None:
        if self._file is not None:
            self._file.close()
        self._shard += 1
        assert self._schema is not None, "a table has been written"
        self._file = TableWriter(self._paths[self._shard], self._schema)


def _float_leaves(field: pa.Field) -> Iterator[str]:
    if pa.types.is_fixed_size_list(field.type):
        if pa.types.is_floating(field.type.value_type):
            yield f"{field.name}.list.element"
    elif pa.types.is_floating(field.type):
        yield field.name
