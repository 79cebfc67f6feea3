"""Jobs on the units of a dataset: an engine does them, and the files of each appear when it is complete."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaco_curate.store.engines import Engine, Facts, run_jobs
from vaco_curate.store.files import move, remove, write_atomically


def run_shards(
    engine: Engine,
    make_worker: Callable[[], Callable[[int], Facts]],
    count: int,
    folders: Sequence[Path],
    *,
    device: str = "cpu",
) -> list[Facts]:
    """Do all jobs; then remove what they have left to say that they were done.

    Args:
        device: as for ``run_jobs``.
    """
    facts = list(run_jobs(engine, make_worker, count, device=device))
    for folder in folders:
        for mark in list(folder.glob(".unit-*.json")):
            mark.unlink()
        for left in list(folder.glob(".unit-*.partial")):  # of workers that were killed
            remove(left)
    return facts


@dataclass
class Job:
    """A job on a unit: where its files are written until they are complete, and its facts once it is done."""

    folder: Path
    facts: Facts | None = field(default=None)


@contextlib.contextmanager
def once(folder: Path, number: int) -> Iterator[Job]:
    """A job whose files get their names when all of them are complete, and that is not done again."""
    mark = folder / f".unit-{number:06d}.json"
    if mark.is_file():
        yield Job(folder, json.loads(mark.read_text()))
        return
    work = folder / f".unit-{number:06d}-{uuid.uuid4().hex}.partial"  # its own: a worker thought dead may live
    work.mkdir(parents=True, exist_ok=True)
    job = Job(work)
    try:
        yield job
        for file in list(work.iterdir()):
            move(file, folder / file.name)
        write_atomically(mark, json.dumps(job.facts))
    finally:
        remove(work)
