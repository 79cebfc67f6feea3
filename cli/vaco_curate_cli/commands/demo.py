"""``vaco-curate demo``: the main job on a dataset that the project records itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from vaco_curate.store.folders import DEMO, refuse_existing
from vaco_curate.store.manifest import write_manifest
from vaco_curate_cli.commands.evaluate import eval_command
from vaco_curate_cli.commands.filter import filter_command
from vaco_curate_cli.commands.report import report_command
from vaco_curate_cli.commands.reweight import reweight_command
from vaco_curate_cli.commands.score import score_command
from vaco_curate_cli.display import Display
from vaco_curate_cli.group import SectionCommand
from vaco_curate_cli.options import if_exists_option, out_option, output_options

DATASET = "pendulum-mixed.hdf5"
SETTINGS = "settings.json"
SHORT = {"value": {"updates": 8_000}, "bilevel": {"updates": 2_500}}
"""Pendulum is small: its values settle in a fraction of the updates that locomotion needs."""

CLONING = ("--updates", "4000", "--seeds", "2", "--episodes", "20")

REPLACE = ("--if-exists", "replace")

STEPS: tuple[tuple[click.Command, str, tuple[str, ...]], ...] = (
    (score_command, "score", (DATASET, "--config", SETTINGS, *REPLACE)),
    (filter_command, "filter", ("--top", "20%", "--level", "episode", *REPLACE)),
    (reweight_command, "reweight", REPLACE),
    (eval_command, "eval", ("pendulum-mixed.top20pct-episodes", "--against", "uniform,random", *CLONING)),
    (eval_command, "eval", ("pendulum-mixed.weighted", "--against", "uniform", *CLONING)),
    (report_command, "report", ("pendulum-mixed.vaco",)),
)


@click.command(cls=SectionCommand, name="demo")
@out_option("demo")
@if_exists_option(("fail", "replace"))
@output_options
def demo_command(out: Path | None, if_exists: str, display: Display) -> None:
    """Record a small dataset of mixed pendulum controllers and run every step on it.

    The steps are score, filter, reweight, eval and report. The demo needs no data and no download. It takes a
    minute or two on one CPU core.

    \b
    Example:
      vaco-curate demo
    """
    from vaco_curate.demo import record_pendulum
    from vaco_curate.stages.runs import REPORT_FILE

    out = out or Path("demo")
    refuse_existing(out, DEMO, replace=if_exists == "replace")
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out, {"kind": DEMO})
    display.note(f"recording random, mediocre and good controllers of Pendulum-v1 to {out / DATASET}")
    record_pendulum(out / DATASET)
    (out / SETTINGS).write_text(json.dumps(SHORT, indent=2) + "\n")
    output = ["--quiet"] if display.quiet or display.as_json else []
    before = Path.cwd()
    try:
        os.chdir(out)
        for command, name, arguments in STEPS:
            display.note(f"\n$ vaco-curate {name} {' '.join(arguments)}")
            command.main([*arguments, *output], prog_name=f"vaco-curate {name}", standalone_mode=False)
    finally:
        os.chdir(before)
    report = out / "pendulum-mixed.vaco" / REPORT_FILE
    display.result({"folder": out, "report": report})
    display.show(f"\nopen {report} in a browser")
