"""``ScoreTable``: one score for every raw row of a dataset, in a file for each of its recordings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.episodes import gathered, whole_episodes
from vaco_curate.data.formats.arrow import parquet_file
from vaco_curate.errors import DatasetError, RunError

if TYPE_CHECKING:  # commands that only read a table need no torch
    from vaco_curate.core.scorer import RowScores

BATCH_ROWS = 65_536
"""Rows that are taken together, where files are small."""

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("episode_id", pa.int64(), nullable=False),
        pa.field("step_index", pa.int64(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("score_std", pa.float32()),
        pa.field("vaco_score", pa.float32()),
        pa.field("q_value", pa.float32(), nullable=False),
        pa.field("advantage", pa.float32(), nullable=False),
        pa.field("goes_on", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True)
class ScoreTable:
    """Scores in the order of the source, read when they are asked for.

    Columns of ``SCHEMA``: ``score_std`` is the spread of the members' scores, null where there was one member;
    ``vaco_score`` is null where training left the bi-level phase out;
    ``q_value`` and ``advantage`` are in reward units of the dataset, as ``reward`` is; ``goes_on`` is that of
    ``Transitions``.

    Attributes:
        files: one for each recording of the dataset, in their order.
        fingerprint: of the dataset that was scored.
        source: where that dataset was read from, for messages.
        reward_scale: scaled reward units per reward unit in the value phase.
    """

    files: tuple[Path, ...]
    fingerprint: str
    source: str
    reward_scale: float

    def __repr__(self) -> str:
        return f"<ScoreTable of {self.source}: {len(self):,} rows, columns {', '.join(self.columns)}>"

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(SCHEMA.names)

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def _rows(self) -> int:
        rows = 0
        for file in self.files:
            with _opened(file) as parquet:
                rows += parquet.metadata.num_rows
        return rows

    def column(self, name: str) -> Array:
        """A column as numpy, (n,); NaN for null.

        Raises:
            RunError: a file is missing, damaged or of another schema.
        """
        dtype = pa.array([], SCHEMA.field(name).type).to_numpy(zero_copy_only=False).dtype
        column, row = np.empty(len(self), dtype), 0
        for batch in self.batches([name]):
            column[row : row + len(batch)] = batch.column(0).to_numpy(zero_copy_only=False)
            row += len(batch)
        return column

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The named columns, some rows at a time.

        Raises:
            RunError: as ``column``.
        """
        for file in self.files:
            with _opened(file) as parquet:
                yield from parquet.iter_batches(columns=list(columns))

    def pieces(self, columns: Sequence[str]) -> Iterator[dict[str, Array]]:
        """The named columns and ``episode_id``, some whole episodes at a time.

        Raises:
            RunError: as ``column``.
        """
        names = list(dict.fromkeys(["episode_id", *columns]))
        batches = (
            {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}
            for batch in self.batches(names)
            if len(batch)
        )
        return whole_episodes(gathered(batches, BATCH_ROWS), self.source)

    def check_rows(self, source: str, rows: int) -> None:
        """Refuse a dataset of another number of rows than the one that was scored, before it is read.

        Raises:
            DatasetError: the numbers differ.
        """
        if rows != len(self):
            raise DatasetError(
                "the scores were made for a different dataset",
                details=(
                    f"scores:  {self.source}  ({len(self):,} rows)",
                    f"dataset: {source}  ({rows:,} rows)",
                ),
                fix=f"score it first: vaco-curate score {source}",
            )

    def check_dataset(self, source: str, fingerprint: str) -> None:
        """Refuse a dataset other than the one that was scored.

        Raises:
            DatasetError: the fingerprints differ.
        """
        if fingerprint != self.fingerprint:
            raise DatasetError(
                "the scores were made for a different dataset",
                details=(
                    f"scores:  {self.source}  (fingerprint {self.fingerprint[:12]})",
                    f"dataset: {source}  (fingerprint {fingerprint[:12]})",
                ),
                fix=f"score it first: vaco-curate score {source}",
            )


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with parquet_file(file, pre_buffer=False) as parquet:
            if parquet.schema_arrow.names != SCHEMA.names:
                raise _damaged(file, f"it holds {', '.join(parquet.schema_arrow.names)}")
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, str(error)) from error


def _damaged(file: Path, what: str) -> RunError:
    return RunError(f"{file}: not a readable score table", details=(what.splitlines()[0],))


def score_batch(piece: Transitions, scores: RowScores) -> pa.RecordBatch:
    """The table's rows for a piece of a dataset."""
    return pa.record_batch(
        [
            pa.array(np.arange(piece.first_row, piece.first_row + len(piece))),
            pa.array(piece.episode_id),
            pa.array(piece.step_index),
            pa.array(piece.reward.astype(np.float64)),
            pa.array(scores.score),
            pa.array(scores.score_std, from_pandas=True),
            pa.array(scores.vaco_score, from_pandas=True),
            pa.array(scores.q_value),
            pa.array(scores.advantage),
            pa.array(np.append(piece.goes_on, False)),
        ],
        schema=SCHEMA,
    )
