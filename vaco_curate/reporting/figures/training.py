"""Training curves."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import polars as pl

from vaco_curate.reporting.figures.base import BAD, KEPT, Figure, finished, rounded

POINTS = 200
"""Of a curve at most."""


@dataclass(frozen=True)
class Curve:
    """One chart of training.

    Attributes:
        columns: of the metrics.
    """

    title: str
    phase: str
    columns: tuple[str, ...]
    caption: str


CURVES = {
    "values": Curve(
        "Value phase: mean value",
        "value",
        ("q_value", "value"),
        "Values rise towards discounted returns, in scaled rewards. Training may end before they level off: it "
        "ends when the order of the rows has settled, or with the last update.",
    ),
    "losses": Curve(
        "Value phase: losses",
        "value",
        ("value_loss", "critic_loss"),
        "Losses that rise are no fault here: as values grow towards the returns, so do their errors. "
        "A bad sign is a loss that jumps and does not come back.",
    ),
    "cloning": Curve(
        "Lower level: weighted cloning",
        "bilevel",
        ("cloning_loss",),
        "The loss falls while the policy learns the weighted actions; it can rise when the weights move.",
    ),
    "policy_value": Curve(
        "Upper level: value of the cloned policy",
        "bilevel",
        ("policy_value",),
        "It should rise: the weights are learned to raise it.",
    ),
    "alignment": Curve(
        "Upper level: alignment",
        "bilevel",
        ("alignment_loss",),
        "What the weights are trained on: it should fall, and then stay.",
    ),
    "sample": Curve(
        "Effective sample size of the weights, as a share of the batch",
        "bilevel",
        ("effective_sample_size",),
        "Near 0, a few rows of each batch carry all the weight; near 1, the weights do not tell rows apart.",
    ),
}


def curves(metrics: pl.DataFrame) -> dict[str, Figure]:
    """A chart for each of ``CURVES`` whose phase was run."""
    return {
        name: _figure(metrics.filter(pl.col("phase") == curve.phase), curve)
        for name, curve in CURVES.items()
        if (metrics["phase"] == curve.phase).any()
    }


def _figure(rows: pl.DataFrame, curve: Curve) -> Figure:
    every = -(-len(rows) // POINTS)
    data = (
        rows.gather_every(every)
        .select("update", *curve.columns)
        .unpivot(index="update", variable_name="of", value_name="measured")
        .with_columns(pl.col("of").str.replace_all("_", " "))
        .filter(pl.col("measured").is_finite())
    )
    names = [name.replace("_", " ") for name in curve.columns]
    chart = (
        alt.Chart(rounded(data))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("update:Q", title="update", axis=alt.Axis(format=",~r")),
            y=alt.Y("measured:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color(
                "of:N",
                scale=alt.Scale(domain=names, range=[KEPT, BAD][: len(names)]),
                legend=alt.Legend() if len(names) > 1 else None,
            ),
            tooltip=["update:Q", "of:N", alt.Tooltip("measured:Q", title="value", format=",.4~r")],
        )
    )
    return finished(chart, curve.title, curve.caption, height=220)
