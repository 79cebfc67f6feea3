"""Parquet: our own schema, read and written; other schemas by a column map.

Vectors are lists of the stored float type, of fixed size but for ``next_observation``, which may be null;
byte-stream-split and zstd compressed, which is the smallest and fastest lossless form for smooth
trajectories. File metadata under ``vaco_curate`` (JSON) carries what the columns cannot: environment, action
bounds, whether rows are consecutive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.columns import Columns, EpisodeIds, notes_on_episodes
from vaco_curate.errors import DatasetError
from vaco_curate.files import place
from vaco_curate.formats.arrow import (
    is_label,
    label_column,
    parquet_file,
    scalar_batches,
    scalars,
    unreadable,
    vectors,
)
from vaco_curate.formats.environment import action_bounds
from vaco_curate.formats.options import ReadOptions
from vaco_curate.formats.recording import Recording, natural_order
from vaco_curate.formats.tables import ShardedWriter
from vaco_curate.formats.writing import Target
from vaco_curate.transitions import Array, Transitions

METADATA_KEY = b"vaco_curate"
SCHEMA_VERSION = 1
READ_BYTES = 1 << 20

VECTORS = ("observation", "action", "next_observation")
SCALARS = ("reward", "terminated", "truncated", "episode_id", "step_index")


def matches(source: str) -> bool:
    """Whether the source is a ``.parquet`` file, or a folder that holds some at its top."""
    path = place(source)
    return path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet")))


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A file, or the shards of a folder in their order: an episode that has a number may go on in the next.

    Raises:
        DatasetError: no such file, a damaged one, or a missing column.
    """
    if options.drop_columns:
        raise DatasetError(
            f"{source}: --drop-columns is for observations of several parts, in Parquet they are one column",
            fix="columns that are not named are not read",
        )
    return tuple(_recording(path, options) for path in _files(source))


def _recording(path: Path, options: ReadOptions) -> Recording:
    try:
        with parquet_file(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    names = {name: options.columns.get(name, name) for name in (*VECTORS, *SCALARS)}
    _check_columns(str(path), schema, names, options.columns)
    present = {name: column for name, column in names.items() if column in schema.names}
    facts = table_facts(schema)
    low, high = _bounds(facts)
    references = facts.get("reference_returns")
    return Recording(
        path=path,
        format="parquet",
        rows=rows,
        batches=partial(_batches, path, present),
        labels=tuple(field.name for field in schema if is_label(field) and field.name not in present.values()),
        label=partial(label_column, path),
        has_rewards=facts.get("has_rewards", True),
        episodes=_episodes(path, present) if "episode_id" in present else None,
        facts={
            "env_id": facts.get("env_id"),
            "env_kwargs": facts.get("env_kwargs", {}),
            "action_low": low,
            "action_high": high,
            "reference_returns": tuple(references) if references else None,
            "observation_parts": tuple((name, size) for name, size in facts.get("observation_parts", ())),
        },
        notes=tuple(notes_on_episodes(present, options.max_episode_steps)),
    )


def _batches(path: Path, present: Mapping[str, str], rows: int) -> Iterator[Columns]:
    """Columns of ``Transitions`` that are present, by the names in the file."""
    first_row = 0
    try:
        # Read in small pieces: as a whole, a file's buffers or a large row group would stay in memory.
        with parquet_file(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            for batch in file.iter_batches(rows, columns=list(present.values())):
                yield _columns(str(path), pa.Table.from_batches([batch]), present, first_row)
                first_row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _columns(source: str, table: pa.Table, present: Mapping[str, str], first_row: int) -> Columns:
    columns = {
        name: scalars(source, table.column(present[name]), name, first_row)
        for name in SCALARS
        if name in present
    }
    for name in ("observation", "action"):
        columns[name], _ = vectors(source, table.column(present[name]), name, first_row)
    if "next_observation" in present:
        column = table.column(present["next_observation"])
        following, known = vectors(source, column, "next_observation", first_row, nulls=True)
        columns["has_successor"] = known
        columns["next_observation"] = following if known.any() else np.zeros_like(columns["observation"])
    return columns


def _episodes(path: Path, present: Mapping[str, str]) -> EpisodeIds | None:
    names = [name for name in ("episode_id", "step_index", "terminated", "truncated") if name in present]
    return EpisodeIds.of(scalar_batches(path, {name: present[name] for name in names}))


def _files(source: str) -> list[Path]:
    path = place(source).absolute()
    shards = path.glob("*.parquet") if path.is_dir() else [path]
    files = sorted(shards, key=lambda file: natural_order(file.name))
    if not files or not all(file.is_file() for file in files):
        raise DatasetError(f"{source}: no such Parquet file or folder of shards")
    return files


def table_facts(schema: pa.Schema) -> dict[str, Any]:
    """Our metadata of a file; empty for a foreign one."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    return json.loads(raw) if raw is not None else {}


class ParquetWriter:
    """``writing.RowsWriter``: our schema, a file for each recording, the facts in their metadata."""

    notes: tuple[str, ...] = ()

    def __init__(self, target: Target) -> None:
        paths = [target.folder / f"{name}.parquet" for name in target.names]
        self._shards, self._facts = ShardedWriter(paths, target.rows, target.first_row), dict(target.facts)

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """As the protocol; the raw numbers of the rows become the column ``index``."""
        for name, column in extra.items():
            if isinstance(column, np.ndarray) and not np.isfinite(column).all():
                raise DatasetError(f"column {name} would hold NaN or infinity")
        metadata = {METADATA_KEY: json.dumps(_dataset_facts(piece) | self._facts).encode()}
        table = _table(piece, rows, extra).replace_schema_metadata(metadata)
        self._shards.write(table, piece.first_row + rows)

    def close(self) -> None:
        """As the protocol."""
        self._shards.close()


def _dataset_facts(data: Transitions) -> dict[str, Any]:
    known = data.action_low is not None and data.action_high is not None
    return {
        "schema_version": SCHEMA_VERSION,
        "env_id": data.env_id,
        "env_kwargs": dict(data.env_kwargs),
        "action_low": np.asarray(data.action_low, np.float64).tolist() if known else None,
        "action_high": np.asarray(data.action_high, np.float64).tolist() if known else None,
        "reference_returns": data.reference_returns,
        "observation_parts": data.observation_parts,
    }


def _table(data: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> pa.Table:
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
        "index": pa.array((data.first_row + rows).astype(np.int64)),
        "episode_id": pa.array(data.episode_id[rows]),
        "step_index": pa.array(data.step_index[rows]),
        **{
            name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in extra.items()
        },
    }
    fields = [
        pa.field(name, array.type, nullable=name == "next_observation") for name, array in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields))


def _check_columns(source: str, schema: pa.Schema, names: Mapping[str, str], asked: Mapping[str, str]) -> None:
    missing = [names[name] for name in ("observation", "action", "reward") if names[name] not in schema.names]
    missing += [column for column in asked.values() if column not in schema.names and column not in missing]
    twice = [column for column in names.values() if schema.names.count(column) > 1]
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
            details=(f"found: {', '.join(schema.names)}",),
            fix="name the source's columns: --column observation=NAME,action=NAME,reward=NAME,terminated=NAME",
        )


def _bounds(facts: Mapping[str, Any]) -> tuple[Array | None, Array | None]:
    if facts.get("action_low") is not None:
        return np.asarray(facts["action_low"]), np.asarray(facts["action_high"])
    return action_bounds(facts.get("env_id"))
