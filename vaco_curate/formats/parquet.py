"""Parquet: our own schema, read and written; other schemas by a column map.

Vectors are fixed-size lists of the stored float type, byte-stream-split and zstd compressed, which is
the smallest and fastest lossless form for smooth trajectories. File metadata under ``vaco_curate``
(JSON) carries what the columns cannot: environment, action bounds, whether rows are consecutive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vaco_curate.columns import transitions_from_columns
from vaco_curate.errors import DatasetError
from vaco_curate.formats.environment import action_bounds
from vaco_curate.formats.options import ReadOptions
from vaco_curate.transitions import Array, Transitions

METADATA_KEY = b"vaco_curate"
SCHEMA_VERSION = 1
ROWS_PER_SHARD = 1_000_000
ROWS_PER_GROUP = 131_072
READ_BYTES = 1 << 20

VECTORS = ("observation", "action", "next_observation")
LISTS = (pa.types.is_fixed_size_list, pa.types.is_list, pa.types.is_large_list)
SCALARS = ("reward", "terminated", "truncated", "episode_id", "step_index")


def matches(source: str) -> bool:
    """Whether the source is a ``.parquet`` file or a folder that holds some at its top."""
    path = Path(source)
    return path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))


def read(source: str, options: ReadOptions) -> Transitions:
    """Read a file, or all shards of a folder in the order of their names.

    Raises:
        DatasetError: a column is missing or not numeric, or contents that ``Transitions`` refuses.
    """
    return table_transitions(read_table(source), source, options)


def table_transitions(table: pa.Table, source: str, options: ReadOptions) -> Transitions:
    """The rows of a table that ``read_table`` gave.

    Raises:
        DatasetError: as ``read``.
    """
    facts = table_facts(table)
    names = {name: options.columns.get(name, name) for name in (*VECTORS, *SCALARS)}
    _check_columns(source, table, names, options.columns)
    present = {name: table.column(column) for name, column in names.items() if column in table.column_names}
    columns = {name: _scalars(source, present[name], name) for name in SCALARS if name in present}
    for name in VECTORS:
        if name in present:
            columns[name], valid = _vectors(source, present[name], name)
            if name == "next_observation":
                columns["has_successor"] = valid
    if "next_observation" in columns and not columns["has_successor"].any():
        columns["next_observation"] = np.zeros_like(columns["observation"])
    env_id = facts.get("env_id")
    low, high = _bounds(facts)
    references = facts.get("reference_returns")
    return transitions_from_columns(
        columns,
        source=source,
        format_name="parquet",
        path=Path(source),
        max_episode_steps=options.max_episode_steps,
        env_id=env_id,
        env_kwargs=facts.get("env_kwargs", {}),
        action_low=low,
        action_high=high,
        reference_returns=tuple(references) if references else None,
    )


def read_table(source: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A file, or a folder's shards in the order of their names; all columns, or the named ones.

    Raises:
        DatasetError: there is no such file, or it is damaged.
    """
    files = _files(source)
    try:
        return pa.concat_tables([pq.ParquetFile(file).read(columns) for file in files])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(source, error) from error


def read_episodes(source: str, options: ReadOptions, *, batch_rows: int) -> Iterator[Transitions]:
    """Whole episodes of a file or a folder's shards, about ``batch_rows`` rows at a time.

    An episode is held in memory until its end is seen: by ``episode_id`` where there is such a column, else
    by the flags.

    Raises:
        DatasetError: as ``read``.
    """
    names = [options.columns.get(name, name) for name in (*VECTORS, *SCALARS)]
    left, first_row = None, 0
    try:
        for path in _files(source):
            # Read in small pieces: as a whole, a file's buffers or a large row group would stay in memory.
            file = pq.ParquetFile(path, pre_buffer=False, buffer_size=READ_BYTES)
            schema = file.schema_arrow
            columns = [name for name in names if name in schema.names]
            _check_columns(
                source,
                schema.empty_table(),
                dict(zip((*VECTORS, *SCALARS), names, strict=True)),
                options.columns,
            )
            for batch in file.iter_batches(batch_rows, columns=columns):
                piece = pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
                table = piece if left is None else pa.concat_tables([left, piece])
                complete = _complete_rows(_from_row(source, first_row), table, options)
                if complete:
                    yield table_transitions(table.slice(0, complete), _from_row(source, first_row), options)
                    first_row += complete
                left = table.slice(complete)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(source, error) from error
    if left is None or (first_row == 0 and len(left) == 0):
        raise DatasetError(f"{source}: the dataset has zero rows")
    if len(left):
        yield table_transitions(left, _from_row(source, first_row), options)


def _complete_rows(source: str, table: pa.Table, options: ReadOptions) -> int:
    """Rows up to the end of the last episode that is known to have ended."""
    present = {
        name: _scalars(source, table.column(column), name)
        for name in ("episode_id", "terminated", "truncated")
        if (column := options.columns.get(name, name)) in table.column_names
    }
    if "episode_id" in present:
        begins = np.flatnonzero(np.diff(present["episode_id"])) + 1
        return int(begins[-1]) if begins.size else 0
    flags = [present[name] != 0 for name in ("terminated", "truncated") if name in present]
    ends = np.flatnonzero(np.logical_or.reduce(flags)) if flags else np.empty(0, np.int64)
    return int(ends[-1]) + 1 if ends.size else 0


def _from_row(source: str, row: int) -> str:
    return f"{source} (rows counted from {row})" if row else source


def _files(source: str) -> list[Path]:
    path = Path(source)
    files = sorted(path.glob("*.parquet"), key=_shard_order) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise DatasetError(f"{source}: no such Parquet file or folder of shards")
    return files


def _unreadable(source: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{source}: not readable as Parquet",
        details=(str(error).splitlines()[0],),
        fix="a file may be truncated, or the shards of a folder may not share a schema",
    )


def _shard_order(path: Path) -> list[tuple[int, int | str]]:
    """Names with their numbers as numbers: ``part-2`` before ``part-10``."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts]


def table_facts(table: pa.Table) -> dict[str, Any]:
    """Our metadata of a table; empty for a foreign one."""
    raw = (table.schema.metadata or {}).get(METADATA_KEY)
    return json.loads(raw) if raw is not None else {}


def write_transitions(
    folder: Path,
    data: Transitions,
    rows: Array,
    extra: Mapping[str, Array],
    facts: Mapping[str, Any],
) -> list[Path]:
    """Write the given rows as shards ``part-00000.parquet`` and so on.

    Args:
        rows: (m,) row numbers of ``data``, increasing; written as the column ``index``.
        extra: further columns, (m,) each.
        facts: further file metadata.

    Returns:
        The files written, in order.

    Raises:
        DatasetError: an extra column holds NaN.
    """
    for name, column in extra.items():
        if column.dtype.kind == "f" and not np.isfinite(column).all():
            raise DatasetError(f"column {name} would hold NaN or infinity, nothing was written")
    metadata = {METADATA_KEY: json.dumps(_dataset_facts(data, rows) | dict(facts)).encode()}
    files = []
    for shard, start in enumerate(range(0, max(len(rows), 1), ROWS_PER_SHARD)):
        part = slice(start, start + ROWS_PER_SHARD)
        path = folder / f"part-{shard:05d}.parquet"
        table = _table(data, rows[part], {name: column[part] for name, column in extra.items()})
        write_table(path, table.replace_schema_metadata(metadata))
        files.append(path)
    return files


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table with the encodings of this project."""
    floats = [leaf for field in table.schema for leaf in _float_leaves(field)]
    pq.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        row_group_size=ROWS_PER_GROUP,
        write_page_index=True,
    )


def _float_leaves(field: pa.Field) -> Iterator[str]:
    if pa.types.is_fixed_size_list(field.type):
        yield f"{field.name}.list.element"
    elif pa.types.is_floating(field.type):
        yield field.name


def _dataset_facts(data: Transitions, rows: Array) -> dict[str, Any]:
    same = np.diff(data.episode_id[rows]) == 0
    ends, starts = np.append(data.episode_start[1:], len(data)) - 1, data.episode_start
    between_whole_episodes = np.isin(rows[:-1], ends) & np.isin(rows[1:], starts)
    follows = np.where(same, np.diff(data.step_index[rows]) == 1, between_whole_episodes)
    known = data.action_low is not None and data.action_high is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "env_id": data.env_id,
        "env_kwargs": dict(data.env_kwargs),
        "action_low": np.asarray(data.action_low, np.float64).tolist() if known else None,
        "action_high": np.asarray(data.action_high, np.float64).tolist() if known else None,
        "reference_returns": data.reference_returns,
        "rows_consecutive": bool(follows.all()),
    }


def _table(data: Transitions, rows: Array, extra: Mapping[str, Array]) -> pa.Table:
    def vector(values: Array, valid: Array | None = None) -> pa.Array:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        mask = None if valid is None else pa.array(~valid)
        kind = pa.list_(pa.field("element", flat.type, nullable=False), values.shape[1])
        return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=mask)

    columns = {
        "observation": vector(data.observation[rows]),
        "action": vector(data.action[rows]),
        "reward": pa.array(data.reward[rows]),
        "next_observation": vector(data.next_observation[rows], data.has_successor[rows]),
        "terminated": pa.array(data.terminated[rows]),
        "truncated": pa.array(data.truncated[rows]),
        "index": pa.array(rows.astype(np.int64)),
        "episode_id": pa.array(data.episode_id[rows]),
        "step_index": pa.array(data.step_index[rows]),
        **{
            name: pa.array(column, pa.string() if column.dtype == object else None)
            for name, column in extra.items()
        },
    }
    fields = [
        pa.field(name, array.type, nullable=name == "next_observation") for name, array in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _check_columns(source: str, table: pa.Table, names: Mapping[str, str], asked: Mapping[str, str]) -> None:
    missing = [
        names[name] for name in ("observation", "action", "reward") if names[name] not in table.column_names
    ]
    missing += [
        column for column in asked.values() if column not in table.column_names and column not in missing
    ]
    twice = [column for column in names.values() if table.column_names.count(column) > 1]
    if twice:
        raise DatasetError(
            f"{source}: there are several columns {twice[0]}", fix="rename or remove all but one"
        )
    unknown = [name for name in asked if name not in names]
    if unknown:
        raise DatasetError(
            f"--column {unknown[0]}=...: not a column of ours", details=(f"ours: {', '.join(names)}",)
        )
    if missing:
        raise DatasetError(
            f"{source}: missing column {', '.join(missing)}",
            details=(f"found: {', '.join(table.column_names)}",),
            fix="name the source's columns: --column observation=NAME,action=NAME,reward=NAME,terminated=NAME",
        )


def _scalars(source: str, column: pa.ChunkedArray, name: str) -> Array:
    if column.null_count:
        row = int(np.flatnonzero(pc.is_null(column).to_numpy())[0])
        raise DatasetError(f"{source}: {name} is null in {column.null_count} row(s), first in row {row}")
    if not (pa.types.is_boolean(column.type) or _is_number(column.type)):
        raise DatasetError(f"{source}: {name} holds {column.type}, not numbers")
    return np.array(column.to_numpy())  # a copy: Arrow's own memory is read-only


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _vectors(source: str, column: pa.ChunkedArray, name: str) -> tuple[Array, Array]:
    """((n, size) values with zeros for nulls, (n,) whether a row is there)."""
    if _is_number(column.type):
        present = pc.is_valid(column).to_numpy()
        filled = pc.fill_null(column, 0) if name == "next_observation" else column
        return _scalars(source, filled, name)[:, None], present
    if not any(is_list(column.type) for is_list in LISTS) or not _is_number(column.type.value_type):
        raise DatasetError(f"{source}: {name} holds {column.type}, expected a list of numbers a row")
    valid = pc.is_valid(column).to_numpy()
    if name != "next_observation" and not valid.all():
        raise DatasetError(f"{source}: {name} is null in row {int(np.flatnonzero(~valid)[0])}")
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


def _bounds(facts: Mapping[str, Any]) -> tuple[Array | None, Array | None]:
    if facts.get("action_low") is not None:
        return np.asarray(facts["action_low"]), np.asarray(facts["action_high"])
    return action_bounds(facts.get("env_id"))
