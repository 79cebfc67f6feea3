"""Writing selections: the decision as a narrow table, and the rows that it keeps or drops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.curation.rabc import rabc_table
from vaco_curate.curation.selection import REASONS, Selection
from vaco_curate.data.formats.tables import TableWriter, write_table
from vaco_curate.data.scores import ScoreTable

SELECTION_FILE = "_selection.pq"
WEIGHTS_FILE = "weights.parquet"
WEIGHTS_ARRAY = "weights.npy"
RABC_FILE = "sarm_progress.parquet"
"""As LeRobot calls it."""

SELECTION_SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("episode_id", pa.int64(), nullable=False),
        pa.field("step_index", pa.int64(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("rank", pa.int64(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


def write_selection(path: Path, scores: ScoreTable, selection: Selection) -> None:
    """The decision for every row, in their order."""
    writer, row = TableWriter(path, SELECTION_SCHEMA), 0
    for batch in scores.batches(["index", "episode_id", "step_index", "score"]):
        rows = slice(row, row + len(batch))
        columns = [
            *batch.columns,
            pa.array(selection.rank[rows].astype(np.int64)),
            pa.array(_weight(selection, rows)),
            pa.array(selection.keep[rows]),
            _words(selection.reason[rows]),
        ]
        writer.write(pa.table(columns, schema=SELECTION_SCHEMA))
        row = rows.stop
    writer.close()


def write_weights(folder: Path, selection: Selection, file_format: str) -> None:
    """The weight of every row without a copy of the data.

    Args:
        file_format: "weights" for ``index`` and ``weight`` as Parquet; "npy" for an array in the order of the
            rows; "lerobot" for the first, and the file from which LeRobot's RA-BC computes the same weights.
    """
    weight = _weight(selection, slice(0, len(selection.keep)))
    if file_format == "npy":
        np.save(folder / WEIGHTS_ARRAY, weight)
        return
    write_table(folder / WEIGHTS_FILE, pa.table({"index": np.arange(len(weight)), "weight": weight}))
    if file_format == "lerobot":
        write_table(folder / RABC_FILE, rabc_table(weight))


def _weight(selection: Selection, rows: slice) -> Array:
    chosen = selection.keep if selection.weight is None else selection.weight
    return chosen[rows].astype(np.float32)


def _words(reason: Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(reason.astype(np.int8)), pa.array(REASONS)).cast(pa.string())
