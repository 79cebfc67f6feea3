"""A training's progress as tasks, for those who gave no callback for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vaco_curate.store.progress import Task, tell

if TYPE_CHECKING:
    from vaco_curate.core.training.loop import OnProgress, Progress

PHASES = {"value": "value phase", "bilevel": "bi-level phase"}


def how_far(progress: Progress) -> str:
    """What a training that is interrupted now keeps, in words."""
    return f"{progress.update:,} of at most {progress.updates:,} updates of the {PHASES[progress.phase]}"


@contextmanager
def training_tasks() -> Iterator[OnProgress]:
    """A callback that tells of each phase as a task; tasks end with the block."""
    tasks: dict[str, Task] = {}

    def on_progress(progress: Progress) -> None:
        for phase, begun in tasks.items():
            if phase != progress.phase and not begun.ended:
                begun.ended = True
                tell(begun)
        task = tasks.setdefault(progress.phase, Task(PHASES[progress.phase], progress.updates, "updates"))
        task.done = progress.update
        if progress.settled:
            task.what, task.total = f"{PHASES[progress.phase]}, settled", progress.update
        tell(task)

    try:
        yield on_progress
    finally:
        for begun in tasks.values():
            if not begun.ended:
                begun.ended = True
                tell(begun)
