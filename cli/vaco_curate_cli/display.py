"""All that the user sees: results on stdout, progress and notes on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from vaco_curate.curation.summary import QUANTILES, Summary
from vaco_curate_cli.console import PlainConsole, escaped

if TYPE_CHECKING:  # commands that train nothing need no torch
    from vaco_curate.core.training.loop import OnProgress, Progress

PHASES = {"value": "value phase", "bilevel": "bi-level phase"}
SHOWN_METRICS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "value": (("value_loss", "V loss"), ("critic_loss", "Q loss"), ("q_value", "Q")),
    "bilevel": (
        ("cloning_loss", "cloning"),
        ("policy_value", "policy Q"),
        ("effective_sample_size", "ESS"),
    ),
}


class Display:
    """Where a command's output goes.

    Args:
        as_json: results as one JSON document on stdout in place of tables.
        quiet: no tables, notes or progress.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        # No markup: paths and names may hold square brackets.
        self.stdout = PlainConsole(highlight=False, markup=False, soft_wrap=True)
        self.stderr = PlainConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """A remark, on stderr."""
        if not self.quiet:
            self.stderr.print(text, style="dim")

    def warn(self, text: str) -> None:
        """A warning, on stderr."""
        if not self.quiet:
            self.stderr.print(Text.assemble(("Warning: ", "yellow"), escaped(text)))

    def show(self, text: str | Table) -> None:
        """A part of the result for people, on stdout."""
        if not (self.quiet or self.as_json):
            self.stdout.print(text)

    def result(self, facts: Any) -> None:
        """The result for machines, on stdout, when --json asks for it."""
        if self.as_json:
            click.echo(json.dumps(to_json(facts), indent=2))

    @contextlib.contextmanager
    def training(self) -> Iterator[OnProgress]:
        """A callback that shows training as bars on a terminal, as lines in a log."""
        if self.quiet:
            yield lambda progress: None
        elif not self.stderr.is_terminal:
            yield self._line
        else:
            bars = Bars(
                TextColumn("{task.description:14}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[metrics]}", markup=False),
                console=self.stderr,
            )
            with bars:
                yield _BarUpdater(bars)

    def _line(self, progress: Progress) -> None:
        tenth = max(progress.updates // 10, 1)
        last = progress.settled or progress.update == progress.updates
        if last or progress.update % tenth < progress.interval:
            done = f"{PHASES[progress.phase]} {progress.update:,}/{progress.updates:,}"
            if progress.settled:
                done += ", the ranking of the rows has settled"
            self.note(f"{done}  {progress.updates_per_second:,.0f}/s  {_metrics_text(progress)}")


class _BarUpdater:
    """Turns progress reports into one bar a phase."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.tasks: dict[str, Any] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.phase not in self.tasks:
            self.tasks[progress.phase] = self.bars.add_task(
                PHASES[progress.phase], total=progress.updates, rate="", metrics=""
            )
        self.bars.update(
            self.tasks[progress.phase],
            completed=progress.update,
            total=progress.update if progress.settled else progress.updates,
            rate=f"{progress.updates_per_second:,.0f}/s" if progress.metrics else "",
            metrics=_metrics_text(progress),
        )


def _metrics_text(progress: Progress) -> str:
    known = [
        (label, progress.metrics[name])
        for name, label in SHOWN_METRICS[progress.phase]
        if name in progress.metrics
    ]
    return "  ".join(
        f"{label} {value:.0%}" if label == "ESS" else f"{label} {value:.3g}" for label, value in known
    )


def table(title: str, *columns: str) -> Table:
    """An empty table, first column left, the others right aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number == 0 else "right", header_style="dim")
    return made


def summary_table(before: Summary, after: Summary) -> Table:
    """The before/after table of a selection."""
    made = table("", "", "before", "after")
    rows: list[tuple[str, float, float]] = [
        ("rows", before.rows, after.rows),
        ("episodes", before.episodes, after.episodes),
        ("mean episode return", before.return_mean, after.return_mean),
    ]
    for number, quantile in enumerate(QUANTILES):
        label = f"  {quantile:.0%} quantile"
        rows.append((label, before.return_quantiles[number], after.return_quantiles[number]))
    rows.append(
        ("effective sample size", round(before.effective_sample_size), round(after.effective_sample_size))
    )
    rows.append(("effective episodes", before.effective_episodes, after.effective_episodes))
    for label, left, right in rows:
        made.add_row(label, number_text(left), number_text(right))
    return made


def number_text(value: float | None) -> str:
    """A number for a table: thousands separated, about four digits."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def to_json(facts: Any) -> Any:
    """Dataclasses, paths and containers as plain JSON values."""
    if dataclasses.is_dataclass(facts) and not isinstance(facts, type):
        return {field.name: to_json(getattr(facts, field.name)) for field in dataclasses.fields(facts)}
    if isinstance(facts, Path):
        return str(facts)
    if isinstance(facts, Mapping):
        return {str(key): to_json(value) for key, value in facts.items()}
    if isinstance(facts, (list, tuple)):
        return [to_json(value) for value in facts]
    return facts
