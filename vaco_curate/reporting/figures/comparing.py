"""The chart of two runs."""

from __future__ import annotations

import altair as alt

from vaco_curate.reporting.comparison import Comparison
from vaco_curate.reporting.episodes import DRAWN, spread_over_ranking
from vaco_curate.reporting.figures.base import KEPT, Figure, finished, rounded, zoom


def runs(comparison: Comparison) -> Figure:
    """Mean scores of the episodes by both runs."""
    data = rounded(
        spread_over_ranking(comparison.episodes, DRAWN).select("episode", "return", "length", "score", "other")
    )
    chart = (
        alt.Chart(data)
        .mark_circle(size=24, opacity=0.6, color=KEPT)
        .encode(
            x=alt.X("other:Q", title=f"mean score by {comparison.name}", scale=alt.Scale(zero=False)),
            y=alt.Y("score:Q", title="mean score by this run", scale=alt.Scale(zero=False)),
            tooltip=[
                "episode:N",
                alt.Tooltip("score:Q", title="this run", format=",.3~f"),
                alt.Tooltip("other:Q", title="the other", format=",.3~f"),
                alt.Tooltip("return:Q", format=",.4~r"),
            ],
        )
        .add_params(zoom())
    )
    drawn = min(DRAWN, len(comparison.episodes))
    return finished(
        chart,
        "Mean score of every episode by both runs",
        f"Points off the rising line are episodes that only one of the runs likes. {drawn:,} of "
        f"{len(comparison.episodes):,} episodes are drawn.",
        height=320,
    )
