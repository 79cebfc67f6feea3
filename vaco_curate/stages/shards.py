"""The jobs that an engine does: one unit of a dataset each, whose files appear when they are complete."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate import native
from vaco_curate.engines import Engine, Facts, run_jobs
from vaco_curate.files import move, remove, write_atomically
from vaco_curate.formats import WRITERS, Dataset, Target
from vaco_curate.formats.arrow import parquet_file
from vaco_curate.formats.dataset import read_ahead
from vaco_curate.formats.tables import ShardedWriter
from vaco_curate.rewards import RewardUse, magnitude
from vaco_curate.scorer import Scorer
from vaco_curate.scores import score_batch, scored_pieces
from vaco_curate.successors import Findings
from vaco_curate.training.arithmetic import device_name
from vaco_curate.transitions import Array, Fingerprint


@dataclass(frozen=True)
class ScoreShards:
    """Scores a unit and writes its files.

    Attributes:
        units: of the dataset.
        folder: to write to.
        load: gives the scorer, where the job is done.
    """

    units: Sequence[Dataset]
    folder: Path
    load: Callable[[], Scorer]

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, loaded once."""
        return self.load()

    def __call__(self, number: int) -> Facts:
        """Score a unit, unless it is done."""
        unit = self.units[number]
        with _once(self.folder, number) as job:
            if job.facts is None:
                job.facts = self._score(unit, job.folder)
        return job.facts

    def _score(self, unit: Dataset, folder: Path) -> Facts:
        writer = ShardedWriter(
            [folder / f"{name}.parquet" for name in unit.shard_names],
            [recording.rows for recording in unit.recordings],
            unit.first_row,
        )
        fingerprint, returns, notes = Fingerprint(), [], dict[str, None]()
        findings, use, largest = Findings(), RewardUse(), 0.0
        for piece, scores in scored_pieces(fingerprint.over(unit.pieces(findings=findings)), self.scorer):
            returns.append(piece.episode_return)
            use.add(piece)
            largest = max(largest, magnitude(piece))
            notes |= dict.fromkeys(piece.notes)
            batch = score_batch(piece, scores)
            writer.write(pa.Table.from_batches([batch]), batch.column("index").to_numpy())
        writer.close()
        episode_return = np.concatenate(returns)
        return {
            "fingerprint": fingerprint.to_json(),
            "episodes": len(episode_return),
            "returns": [float(episode_return.min()), float(episode_return.max()), largest],
            "findings": findings.to_json(),
            "rewards": use.to_json(),
            "notes": [*notes, *_notes_on_kernels(self.scorer)],
            "device": device_name(self.scorer.device),
        }


@dataclass(frozen=True)
class WriteShards:
    """Writes the kept rows of a unit, and the dropped ones, as a selection on disk says.

    Attributes:
        units: of the dataset.
        selection: the file of the decision, in which row i is raw row i.
        kept, excluded: folders to write to.
        file_format: of ``formats.WRITERS``.
        columns: of the selection, to be written with kept rows.
        facts: metadata of the files of kept rows.
    """

    units: Sequence[Dataset]
    selection: Path
    kept: Path
    excluded: Path | None
    file_format: str
    columns: tuple[str, ...]
    facts: Mapping[str, Any]

    def __call__(self, number: int) -> Facts:
        """Write a unit, unless it is done."""
        unit = self.units[number]
        with contextlib.ExitStack() as stack:
            jobs = {True: stack.enter_context(_once(self.kept, number))}
            if self.excluded is not None:
                jobs[False] = stack.enter_context(_once(self.excluded, number))
            missing = {keep: job for keep, job in jobs.items() if job.facts is None}
            if missing:
                facts = self._write(unit, {keep: job.folder for keep, job in missing.items()})
                for job in missing.values():
                    job.facts = facts
        done = jobs[True].facts
        assert done is not None, "the job is done"
        return done

    def _write(self, unit: Dataset, folders: Mapping[bool, Path]) -> Facts:
        rows = [recording.rows for recording in unit.recordings]
        writers = {}
        for keep, folder in folders.items():
            facts = {**self.facts} if keep else {**self.facts, "rows_consecutive": False}
            writers[keep] = WRITERS[self.file_format](
                Target(folder, unit.shard_names, rows, facts, unit.first_row)
            )
        fingerprint = Fingerprint()
        columns = {True: self.columns, False: ("score", "rank", "reason")}
        names = {name for keep in folders for name in columns[keep]}
        decision = _SelectionRows(self.selection, ["keep", *sorted(names)])
        findings = Findings()
        for piece in read_ahead(fingerprint.over(read_ahead(unit.pieces(findings=findings)))):
            decided = decision.read(piece.first_row, len(piece))
            keeps = decided.column("keep").to_numpy()
            for keep, writer in writers.items():
                chosen = np.flatnonzero(keeps == keep)
                taken = decided.select(columns[keep]).take(pa.array(chosen))
                extra = {name: _values(taken.column(name)) for name in columns[keep]}
                writer.write(piece, chosen, extra)
        for writer in writers.values():
            writer.close()
        notes = [note for writer in writers.values() for note in writer.notes]
        return {"fingerprint": fingerprint.to_json(), "notes": notes, "findings": findings.to_json()}


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
class _Job:
    """A job on a unit: where its files are written until they are complete, and its facts once it is done."""

    folder: Path
    facts: Facts | None = field(default=None)


@contextlib.contextmanager
def _once(folder: Path, number: int) -> Iterator[_Job]:
    """A job whose files get their names when all of them are complete, and that is not done again."""
    mark = folder / f".unit-{number:06d}.json"
    if mark.is_file():
        yield _Job(folder, json.loads(mark.read_text()))
        return
    work = folder / f".unit-{number:06d}-{uuid.uuid4().hex}.partial"  # its own: a worker thought dead may live
    work.mkdir(parents=True, exist_ok=True)
    job = _Job(work)
    try:
        yield job
        for file in list(work.iterdir()):
            move(file, folder / file.name)
        write_atomically(mark, json.dumps(job.facts))
    finally:
        remove(work)


class _SelectionRows:
    """Columns of a selection by row numbers, read row group by row group as they are asked for, in order."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._file = parquet_file(path, pre_buffer=False)
        groups = range(self._file.metadata.num_row_groups)
        self._ends = np.cumsum([self._file.metadata.row_group(group).num_rows for group in groups])
        self._held: dict[int, pa.Table] = {}

    def read(self, first_row: int, count: int) -> pa.Table:
        first = int(np.searchsorted(self._ends, first_row, side="right"))
        last = int(np.searchsorted(self._ends, first_row + count, side="left"))
        groups = range(first, min(last, len(self._ends) - 1) + 1)
        self._held = {g: self._held[g] if g in self._held else self._read(g) for g in groups}
        before = int(self._ends[first - 1]) if first else 0
        return pa.concat_tables(self._held.values()).slice(first_row - before, count).combine_chunks()

    def _read(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, self._columns)


def _notes_on_kernels(scorer: Scorer) -> list[str]:
    if scorer.device.type != "cpu" or native.load() is not None:
        return []
    return [f"torch's own kernels were used, which are slower: {native.why_not()}"]


def _values(column: pa.ChunkedArray) -> Array | pa.Array:
    if pa.types.is_string(column.type):
        return column.combine_chunks()
    return column.to_numpy()
