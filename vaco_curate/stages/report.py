"""The stage behind ``vaco-curate report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vaco_curate.data.formats import opened_once
from vaco_curate.reporting import Correlation, render_html, report_facts
from vaco_curate.stages.runs import REPORT_FILE, open_run
from vaco_curate.store.files import place, write_atomically


@dataclass(frozen=True)
class ReportResult:
    """Where the report lies, and its main facts.

    Attributes:
        successes: episodes that succeed, where rewards say no more than that; else None.
    """

    run: Path
    report: Path
    correlations: list[Correlation]
    successes: int | None
    effective_sample_share: float
    warnings: list[str]


@opened_once()
def report_run(run_folder: str | Path, *, dataset: str | None = None) -> ReportResult:
    """Write ``report.html`` into the run folder.

    Raises:
        CurateError: no finished run, or its dataset is gone or changed.
    """
    run = open_run(place(run_folder))
    run.check(run.opened(dataset))
    facts = report_facts(run.scores, run.manifest, run.metrics(), run.evaluations())
    run.refuse_replaced()
    path = run.folder / REPORT_FILE
    write_atomically(path, render_html(facts))
    share = run.manifest["effective_sample_share"]
    successes = None if facts.outcomes is None else int(facts.outcomes.succeeded.sum())
    return ReportResult(run.folder, path, facts.correlations, successes, share, facts.warnings)
