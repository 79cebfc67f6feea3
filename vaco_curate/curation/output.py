"""Writing selections: shards of rows, or the narrow table of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.curation.selection import Selection
from vaco_curate.formats.parquet import write_table, write_transitions
from vaco_curate.scores import ScoreTable
from vaco_curate.transitions import Array, Transitions

WEIGHTS_FILE = "weights.parquet"


def write_kept(
    folder: Path,
    data: Transitions,
    scores: ScoreTable,
    selection: Selection,
    *,
    weighted: bool,
    facts: Mapping[str, Any],
) -> list[Path]:
    """Kept rows in their order with ``score`` and ``rank``, and ``weight`` when asked."""
    rows = selection.kept_rows
    extra = _ranking(scores, rows)
    if weighted:
        extra["weight"] = selection.weight[rows].astype(np.float32)
    return write_transitions(folder, data, rows, extra, {**facts, "rule": selection.rule})


def write_dropped(
    folder: Path, data: Transitions, scores: ScoreTable, selection: Selection, facts: Mapping[str, Any]
) -> list[Path]:
    """Dropped rows in their order with ``score``, ``rank`` and ``reason``."""
    rows = selection.dropped_rows
    extra = _ranking(scores, rows) | {"reason": selection.reason[rows]}
    return write_transitions(folder, data, rows, extra, {**facts, "rule": f"dropped by: {selection.rule}"})


def write_weights(folder: Path, selection: Selection) -> list[Path]:
    """``index`` and ``weight`` of every row: weights without a copy of the data."""
    path = folder / WEIGHTS_FILE
    weight = selection.weight.astype(np.float32)
    write_table(path, pa.table({"index": np.arange(len(weight)), "weight": weight}))
    return [path]


def _ranking(scores: ScoreTable, rows: Array) -> dict[str, Array]:
    return {"score": scores.column("score")[rows], "rank": scores.column("rank")[rows]}
