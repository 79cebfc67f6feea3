"""Rendering a report as one self-contained HTML file."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any

import jinja2
import vl_convert

from vaco_curate.reporting.about import advice_by_learner, dataset_name, header, next_steps, why_no_advice
from vaco_curate.reporting.facts import ReportFacts
from vaco_curate.reporting.figures import Figure, figures
from vaco_curate.reporting.page_data import page_data

TEMPLATE, STYLE, SCRIPT = "report.html.jinja", "report.css", "report.js"

SHOWN_SHARES = (10, 25, 50)
"""Filters of the table that is also there without JavaScript and on paper."""


def render_html(facts: ReportFacts, run: str, finished: str | None = None) -> str:
    """The whole page; needs no network to open.

    Args:
        run: name of the run folder.
        finished: when the rows were scored, as ISO 8601 has it; None where nobody knows.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = number
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    charts = figures(facts)
    data = page_data(facts, charts, run)
    return environment.get_template(TEMPLATE).render(
        facts=facts,
        run=run,
        name=dataset_name(facts.manifest),
        header=header(facts.manifest, finished),
        advice=advice_by_learner(facts.manifest),
        no_advice=why_no_advice(facts.manifest),
        steps=next_steps(run, facts.manifest),
        figures=charts,
        titles={name: _title(figure) for name, figure in charts.items()},
        filters=_filters(facts),
        data=data,
        style=_text(STYLE),
        script=_text(SCRIPT),
        library=chart_library(),
    )


def number(value: float | None) -> str:
    """A number as people read it: whole, with one decimal from 10 on, or three; as ``shown`` in the script."""
    if value is None:
        return "-"
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{round(value, 3) + 0.0:.3f}"  # no -0.000


@functools.cache
def chart_library() -> str:
    """JavaScript of Vega, Vega-Lite and Vega-Embed as the package ``vl_convert`` brings it."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


def _title(figure: Figure) -> str:
    return str(figure.chart.title)


def _filters(facts: ReportFacts) -> list[dict[str, Any]]:
    """Rows of the table of what filters keep."""
    found: list[dict[str, Any]] = [{"label": "all rows", "summary": facts.before}]
    for unit, kept in (("rows", facts.keeping.rows), ("episodes", facts.keeping.episodes)):
        found += [
            {"label": f"top {share} % of the {unit}", "summary": kept[share - 1].summary}
            for share in SHOWN_SHARES
        ]
    return found
