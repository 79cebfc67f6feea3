"""``ScoreTable``: one score for every raw row of a dataset, bound to that dataset's fingerprint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vaco_curate.errors import DatasetError, RunError
from vaco_curate.formats.parquet import METADATA_KEY, write_table
from vaco_curate.scorer import RowScores
from vaco_curate.transitions import Array, Transitions

SCHEMA = {
    "index": pl.Int64,
    "episode_id": pl.Int64,
    "step_index": pl.Int64,
    "score": pl.Float32,
    "score_std": pl.Float32,
    "rank": pl.Int64,
    "q_value": pl.Float32,
    "advantage": pl.Float32,
}


@dataclass(frozen=True)
class ScoreTable:
    """Scores in the order of the source.

    Attributes:
        frame: columns of ``SCHEMA``; ``rank`` is 0 for the best score, ties broken by ``index``;
            ``score_std`` is the spread of the members' scores, null where there was one member;
            ``q_value`` and ``advantage`` are in reward units of the dataset.
        fingerprint: of the dataset that was scored.
        source: where that dataset was read from, for messages.
        reward_scale: scaled reward units per reward unit in the value phase.
    """

    frame: pl.DataFrame
    fingerprint: str
    source: str
    reward_scale: float

    def column(self, name: str) -> Array:
        """A column as numpy, (n,)."""
        return self.frame[name].to_numpy()

    def check_dataset(self, data: Transitions) -> None:
        """Refuse a dataset other than the one that was scored.

        Raises:
            DatasetError: the fingerprints differ.
        """
        if data.fingerprint != self.fingerprint:
            raise DatasetError(
                "the scores were made for a different dataset",
                details=(
                    f"scores:  {self.source}  (fingerprint {self.fingerprint[:12]})",
                    f"dataset: {data.source}  (fingerprint {data.fingerprint[:12]})",
                ),
                fix=f"score it first: vaco-curate score {data.source}",
            )

    def save(self, path: Path) -> None:
        """Write Parquet with the facts in the file's metadata."""
        facts = {
            "fingerprint": self.fingerprint,
            "source": self.source,
            "reward_scale": self.reward_scale,
        }
        table = self.frame.to_arrow().replace_schema_metadata({METADATA_KEY: json.dumps(facts).encode()})
        write_table(path, table)

    @classmethod
    def load(cls, path: Path) -> ScoreTable:
        """Read what ``save`` wrote.

        Raises:
            RunError: the file is missing, damaged or of another schema.
        """
        try:
            table = pq.ParquetFile(path).read()
            facts = json.loads((table.schema.metadata or {})[METADATA_KEY])
            frame = pl.from_arrow(table)
            assert isinstance(frame, pl.DataFrame)
            return cls(frame.select(list(SCHEMA)), **facts)
        except (OSError, KeyError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise RunError(
                f"{path}: not a readable score table", details=(str(error).splitlines()[0],)
            ) from error


def score_table(data: Transitions, scores: RowScores, *, reward_scale: float) -> ScoreTable:
    """The table of a dataset's scores."""
    frame = pl.DataFrame(
        {
            "index": np.arange(len(data)),
            "episode_id": data.episode_id,
            "step_index": data.step_index,
            "score": scores.score,
            "score_std": scores.score_std,
            "rank": ranks(scores.score),
            "q_value": scores.q_value,
            "advantage": scores.advantage,
        },
        schema=SCHEMA,
        nan_to_null=True,
    )
    return ScoreTable(frame, data.fingerprint, data.source, reward_scale)


def ranks(score: Array) -> Array:
    """(n,) int64: 0 for the best score, ties broken by position."""
    order = np.argsort(-score, kind="stable")
    rank = np.empty(len(score), dtype=np.int64)
    rank[order] = np.arange(len(score))
    return rank
