"""Charts of the scores by themselves: of rows, along episodes, as weights, between members."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from vaco_curate.reporting.episodes import Course, most_varied
from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.figures.base import (
    BAD,
    GOOD,
    INK,
    KEPT,
    Figure,
    finished,
    frame_of,
    rounded,
    share_to_keep,
)
from vaco_curate.reporting.keeping import SHARES
from vaco_curate.reporting.uncertainty import Uncertainty

BEST, CHOSEN, WORST = "best", "chosen", "worst"


def histogram(facts: ReportFacts) -> Figure:
    """Scores of all rows, and the cut of a share."""
    edges = facts.bin_edges.astype(np.float64)
    data = rounded(frame_of(low=edges[:-1], high=edges[1:], rows=facts.bin_rows))
    cuts = rounded(
        frame_of(share=list(SHARES), rows=[kept.lowest for kept in facts.keeping.rows]).with_columns(
            whole=pl.Series([kept.lowest for kept in facts.keeping.episodes])
        )
    )
    bars = (
        alt.Chart(data)
        .mark_bar(color=KEPT, stroke=None)
        .encode(
            x=alt.X("low:Q", bin="binned", title="score (log weight)", scale=alt.Scale(nice=False)),
            x2="high:Q",
            y=alt.Y("rows:Q", title="rows", axis=alt.Axis(format=",~r")),
            tooltip=[
                alt.Tooltip("low:Q", title="score from", format=",.3~f"),
                alt.Tooltip("high:Q", title="to", format=",.3~f"),
                alt.Tooltip("rows:Q", format=","),
            ],
        )
    )
    cut = (
        alt.Chart(cuts)
        .mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.5)
        .encode(x="cut:Q")
        .transform_filter("datum.share == share")
        .transform_calculate(cut="whole ? datum.whole : datum.rows")
        .transform_filter("isValid(datum.cut)")
    )
    return finished(
        alt.layer(bars, cut).add_params(*share_to_keep()),
        "Scores of all rows",
        "The dashed line is the cut of the share to keep: look whether it falls into a gap, or through the "
        "middle of a heap of equals.",
    )


def course(facts: ReportFacts) -> Figure:
    """Scores along the best, the worst and one other episode."""
    shown = {BEST: facts.courses[0], CHOSEN: most_varied(facts.courses), WORST: facts.courses[-1]}
    data = pl.concat([_course_frame(name, course) for name, course in shown.items()])
    chart = (
        alt.Chart(rounded(data))
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=9))
        .encode(
            x=alt.X("step:Q", title="step of the episode", scale=alt.Scale(nice=False)),
            y=alt.Y("score:Q", title="score", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "which:N", scale=alt.Scale(domain=[BEST, CHOSEN, WORST], range=[GOOD, KEPT, BAD]), sort=None
            ),
            strokeDash=alt.StrokeDash(
                "which:N", scale=alt.Scale(domain=[BEST, CHOSEN, WORST], range=[[1, 0], [1, 0], [5, 3]])
            ),
            tooltip=["which:N", "episode:N", "step:Q", alt.Tooltip("score:Q", format=",.3~f")],
        )
    )
    return finished(
        chart,
        "Score along an episode",
        "A step in a line is where good behavior begins or ends; flat lines mean that the rows of an episode "
        "share their score.",
    )


def _course_frame(which: str, course: Course) -> pl.DataFrame:
    return frame_of(step=course.step, score=course.score).with_columns(
        which=pl.lit(which), episode=pl.lit(course.episode_id)
    )


def weights(facts: ReportFacts) -> Figure:
    """Effective rows and episodes by temperature, as shares of all."""
    rows, episodes = facts.before.rows, facts.before.episodes
    data = pl.concat(
        [
            frame_of(
                temperature=[size.temperature for size in facts.weights],
                effective=[getattr(size, name) for size in facts.weights],
                share=[getattr(size, name) / total for size in facts.weights],
            ).with_columns(of=pl.lit(name))
            for name, total in (("rows", rows), ("episodes", episodes))
        ]
    )
    lines = (
        alt.Chart(rounded(data))
        .mark_line(point=alt.OverlayMarkDef(size=28), strokeWidth=1.8)
        .encode(
            x=alt.X(
                "temperature:Q",
                title="--temperature of reweight",
                scale=alt.Scale(type="log", base=2),
                axis=alt.Axis(values=[0.25, 0.5, 1, 2, 4, 8], format="~g"),
            ),
            y=alt.Y("share:Q", title="effective share of all", axis=alt.Axis(format="~%")),
            color=alt.Color("of:N", scale=alt.Scale(domain=["rows", "episodes"], range=[KEPT, BAD])),
            tooltip=[
                alt.Tooltip("temperature:Q", format=".3~f"),
                alt.Tooltip("effective:Q", title="effective number", format=",.1f"),
                "of:N",
                alt.Tooltip("share:Q", format=".1%"),
            ],
        )
    )
    present = (
        alt.Chart(frame_of(temperature=[1.0]))
        .mark_rule(color=INK, strokeDash=[4, 3], strokeWidth=1.5)
        .encode(x="temperature:Q")
    )
    return finished(
        alt.layer(lines, present),
        "How many rows and episodes carry the weights",
        "The dashed line is the temperature of the scorer, 1: where the lines are low, few episodes decide "
        "what is learned, and a higher temperature lets more of them take part.",
    )


def spread(uncertainty: Uncertainty) -> Figure:
    """Disagreement between the members, by score."""
    data = rounded(frame_of(score=uncertainty.bin_score, score_std=uncertainty.bin_std))
    chart = (
        alt.Chart(data)
        .mark_line(color=KEPT, point=alt.OverlayMarkDef(size=32, color=KEPT), strokeWidth=1.8)
        .encode(
            x=alt.X("score:Q", title="mean score", scale=alt.Scale(zero=False)),
            y=alt.Y("score_std:Q", title="mean score_std"),
            tooltip=[alt.Tooltip(f"{name}:Q", format=",.3~f") for name in ("score", "score_std")],
        )
    )
    return finished(
        chart,
        "Disagreement between the members, by score",
        "Each point is a twentieth of the rows: look whether the members agree about the rows near your cut.",
    )
