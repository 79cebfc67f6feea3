"""Files that are written unit by unit: here by a plain loop, elsewhere by jobs that can be gone on with."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from vaco_curate.store.engines import Engine, JobResult, run_jobs
from vaco_curate.store.files import is_local, move, remove, write_atomically
from vaco_curate.store.progress import advance

WriteUnit = Callable[[int, Sequence[Path | None]], JobResult]
"""Writes the files of a unit into some folders, each with what belongs there; None for what is written."""


def write_units(
    engine: Engine,
    make_writer: Callable[[], WriteUnit],
    count: int,
    folders: Sequence[Path],
    *,
    device: str = "cpu",
) -> list[JobResult]:
    """Write units 0 to ``count - 1``.

    On this machine that is a loop: what fails leaves a folder that nobody sees. Workers of a cluster may die
    and be replaced, and a folder in an object store is gone on with, so there the files of a unit appear when
    they are complete, and a mark says that they are.

    Args:
        make_writer: for Ray it must be picklable.
        device: as for ``run_jobs``.
    """
    if engine == "local" and all(map(is_local, folders)):
        write = make_writer()
        return [write(number, folders) for number in range(count)]
    facts = []
    for done in run_jobs(engine, partial(Marked, make_writer, folders), count, device=device):
        facts.append(done)
        if engine != "local":  # here, the worker itself has told
            advance(done["rows"])
    for folder in folders:
        for mark in list(folder.glob(".unit-*.json")):
            mark.unlink()
        for left in list(folder.glob(".unit-*.partial")):  # of workers that were killed
            remove(left)
    return facts


@dataclass(frozen=True)
class Marked:
    """Writes a unit, unless its marks say that it is done."""

    make_writer: Callable[[], WriteUnit]
    folders: Sequence[Path]

    @cached_property
    def write(self) -> WriteUnit:
        """Made once, where the work is done."""
        return self.make_writer()

    def __call__(self, number: int) -> JobResult:
        """Write what is missing of a unit, and mark it."""
        name = f".unit-{number:06d}"
        marks = [folder / f"{name}.json" for folder in self.folders]
        missing = [mark for mark in marks if not mark.is_file()]
        if missing:
            with contextlib.ExitStack() as stack:
                work = [stack.enter_context(_work(mark, name)) if mark in missing else None for mark in marks]
                facts = self.write(number, work)
                for mark, made in zip(marks, work, strict=True):
                    if made is not None:
                        for file in list(made.iterdir()):
                            move(file, mark.parent / file.name)
                        write_atomically(mark, json.dumps(facts))
        done: JobResult = json.loads(marks[0].read_text())
        return done


@contextlib.contextmanager
def _work(mark: Path, name: str) -> Iterator[Path]:
    folder = mark.parent / f"{name}-{uuid.uuid4().hex}.partial"  # its own: a worker thought dead may live
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        remove(folder)
