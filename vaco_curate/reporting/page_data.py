"""What the script of a report reads: charts, what each share keeps, episodes and their courses; small."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from vaco_curate.curation.advice import Standing
from vaco_curate.reporting.episodes import LISTED, Course, most_varied, spread_over_ranking
from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.figures import Figure
from vaco_curate.reporting.figures.base import rounded
from vaco_curate.reporting.keeping import Kept
from vaco_curate.reporting.projection import Projection

COLUMNS = {
    "episode": "episode",
    "score": "mean score",
    "return": "return",
    "success": "success",
    "kept": "kept",
    "length": "rows",
    "spread": "spread",
    "group": "group",
    "order": "place",
}
"""Of the table of episodes, the most important first; ``kept`` follows the slider."""


def page_data(facts: ReportFacts, figures: Mapping[str, Figure], run: str) -> dict[str, Any]:
    """All of it, as JSON can hold it."""
    charts, tables = _charts(figures)
    share, whole = Standing.of(facts.manifest).share_to_keep
    return {
        "charts": charts,
        "tables": tables,
        "keep": {
            "run": shlex.quote(run),
            "share": share,
            "whole": whole,
            "rows": _keep(facts.keeping.rows, facts.projection, "by_row"),
            "episodes": _keep(facts.keeping.episodes, facts.projection, "by_episode"),
        },
        "episodes": _episodes(facts),
        "courses": _courses(facts.courses),
    }


def _charts(figures: Mapping[str, Figure]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Specifications without data, and the data of all by name, in columns."""
    charts: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for name, figure in figures.items():
        spec = figure.chart.to_dict()
        found = spec.pop("datasets")
        tables |= {key: _in_columns(rows) for key, rows in found.items() if key not in tables}
        charts[name] = {"spec": spec, "tables": list(found)}
    return charts, tables


def _in_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _keep(kept: Sequence[Kept], projection: Projection | str, coverage: str) -> list[list[Any]]:
    """By share: rows, episodes, effective episodes, mean and median return, lowest score, coverage."""
    covered = getattr(projection, coverage) if isinstance(projection, Projection) else [None] * len(kept)
    return [
        [
            one.summary.rows,
            one.summary.episodes,
            one.summary.effective_episodes,
            one.summary.return_mean,
            one.summary.return_quantiles[1],
            one.lowest,
            cells,
        ]
        for one, cells in zip(kept, covered, strict=True)
    ]


def _episodes(facts: ReportFacts) -> dict[str, Any]:
    """The table of episodes in columns, ``first``, ``last`` and ``whole`` among them: when each is kept."""
    frame = rounded(spread_over_ranking(facts.episodes, LISTED))
    shown = {name: label for name, label in COLUMNS.items() if name in (*frame.columns, "kept")}
    if facts.groups is not None:
        shown["group"] = facts.groups.name
    if "success" in shown:
        frame = frame.with_columns(
            pl.when("success").then(pl.lit("yes")).otherwise(pl.lit("no")).alias("success")
        )
    return {"labels": shown, "columns": frame.to_dict(as_series=False)}


def _courses(courses: Sequence[Course]) -> dict[str, Any]:
    """Scores in 16 bits each, between the lowest and the highest of all."""
    low = min(float(course.score.min()) for course in courses)
    high = max(float(course.score.max()) for course in courses)
    together = np.concatenate([course.score for course in courses]).astype(np.float64)
    scaled = np.zeros(len(together)) if high == low else (together - low) / (high - low)
    values = np.round(scaled * 65535).astype("<u2")
    return {
        "low": low,
        "high": high,
        "episode": [course.episode_id for course in courses],
        "chosen": most_varied(courses).episode_id,
        "last": [int(course.step[-1]) for course in courses],
        "points": [len(course.step) for course in courses],
        "scores": base64.b64encode(values.tobytes()).decode(),
    }
