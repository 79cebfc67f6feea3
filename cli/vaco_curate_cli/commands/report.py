"""``vaco-curate report``."""

from __future__ import annotations

from pathlib import Path

import click

from vaco_curate.stages.report import report_run
from vaco_curate_cli.display import Display, number_text, table
from vaco_curate_cli.options import dataset_option, output_options, resolve_run, run_argument


@click.command(name="report", short_help="Write one HTML page about a run.")
@run_argument
@dataset_option
@output_options
def report_command(run: Path | None, dataset: str | None, display: Display) -> None:
    """Write report.html into the run folder: one file, no network needed.

    Scores, their relation to returns, what filters would keep, training curves, warnings, and the
    last evaluation. RUN is a folder that 'score' wrote; without it, the newest one here.

    \b
    Examples:
      vaco-curate report
      vaco-curate report hopper.vaco --json
    """
    result = report_run(resolve_run(run, display), dataset=dataset)
    display.result(result)
    for warning in result.warnings:
        display.warn(warning)
    shown = table("an episode's mean against its return", "signal", "Pearson", "Spearman")
    for row in result.correlations:
        shown.add_row(row.signal, number_text(row.pearson), number_text(row.spearman))
    display.show(shown)
    display.show(f"report: {result.report}")
