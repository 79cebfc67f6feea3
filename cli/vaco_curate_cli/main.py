"""The ``vaco-curate`` group."""

from __future__ import annotations

import click

from vaco_curate_cli.command_line import PREFIX
from vaco_curate_cli.group import CurateGroup, Entry

COMMANDS = {
    "inspect": Entry("inspect", "inspect_command", "Describe a dataset and its problems."),
    "score": Entry("score", "score_command", "Train the scorer and score every row."),
    "filter": Entry("filter", "filter_command", "Keep the best rows or episodes."),
    "reweight": Entry("reweight", "reweight_command", "Write every row with a weight (mean 1)."),
    "eval": Entry("evaluate", "eval_command", "Clone policies, roll them out, compare returns."),
    "report": Entry("report", "report_command", "Write an HTML report about a run."),
    "convert": Entry("convert", "convert_command", "Write a dataset in another format."),
    "verify": Entry("verify", "verify_command", "Check a folder against its manifest."),
    "demo": Entry("demo", "demo_command", "Run every step on a small dataset that it records."),
}


@click.group(
    cls=CurateGroup,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": PREFIX},
    epilog="Exit codes: 0 done, 1 refused with a message, 2 wrong usage, 3 done with warnings under --strict, "
    "130 interrupted, 143 terminated.",
)
@click.version_option(package_name="vaco-curate")
def main() -> None:
    """Which rows of an offline-RL dataset are worth learning from?

    \b
    vaco-curate score dataset.hdf5      train the scorer, score every row
    vaco-curate filter --top 50%        write the better half as Parquet
    vaco-curate report                  write an HTML page about the scores
    """
