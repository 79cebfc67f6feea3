"""Rendering a report as one self-contained HTML file."""

from __future__ import annotations

import html
from importlib.resources import files

import jinja2
import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs

from vaco_curate.core.transitions import Array
from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.uncertainty import Uncertainty

TEMPLATE = "report.html.jinja"
COLORS = ("#1f6feb", "#d9730d", "#2da44e", "#8250df")
LEVELS = {
    "Lower level: weighted cloning": ("cloning_loss",),
    "Upper level: value of the cloned policy": ("policy_value",),
    "Upper level: alignment": ("alignment_loss",),
    "Effective sample size of the weights, as a share of the batch": ("effective_sample_size",),
    "Value phase: losses": ("value_loss", "critic_loss"),
    "Value phase: mean value": ("q_value", "value"),
}


def render_html(facts: ReportFacts) -> str:
    """The whole page; needs no network to open."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["number"] = _number
    template = environment.from_string(files(__package__).joinpath(TEMPLATE).read_text())
    return template.render(
        facts=facts,
        dataset=facts.manifest["dataset"],
        plotly_js=get_plotlyjs(),
        histogram=_embed(_histogram(facts)),
        scatter=_embed(_scatter(facts)),
        spread=_embed(_spread(facts.uncertainty)) if facts.uncertainty is not None else None,
        curves=[_embed(figure) for figure in _curves(facts.curves)] if facts.curves is not None else [],
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 10):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _embed(figure: go.Figure) -> str:
    return str(
        figure.to_html(
            full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
        )
    )


def _figure(title: str, x: str, y: str) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        xaxis_title=x,
        yaxis_title=y,
        template="plotly_white",
        height=340,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        legend={"orientation": "h", "y": 1.08, "x": 1, "xanchor": "right"},
        colorway=COLORS,
    )
    return figure


def _histogram(facts: ReportFacts) -> go.Figure:
    counts, edges = np.histogram(facts.score, bins=80)
    figure = _figure("Scores of all rows", "score (log weight)", "rows")
    centers, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    figure.add_bar(x=centers, y=counts, width=width, hovertemplate="score %{x:.2f}: %{y:,} rows<extra></extra>")
    for share in (10, 50):
        cut = float(np.percentile(facts.score, 100 - share))
        figure.add_vline(x=cut, line_dash="dot", line_color="#57606a", annotation_text=f"top {share} %")
    figure.update_layout(bargap=0)
    return figure


def _scatter(facts: ReportFacts) -> go.Figure:
    if facts.outcomes is not None:
        return _scatter_of_outcomes(facts, facts.outcomes.succeeded)
    figure = _figure("Every episode: mean score against return", "episode return", "mean score")
    figure.add_scatter(
        x=facts.episode_return,
        y=facts.episode_score,
        mode="markers",
        marker={"size": 5, "opacity": 0.6},
        customdata=np.stack([facts.episode_id, facts.episode_length], axis=1),
        hovertemplate="episode %{customdata[0]}, %{customdata[1]} steps<br>return %{x:.1f}, "
        "mean score %{y:.2f}<extra></extra>",
    )
    score = facts.correlations[0]
    if score.pearson is not None and score.spearman is not None:
        label = html.escape(f"Pearson {score.pearson:.3f}, Spearman {score.spearman:.3f}")
        figure.add_annotation(
            text=label, xref="paper", yref="paper", x=0.02, y=0.98, showarrow=False, xanchor="left"
        )
    return figure


def _scatter_of_outcomes(facts: ReportFacts, succeeded: Array) -> go.Figure:
    """Returns would be two bars here."""
    figure = _figure("Every episode: mean score against length", "steps", "mean score")
    for name, chosen, color in (("success", succeeded, COLORS[2]), ("failure", ~succeeded, COLORS[1])):
        figure.add_scatter(
            x=facts.episode_length[chosen],
            y=facts.episode_score[chosen],
            name=name,
            mode="markers",
            marker={"size": 6, "opacity": 0.7, "color": color},
            customdata=facts.episode_id[chosen],
            hovertemplate=f"episode %{{customdata}}, {name}, %{{x}} steps<br>"
            "mean score %{y:.2f}<extra></extra>",
        )
    return figure


def _spread(uncertainty: Uncertainty) -> go.Figure:
    figure = _figure("Disagreement between the members, by score", "mean score", "mean score_std")
    figure.add_scatter(
        x=uncertainty.bin_score,
        y=uncertainty.bin_std,
        mode="lines+markers",
        hovertemplate="score %{x:.2f}: score_std %{y:.2f}<extra></extra>",
    )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _curves(metrics: pl.DataFrame) -> list[go.Figure]:
    figures = []
    for title, names in LEVELS.items():
        phase = "value" if title.startswith("Value") else "bilevel"
        rows = metrics.filter(pl.col("phase") == phase)
        if not len(rows):
            continue
        figure = _figure(title, "update", "")
        for name in names:
            figure.add_scatter(x=rows["update"].to_list(), y=rows[name].to_list(), name=name.replace("_", " "))
        figure.update_layout(showlegend=len(names) > 1)
        figures.append(figure)
    return figures
