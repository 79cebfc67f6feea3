"""``vaco-curate report``."""

from __future__ import annotations

from pathlib import Path

import click

from vaco_curate_cli.display import Display, number_text, table
from vaco_curate_cli.group import SectionCommand, options_of
from vaco_curate_cli.options import FOLDER, dataset_option, output_options, resolve_run, run_argument

content = options_of("What to show")


@click.command(cls=SectionCommand, name="report")
@run_argument
@content("--per", metavar="COLUMN", help="Also show scores by this column of the dataset.")
@content("--compare", "other", type=FOLDER, metavar="RUN2", help="Another run on the same dataset.")
@dataset_option
@output_options
def report_command(
    run: Path | None, per: str | None, other: Path | None, dataset: str | None, display: Display
) -> None:
    """Write report.html into the run folder: a single file that opens without a network.

    The report shows what a filter of any share would keep, how scores relate to returns and to other facts,
    every episode, the coverage of the observations, the weights, warnings, the training curves and the latest
    evaluations.

    RUN is a folder that 'score' wrote. The default is the newest one in the current folder.

    \b
    Examples:
      vaco-curate report
      vaco-curate report hopper.vaco --json
      vaco-curate report hopper.vaco --per operator
      vaco-curate report hopper.vaco --compare hopper-again.vaco
    """
    from vaco_curate.stages.report import report_run

    with display.progress():
        result = report_run(resolve_run(run, display), dataset=dataset, per=per, compare_with=other)
    display.result(result)
    for warning in result.warnings:
        display.warn(warning)
    if result.successes is None:
        shown = table("correlation of episode means with episode returns", "signal", "Pearson", "Spearman")
        for row in result.correlations:
            shown.add_row(row.signal, number_text(row.pearson), number_text(row.spearman))
    else:
        shown = table(f"episode means of {result.successes} successes against failures", "signal", "AUC")
        for row in result.correlations:
            shown.add_row(row.signal, number_text(row.auc))
    display.show(shown)
    display.show(f"report: {result.report}")
