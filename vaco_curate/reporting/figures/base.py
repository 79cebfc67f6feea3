"""What all charts have in common: colors, type, zoom, and a sentence that says what to look for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from vaco_curate.core.transitions import Array

KEPT, DROPPED, GOOD, BAD, INK = "#2f74e0", "#a3adbb", "#2e9e5b", "#dd7a1f", "#5d6878"
"""Colors that can be told apart on white and on black, also by those who do not tell red from green."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"

AXIS_TICKS = 6

CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": "white",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "#57606a",
        "titleColor": "#57606a",
        "labelFontSize": 11.5,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": "#e6e9ee",
        "domainColor": "#c4cad3",
        "tickColor": "#c4cad3",
        "tickCount": AXIS_TICKS,
        "labelOverlap": True,
    },
    "title": {"anchor": "start", "fontSize": 14, "fontWeight": 600, "color": "#1d2430", "offset": 12},
    "legend": {
        "orient": "bottom",
        "direction": "horizontal",
        "title": None,
        "labelColor": "#57606a",
        "labelFontSize": 12,
        "symbolOpacity": 1,
    },
    "rule": {"color": INK},
    "text": {"color": "#3d4653", "fontSize": 11.5},
}


AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class Figure:
    """A chart, and what to look for in it.

    Attributes:
        caption: one or two sentences.
    """

    chart: AnyChart
    caption: str


def finished(chart: AnyChart, title: str, caption: str, *, height: int = 280) -> Figure:
    """The figure of a chart, in the common form."""
    described = chart.properties(
        title=title, description=f"{title}. {caption}", width="container", height=height
    ).configure(**CONFIG)
    return Figure(described, caption)


def zoom() -> alt.Parameter:
    """Dragging moves, the wheel with Shift zooms, a double click resets: the wheel alone scrolls the page."""
    return alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]", name="zoom")


def share_to_keep(default: int = 25) -> list[alt.Parameter]:
    """What the slider of the report sets: a share in percent, and whether whole episodes are kept."""
    return [alt.param(name="share", value=default), alt.param(name="whole", value=False)]


def frame_of(**columns: Array | list[Any]) -> pl.DataFrame:
    """A table of columns."""
    return pl.DataFrame({name: list(values) for name, values in columns.items()})


def rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """Numbers with five significant digits: more cannot be seen, and each costs a byte of the page."""
    return frame.with_columns(pl.col(pl.Float32, pl.Float64).cast(pl.Float64).round_sig_figs(5))
