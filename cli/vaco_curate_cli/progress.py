"""How far a command is: bars on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as BarTask
from rich.text import Text

from vaco_curate.stages.training_tasks import PHASES
from vaco_curate.store.progress import Task, listening

if TYPE_CHECKING:
    from vaco_curate.core.training.loop import OnProgress, Progress
    from vaco_curate_cli.display import Display

SHOWN_METRICS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "value": (("value_loss", "V loss"), ("critic_loss", "Q loss"), ("q_value", "Q")),
    "bilevel": (("cloning_loss", "cloning"), ("policy_value", "policy Q")),
}
WIDE = 110
"""Columns of a terminal that has room for losses beside count and time."""

LINES_EVERY = 30.0
"""Seconds between lines about one task where there is no terminal."""


class CountColumn(ProgressColumn):
    """Done and planned, with thousands separated."""

    def render(self, task: BarTask) -> Text:
        """As ``ProgressColumn.render``."""
        total = "?" if task.total is None else f"{int(task.total):,}"
        return Text(f"{int(task.completed):,}/{total}", style="progress.download")


def _bars(display: Display) -> Bars:
    """Count and time come first, for a narrow terminal cuts the rest."""
    columns = [
        TextColumn("{task.description}"),
        CountColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        BarColumn(bar_width=None if display.stderr.width < WIDE else 28),
    ]
    if display.stderr.width >= WIDE:
        columns.append(TextColumn("{task.fields[metrics]}", markup=False))
    return Bars(*columns, console=display.stderr, expand=display.stderr.width < WIDE)


@contextlib.contextmanager
def shown(display: Display) -> Iterator[OnProgress]:
    """Show tasks and training within the block: bars on a terminal, lines elsewhere."""
    if display.quiet:
        with listening(lambda task: None):
            yield lambda progress: None
    elif not display.stderr.is_terminal:
        with listening(_WorkLines(display)):
            yield lambda progress: _training_line(display, progress)
    else:
        with _bars(display) as bars, listening(_WorkBars(bars)):
            yield _TrainingBars(bars, display)


def _training_line(display: Display, progress: Progress) -> None:
    tenth = max(progress.updates // 10, 1)
    last = progress.settled or progress.update == progress.updates
    if not progress.interval:
        return
    if last or progress.update % tenth < progress.interval:
        done = f"{PHASES[progress.phase]} {progress.update:,}/{progress.updates:,}"
        if progress.settled:
            done += ", the ranking of the rows has settled"
        display.note(f"{done}  {progress.updates_per_second:,.0f}/s  {_metrics_text(progress)}")


class _TrainingBars:
    """Turns progress reports into one bar a phase."""

    def __init__(self, bars: Bars, display: Display) -> None:
        self.bars, self.display = bars, display
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
        if progress.settled:
            done = f"{progress.update:,} of at most {progress.updates:,} updates"
            self.display.note(f"the {PHASES[progress.phase]} settled after {done}")


def _metrics_text(progress: Progress) -> str:
    known = [
        (label, progress.metrics[name])
        for name, label in SHOWN_METRICS[progress.phase]
        if name in progress.metrics
    ]
    return "  ".join(f"{label} {value:.3g}" for label, value in known)


class _WorkBars:
    """One bar a task."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.tasks: dict[int, Any] = {}

    def __call__(self, task: Task) -> None:
        if task.number not in self.tasks:
            self.tasks[task.number] = self.bars.add_task(task.what, total=task.total, rate="", metrics="")
        self.bars.update(self.tasks[task.number], completed=task.done, total=task.total)


class _WorkLines:
    """A line now and then; reading and writing of what is small is not worth one."""

    def __init__(self, display: Display) -> None:
        self.display, self.since = display, time.monotonic()

    def __call__(self, task: Task) -> None:
        now = time.monotonic()
        begins = task.done == 0 and task.unit != "rows" and not task.ended
        if now - self.since < LINES_EVERY and not begins:
            return
        self.since = now
        self.display.note(f"{task.what} {task.done:,}/{task.total:,} {task.unit}")
