"""Scores of rows, some episodes at a time: memory grows with the longest episode, not with the rows."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from vaco_curate.core.scorer import Scorer
from vaco_curate.data.formats import ReadOptions, open_dataset
from vaco_curate.data.formats.dataset import read_ahead
from vaco_curate.data.formats.in_memory import Source, on_disk
from vaco_curate.data.scores import score_batch
from vaco_curate.store.files import FolderLike, place


def score_stream(
    source: Source, scorer: Scorer | FolderLike, read_options: ReadOptions | None = None
) -> Iterator[pa.RecordBatch]:
    """Score a dataset of any known format without loading it.

    Whole episodes are scored at a time, for a score knows where its path led. The scores are those that
    ``score --scorer`` gives the same rows.

    Args:
        source: as for ``score_dataset``.
        scorer: or the run that it lies in.
        read_options: what the reader must be told, such as other names of columns.

    Yields:
        Columns of ``scores.SCHEMA``, in the order of the rows.

    Raises:
        DatasetError: there is no such dataset, a column is missing, or its vectors have other sizes than the
            scorer's.
    """
    if not isinstance(scorer, Scorer):
        scorer = Scorer.load(place(scorer))
    with on_disk(source) as address:
        for piece in read_ahead(open_dataset(address, read_options).pieces()):
            yield score_batch(piece, scorer.score(piece))
