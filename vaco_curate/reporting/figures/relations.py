"""Charts of episodes: their scores against returns, lengths, places and groups."""

from __future__ import annotations

import altair as alt

from vaco_curate.reporting.episodes import DRAWN, spread_over_ranking
from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.figures.base import BAD, GOOD, KEPT, Figure, finished, rounded, zoom
from vaco_curate.reporting.relations import Groups

COLUMNS = ("episode", "score", "return", "length", "order")


def returns(facts: ReportFacts) -> Figure:
    """Mean score of every episode against its return."""
    score = facts.correlations[0]
    found = "" if score.spearman is None else f" Spearman's correlation is {score.spearman:.3f}."
    return finished(
        _scatter(facts, "return", "episode return"),
        "Every episode: mean score against return",
        "A rising cloud is what you want; points far below it are good episodes that the scorer misses, points "
        f"far above it are bad ones that it likes.{found}{_sampled(facts)}",
        height=320,
    )


def outcomes(facts: ReportFacts) -> Figure:
    """Mean scores of successes and of failures; returns would be two bars here."""
    return finished(
        _scatter(facts, "length", "steps"),
        "Every episode: mean score against length",
        "Successes should lie above failures at every length; look at the failures among them."
        f"{_sampled(facts)}",
        height=320,
    )


def length(facts: ReportFacts) -> Figure:
    """Mean score of every episode against its length."""
    return finished(
        _scatter(facts, "length", "length (rows)"),
        "Score and length",
        f"A thin line here would mean that the score is little more than the length.{_sampled(facts)}",
        height=240,
    )


def order(facts: ReportFacts) -> Figure:
    """Mean score of every episode by its place in the dataset."""
    return finished(
        _scatter(facts, "order", "place in the dataset (order of recording)"),
        "Score and order of recording",
        "A slope or a jump means that something changed while the data was recorded: the operator, the policy "
        f"or the setup.{_sampled(facts)}",
        height=240,
    )


def groups(found: Groups) -> Figure:
    """Mean scores by group."""
    chart = (
        alt.Chart(rounded(found.table))
        .mark_bar(color=KEPT, height={"band": 0.7})
        .encode(
            y=alt.Y("group:N", title=None, sort="-x", axis=alt.Axis(labelLimit=140)),
            x=alt.X("score:Q", title=f"mean score of its {'rows' if found.of_rows else 'episodes'}"),
            tooltip=[
                "group:N",
                alt.Tooltip("score:Q", title="mean score", format=",.3~f"),
                alt.Tooltip("return:Q", title="mean return", format=",.4~r"),
                alt.Tooltip("episodes:Q", format=","),
                alt.Tooltip("rows:Q", format=","),
            ],
        )
    )
    return finished(
        chart,
        f"Score by {found.name}",
        "Long bars to the left are groups that a filter would drop; if that should not be, cut each group for "
        "itself with filter --per.",
        height=60 + 22 * len(found.table),
    )


def _scatter(facts: ReportFacts, column: str, title: str) -> alt.Chart:
    shown = [name for name in (*COLUMNS, "success") if name in facts.episodes.columns]
    data = rounded(spread_over_ranking(facts.episodes, DRAWN).select(shown))
    tooltip = [
        "episode:N",
        alt.Tooltip("score:Q", title="mean score", format=",.3~f"),
        alt.Tooltip("return:Q", format=",.4~r"),
        alt.Tooltip("length:Q", format=","),
    ]
    chart = alt.Chart(data).mark_circle(size=24, opacity=0.6, color=KEPT)
    if "success" in shown:
        scale = alt.Scale(domain=["success", "failure"], range=[GOOD, BAD])
        chart = chart.transform_calculate(outcome="datum.success ? 'success' : 'failure'").encode(
            color=alt.Color("outcome:N", scale=scale)
        )
        tooltip.append("outcome:N")
    encoded: alt.Chart = chart.encode(
        x=alt.X(f"{column}:Q", title=title, axis=alt.Axis(format=",~r"), scale=alt.Scale(nice=True, padding=8)),
        y=alt.Y("score:Q", title="mean score", scale=alt.Scale(zero=False)),
        tooltip=tooltip,
    )
    return encoded.add_params(zoom())


def _sampled(facts: ReportFacts) -> str:
    count = len(facts.episodes)
    return "" if count <= DRAWN else f" {DRAWN:,} of the {count:,} episodes are drawn, spread over the ranking."
