"""Rows as Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.formats.others import OWN_NAMES, vector_column
from vaco_curate.data.formats.parquet import METADATA_KEY
from vaco_curate.data.formats.tables import ShardedWriter
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import DatasetError

SCHEMA_VERSION = 2


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
    observation, known = data.observation[rows], data.has_successor[rows]
    columns = {
        "observation": vector_column(observation),
        "action": vector_column(data.action[rows]),
        "reward": pa.array(data.reward[rows]),
        "next_observation": vector_column(np.where(known[:, None], data.next_observation[rows], observation)),
        "has_successor": pa.array(known),
        "terminated": pa.array(data.terminated[rows]),
        "truncated": pa.array(data.truncated[rows]),
        "index": pa.array((data.first_row + rows).astype(np.int64)),
        "episode_id": pa.array(data.episode_id[rows]),
        "step_index": pa.array(data.step_index[rows]),
        **{
            name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in extra.items()
        },
    }
    fields = [pa.field(name, array.type, nullable=name not in OWN_NAMES) for name, array in columns.items()]
    return pa.table(list(columns.values()), schema=pa.schema(fields))
