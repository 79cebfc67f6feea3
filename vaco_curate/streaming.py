"""Scores of Parquet rows, some episodes at a time: memory grows with the longest episode, not with the rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa

from vaco_curate.formats import ReadOptions
from vaco_curate.formats.parquet import read_episodes
from vaco_curate.scorer import RowScores, Scorer

BATCH_ROWS = 65_536


def score_stream(
    source: str | Path, scorer: Scorer, read_options: ReadOptions | None = None
) -> Iterator[pa.RecordBatch]:
    """Score a Parquet file, or all shards of a folder, without loading it.

    Whole episodes are scored at a time, for a score knows where its path led; the next ones are read meanwhile.
    The scores are those that ``score --scorer`` gives the same rows.

    Args:
        read_options: names of the columns, if they are others than ours.

    Yields:
        index, score, score_std (null with one member), q_value and advantage, in the order of the rows.

    Raises:
        DatasetError: there is no such file, a column is missing, or its vectors have other sizes than the
            scorer's.
    """
    pieces = read_episodes(str(source), read_options or ReadOptions(), batch_rows=BATCH_ROWS)
    index = 0
    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(next, pieces, None)
        while (piece := upcoming.result()) is not None:
            upcoming = reader.submit(next, pieces, None)
            scores = scorer.score(piece, first_row=index)
            yield _record_batch(index, scores)
            index += len(piece)


def _record_batch(index: int, scores: RowScores) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "index": pa.array(np.arange(index, index + len(scores.score))),
            "score": pa.array(scores.score),
            "score_std": pa.array(scores.score_std, from_pandas=True),
            "q_value": pa.array(scores.q_value),
            "advantage": pa.array(scores.advantage),
        }
    )
