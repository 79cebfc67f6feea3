"""Episode by episode: what the table of a report lists, and the scores along some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from vaco_curate.core.transitions import Array
from vaco_curate.curation import Candidates, episode_means
from vaco_curate.data.scores import ScoreTable
from vaco_curate.reporting.keeping import Keeping

LISTED = 5_000
"""Episodes that the table lists at most."""

DRAWN = 2_000
"""Episodes that a chart draws at most."""

EXTREMES, ALONG_RANKING = 5, 190
"""Episodes whose course is shown: of the best and of the worst, and of others spread over the ranking."""

POINTS = 200
"""Of a course at most."""

SEVERAL = "several"
"""The group of an episode whose rows are of more than one."""


@dataclass(frozen=True)
class Grouping:
    """Rows in named groups.

    Attributes:
        name: what groups are, such as ``source file``.
        labels: of the groups, in words.
        group: (episodes,) the number of each episode's label; -1 where its rows are of several groups.
        row_group: (rows,) the number of each row's label, where episodes have several; else None.
    """

    name: str
    labels: list[str]
    group: Array
    row_group: Array | None = None

    def words(self) -> list[str]:
        """The label of each episode."""
        return [SEVERAL if number < 0 else self.labels[number] for number in self.group.tolist()]


@dataclass(frozen=True)
class Course:
    """Scores along an episode: of all rows, or of some in even distances.

    Attributes:
        episode_id: as in the dataset.
        step: (k,) numbers of rows from the first of the episode.
        score: (k,).
    """

    episode_id: int
    step: Array
    score: Array


def episode_frame(
    candidates: Candidates,
    scores: ScoreTable,
    kept: Keeping,
    *,
    succeeded: Array | None,
    grouping: Grouping | None,
) -> pl.DataFrame:
    """A row for each episode, in the order of the dataset.

    Columns: ``episode``, ``score`` (mean), ``return``, ``length``, ``order`` (position in the dataset, from
    0 on), ``first`` and ``last`` (the smallest shares, in percent, at which some and all of its rows are kept),
    ``whole`` (at which it is kept as a whole, by episodes); where known ``success``, ``spread`` (mean
    ``score_std``) and ``group``.
    """
    start = candidates.episode_start
    columns: dict[str, object] = {
        "episode": candidates.episode_id,
        "score": episode_means(candidates, candidates.value),
        "return": candidates.episode_return,
        "length": candidates.episode_length,
        "order": np.arange(len(start)),
        "first": np.minimum.reduceat(kept.row_share, start),
        "last": np.maximum.reduceat(kept.row_share, start),
        "whole": kept.episode_share,
    }
    if succeeded is not None:
        columns["success"] = succeeded
    score_std = scores.column("score_std")
    if not np.isnan(score_std).any():
        columns["spread"] = episode_means(candidates, score_std)
    if grouping is not None:
        columns["group"] = grouping.words()
    return pl.DataFrame(columns)


def spread_over_ranking(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """At most so many episodes: the best, the worst, and others in even distances by score; in their order."""
    if len(frame) <= most:
        return frame
    order = np.argsort(-frame["score"].to_numpy(), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]
    return frame[np.sort(chosen)]


def courses(candidates: Candidates, mean: Array) -> list[Course]:
    """Of the best episodes, the worst, and others spread over the ranking; the best first.

    Args:
        mean: (episodes,) scores.
    """
    order = np.argsort(-mean, kind="stable")
    last = len(order) - 1
    spread = np.linspace(0, last, min(ALONG_RANKING, len(order))).round().astype(np.int64)
    ends = np.arange(min(EXTREMES, len(order)))
    return [
        _course(candidates, int(order[at])) for at in np.unique(np.concatenate([ends, spread, last - ends]))
    ]


def most_varied(courses: Sequence[Course]) -> Course:
    """The one along which the score varies most, if possible neither the best nor the worst."""
    return max(courses[1:-1] or courses, key=lambda course: float(np.ptp(course.score)))


def _course(candidates: Candidates, episode: int) -> Course:
    first, length = int(candidates.episode_start[episode]), int(candidates.episode_length[episode])
    step = np.floor(np.linspace(0, length - 1, min(length, POINTS)) + 0.5).astype(np.int64)
    return Course(int(candidates.episode_id[episode]), step, candidates.value[first + step])
