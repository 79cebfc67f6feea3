"""Facts about a scored dataset, and the HTML page that shows them."""

from vaco_curate.reporting.facts import Correlation, ReportFacts, episode_correlations, report_facts
from vaco_curate.reporting.html import render_html

__all__ = ["Correlation", "ReportFacts", "episode_correlations", "render_html", "report_facts"]
