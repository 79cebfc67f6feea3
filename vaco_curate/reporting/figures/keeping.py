"""Charts that follow the slider: what a share keeps, and where it lies."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.figures.base import (
    BAD,
    DROPPED,
    INK,
    KEPT,
    Figure,
    finished,
    frame_of,
    rounded,
    share_to_keep,
    zoom,
)
from vaco_curate.reporting.keeping import SHARES
from vaco_curate.reporting.projection import Projection

POINTS = 3_000
"""Rows that the projection draws at most."""

LEVELS = {"rows": "% of the rows", "episodes": "% of the episodes, whole"}


def mean_return(facts: ReportFacts) -> Figure:
    """Mean return of what is kept, by share."""
    kept = {LEVELS["rows"]: facts.keeping.rows, LEVELS["episodes"]: facts.keeping.episodes}
    rows = [
        {"share": share, "mean": found.summary.return_mean, "of": level}
        for level, found_by_share in kept.items()
        for share, found in zip(SHARES, found_by_share, strict=True)
    ]
    lines = (
        alt.Chart(rounded(pl.DataFrame(rows)))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("share:Q", title="what is kept"),
            y=alt.Y("mean:Q", title="mean return", scale=alt.Scale(zero=False), axis=alt.Axis(format=",~r")),
            color=alt.Color("of:N", scale=alt.Scale(domain=[*LEVELS.values()], range=[KEPT, BAD])),
            strokeDash=alt.StrokeDash(
                "of:N", scale=alt.Scale(domain=[*LEVELS.values()], range=[[1, 0], [5, 3]])
            ),
            tooltip=[
                alt.Tooltip("share:Q", title="kept, in %"),
                alt.Tooltip("mean:Q", title="mean return", format=",.4~r"),
                "of:N",
            ],
        )
    )
    chosen = (
        alt.Chart(frame_of(nothing=[0]))
        .mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.5)
        .encode(x="at:Q")
        .transform_calculate(at="share")
    )
    return finished(
        alt.layer(lines, chosen).add_params(*share_to_keep()),
        "Mean return of what is kept, by share",
        "Look for the bend: to its right, what is added is worse than what is kept already. The lines differ "
        "in what a share is of: a tenth of the episodes can be most of the rows.",
    )


def projection(facts: ReportFacts, found: Projection) -> Figure:
    """Kept and dropped rows in two dimensions."""
    drawn = np.linspace(0, len(found.row) - 1, min(POINTS, len(found.row))).round().astype(np.int64)
    episode = np.searchsorted(np.cumsum(facts.episodes["length"].to_numpy()), found.row[drawn], side="right")
    data = frame_of(
        x=found.place[drawn, 0],
        y=found.place[drawn, 1],
        by_row=facts.keeping.row_share[found.row[drawn]],
        by_episode=facts.keeping.episode_share[episode],
        episode=facts.episodes["episode"].to_numpy()[episode],
    ).with_columns(pl.col("x", "y").round(2))
    kept = "(whole ? datum.by_episode : datum.by_row) <= share"
    names = ["kept", "dropped"]
    chart = (
        alt.Chart(data)
        .transform_calculate(what=f"{kept} ? 'kept' : 'dropped'")
        .mark_circle(size=14, opacity=0.75)
        .encode(
            x=alt.X("x:Q", title=f"first direction, {found.explained[0]:.0%} of the variance"),
            y=alt.Y("y:Q", title=f"second direction, {found.explained[1]:.0%}"),
            color=alt.Color("what:N", scale=alt.Scale(domain=names, range=[KEPT, DROPPED])),
            order=alt.Order("what:N", sort="ascending"),
            tooltip=["what:N", "episode:N"],
        )
        .add_params(*share_to_keep(), zoom())
    )
    return finished(
        chart,
        "Where the kept rows lie among all observations",
        f"Look for gray regions without blue: states that a learner will not see. {len(drawn):,} sampled rows, "
        "along the two directions in which standardized observations vary most; they follow the slider.",
        height=320,
    )
