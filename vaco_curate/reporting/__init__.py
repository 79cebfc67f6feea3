"""Facts about a scored dataset, the figures that show them, and the HTML page."""

from vaco_curate.reporting.facts import ReportFacts, report_facts
from vaco_curate.reporting.figures import figures
from vaco_curate.reporting.html import render_html
from vaco_curate.reporting.relations import Correlation, episode_correlations

__all__ = ["Correlation", "ReportFacts", "episode_correlations", "figures", "render_html", "report_facts"]
