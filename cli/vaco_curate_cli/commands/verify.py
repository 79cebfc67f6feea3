"""``vaco-curate verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vaco_curate.errors import RunError
from vaco_curate_cli.display import Display, table
from vaco_curate_cli.group import SectionCommand
from vaco_curate_cli.options import FOLDER, output_options

if TYPE_CHECKING:
    from vaco_curate.stages.verify import Verification


@click.command(cls=SectionCommand, name="verify")
@click.argument("folder", type=FOLDER)
@output_options
def verify_command(folder: Path, display: Display) -> None:
    """Check that a folder written by vaco-curate still matches its manifest.

    The command compares the hash of every file. It also checks the dataset and the run that the folder comes
    from, if they still exist. What is no longer there is a warning. The exit code is 1 if anything has changed
    or a file is missing.

    \b
    Examples:
      vaco-curate verify hopper.top50pct
      vaco-curate verify hopper.vaco --json
    """
    from vaco_curate.stages.verify import verify_folder

    with display.progress():
        verification = verify_folder(folder)
    display.result(verification)
    _show(verification, display)
    for check in verification.checks:
        if check.good is None:
            display.warn(f"{check.what}: {check.state}")
    if verification.failed:
        raise RunError(
            f"{folder}: {len(verification.failed)} of {len(verification.checks)} checks failed",
            details=tuple(f"{check.what}: {check.state}" for check in verification.failed[:10]),
        )


def _show(verification: Verification, display: Display) -> None:
    facts = table(str(verification.folder), "", "")
    facts.columns[1].justify = "left"
    for check in verification.checks:
        facts.add_row(check.what, check.state)
    display.show(facts)
