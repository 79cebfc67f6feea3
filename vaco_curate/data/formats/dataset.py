"""``Dataset``: one or several recordings as one stream of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import COLUMNS, ROW_COLUMNS, Array, Transitions, refuse_rows_apart
from vaco_curate.data.columns import checked_columns, continuity_of, step_limit, transitions_of_episodes
from vaco_curate.data.episodes import (
    Columns,
    EpisodeNumbers,
    gathered,
    layout,
    refuse_other_columns,
    shifts_of,
    whole_episodes,
)
from vaco_curate.data.formats.further import FurtherColumns
from vaco_curate.data.formats.recording import Recording
from vaco_curate.data.success import earned_once
from vaco_curate.data.successors import SAMPLE_ROWS, Findings
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import stamp
from vaco_curate.store.progress import advance, task

PIECE_ROWS = 65_536
"""Rows that are read at a time: enough to be fast, few enough to be nothing beside a dataset."""

UNIT_ROWS = PIECE_ROWS
"""Rows of a unit, if its recordings have fewer: each unit costs some time by itself."""

PIECE_BYTES = 1 << 26
"""Bytes that are read at a time, if such rows are wide."""


def read_ahead(pieces: Iterable[Transitions]) -> Iterator[Transitions]:
    """The same pieces, of which the next is made ready while one is worked on."""
    waiting = iter(pieces)

    def following() -> Transitions | None:
        return next(waiting, None)

    with ThreadPoolExecutor(1) as reader:
        upcoming = reader.submit(copy_context().run, following)  # of this thread: files that are open
        while (piece := upcoming.result()) is not None:
            upcoming = reader.submit(copy_context().run, following)
            yield piece


def first_rows(batches: Iterator[dict[str, Array]], count: int) -> Iterator[dict[str, Array]]:
    """The first batches, until they hold so many rows; they are taken from the iterator."""
    while count > 0 and (batch := next(batches, None)) is not None:
        count -= len(batch["reward"])
        yield batch


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: the rows of its recordings, one after the other, counted from 0.

    Attributes:
        source: what the user called it.
        address: where it is found again: absolute.
        recordings: of one format, at least one.
        max_episode_steps, step_cost: of ``ReadOptions``.
        by_success: whether rewards and true ends are made of a success flag.
        first_row: raw row number of the first row: 0 but for a unit of a larger dataset.
        shifts: added to the episode numbers of each recording; None to find what makes them unique.
        names: of what is written of each recording, without suffix; None to find what makes them unique.
        hashes: SHA-256 of files that were read for them when the dataset was opened, by absolute path.
        settled: types of the further columns; None to find them. A unit has those of the whole.
    """

    source: str
    address: str
    recordings: tuple[Recording, ...]
    max_episode_steps: int | None = None
    step_cost: float = 0.0
    by_success: bool = False
    first_row: int = 0
    shifts: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    hashes: Mapping[Path, str] = field(default_factory=dict)
    settled: Mapping[str, pa.DataType] | None = None

    def __repr__(self) -> str:
        files = f"{len(self.recordings)} file{'s' * (len(self.recordings) > 1)}"
        return f"<Dataset {self.source}: {self.format}, {len(self):,} rows in {files}>"

    def __len__(self) -> int:
        return int(sum(recording.rows for recording in self.recordings))

    @property
    def format(self) -> str:
        """Name of the reader."""
        return self.recordings[0].format

    @property
    def files(self) -> tuple[Path, ...]:
        """The file or folder of each recording."""
        return tuple(recording.path for recording in self.recordings)

    def refuse_changed(self) -> None:
        """To be called when all has been read that belongs together: rows, and hashes of the files.

        Raises:
            DatasetError: a file was replaced or written to meanwhile.
        """
        for recording in self.recordings:
            if not recording.path.exists() or stamp(recording.path) != recording.stamp:
                raise DatasetError(f"{recording.path}: changed while it was read", fix="give the command again")

    @property
    def has_rewards(self) -> bool:
        """Whether rewards were recorded; false where some are read as zero for want of them."""
        return all(recording.has_rewards for recording in self.recordings)

    @property
    def success_flag(self) -> str | None:
        """What ``--success`` may name, where something looks like a flag of success."""
        return next((flag for recording in self.recordings for flag in recording.success_flags), None)

    @cached_property
    def further(self) -> FurtherColumns:
        """Columns beyond those of ``Transitions``."""
        return FurtherColumns(self.source, self.recordings, self.file_names, self.settled)

    @cached_property
    def file_names(self) -> tuple[str, ...]:
        """A name for each recording, unique: that of its file, with as much of its folder as it takes."""
        if len(self.files) == 1:
            return (self.files[0].name,)
        parts = [path.parts for path in self.files]
        shared = next((i for i in range(len(parts[0])) if len({p[i : i + 1] for p in parts}) > 1), 0)
        return tuple("/".join(p[shared:]) for p in parts)

    @cached_property
    def shard_names(self) -> tuple[str, ...]:
        """A name for what is written of each recording, without suffix, unique."""
        if self.names is not None:
            return self.names
        plain = [name.replace("/", "--") for name in self.file_names]
        stems = [
            Path(name).stem if path.is_file() else name for name, path in zip(plain, self.files, strict=True)
        ]
        numbered = [f"{number:05d}-{name}" for number, name in enumerate(plain)]
        # Not every file system tells capitals apart.
        return next(tuple(names) for names in (stems, plain, numbered) if _are_unique(names))

    def pieces(
        self, rows: int | None = None, findings: Findings | None = None, *, beside: Sequence[str] = ()
    ) -> Iterator[Transitions]:
        """All rows in order, in pieces of whole episodes: about so many rows each, or one longer episode.

        Args:
            rows: None for ``PIECE_ROWS``, or fewer wide ones.
            findings: takes in what stored next observations say against the flags; complete at the end.
            beside: further columns that are held beside a piece.

        Raises:
            DatasetError: a recording is damaged, or holds what ``Transitions`` refuses.
        """
        first_row, seen = self.first_row, set[int]()
        expected: dict[str, str] | None = None
        findings = Findings() if findings is None else findings
        rows = rows or max(1, min(self._piece_rows, PIECE_BYTES // (self.further.row_bytes(beside) or 1)))
        for columns in whole_episodes(gathered(self._numbered(rows, findings), rows), self.source):
            if self.by_success:
                columns = earned_once(columns, self.step_cost, findings)
            piece = transitions_of_episodes(
                columns, source=self.source, format_name=self.format, first_row=first_row, **self.facts
            )
            found = layout({name: getattr(piece, name) for name in COLUMNS})
            if expected is not None and found != expected:
                refuse_other_columns(self.source, expected, found)
            expected = found
            for number, episode in enumerate(piece.episode_id[piece.episode_start].tolist()):
                if episode in seen:
                    refuse_rows_apart(piece, number)
                seen.add(episode)
            yield piece
            first_row += len(piece)
        if not seen:
            raise DatasetError(f"{self.source}: the dataset has zero rows")

    def units(self) -> list[Dataset]:
        """Parts that can be read anywhere, in any order: a recording, or some that are small or share episodes.

        Their rows, episodes and names are those of the whole.
        """
        units, row, start, rows = [], 0, 0, 0
        for number, recording in enumerate(self.recordings):
            following = self.recordings[number + 1 : number + 2]
            rows += recording.rows
            if following:
                small = rows < UNIT_ROWS and _same(following[0].facts, self.recordings[start].facts)
                if small or self._goes_on(recording, following[0]):
                    continue
            if rows:
                part = slice(start, number + 1)
                unit = dataclasses.replace(
                    self,
                    recordings=self.recordings[part],
                    first_row=row,
                    shifts=self._shifts[part],
                    names=self.shard_names[part],
                    settled=self.further.types,
                )
                units.append(unit)
            row, start, rows = row + rows, number + 1, 0
        return units

    def _goes_on(self, recording: Recording, other: Recording) -> bool:
        """Whether an episode goes on in the next recording; an empty one goes with its neighbor."""
        if not recording.rows or not other.rows:
            return True
        if any(self._shifts) or recording.episodes is None or other.episodes is None:
            return False
        return recording.episodes.goes_on_in(other.episodes)

    @cached_property
    def first_columns(self) -> dict[str, Array]:
        """Columns of the first few rows, which tell their types and widths.

        Raises:
            DatasetError: as ``pieces``.
        """
        for recording in self.recordings:
            if recording.rows:
                source = str(recording.path) if len(self.recordings) > 1 else self.source
                first = next(recording.batches(1), None)
                if first is None:
                    raise _other_count(source, recording.rows, 0)
                return checked_columns(first, source)
        raise DatasetError(f"{self.source}: the dataset has zero rows")

    @cached_property
    def _piece_rows(self) -> int:
        width = sum(values.nbytes // len(values) for values in self.first_columns.values())
        return max(1, min(PIECE_ROWS, PIECE_BYTES // width))

    def read(self) -> Transitions:
        """All rows, in memory.

        Raises:
            DatasetError: as ``pieces``.
        """
        findings = Findings()
        columns = self.fill(lambda name, shape, dtype: np.empty(shape, dtype), findings)
        return self.transitions(columns, findings)

    def fill(
        self, allocate: Callable[[str, tuple[int, ...], np.dtype[Any]], Array], findings: Findings
    ) -> dict[str, Array]:
        """All rows in arrays, one for each column, that ``allocate`` makes of a name, a shape and a type.

        Args:
            findings: as for ``pieces``.

        Raises:
            DatasetError: as ``pieces``.
        """
        columns: dict[str, Array] = {}
        with task("reading", len(self)):
            for piece in self.pieces(findings=findings):
                rows = slice(piece.first_row, piece.first_row + len(piece))
                for name in ROW_COLUMNS:
                    values = getattr(piece, name)
                    if name not in columns:
                        columns[name] = allocate(name, (len(self), *values.shape[1:]), values.dtype)
                    columns[name][rows] = values
                advance(len(piece))
        return columns

    def transitions(self, columns: Mapping[str, Array], findings: Findings) -> Transitions:
        """What ``fill`` has filled as ``Transitions``."""
        facts = self.facts | {"notes": (*self.facts["notes"], *findings.notes())}
        return transitions_of_episodes(columns, source=self.source, format_name=self.format, **facts)

    def _numbered(self, rows: int, findings: Findings) -> Iterator[dict[str, Array]]:
        several, row = len(self.recordings) > 1, self.first_row
        expected: dict[str, str] = {}
        for number, (recording, shift) in enumerate(zip(self.recordings, self._shifts, strict=True)):
            source = str(recording.path) if several else self.source
            read = recording.batches(rows)
            first = next(read, {})
            limit = step_limit(first, self.max_episode_steps)
            counted = _counted(chain([first], read), source, recording.rows)
            batches = self._checked(counted, source, 0 if several else row)
            held = list(first_rows(batches, self._sample_rows))
            if held:
                found = layout(held[0])
                if any(expected.get(name, kind) != kind for name, kind in found.items()):
                    refuse_other_columns(source, expected, {n: k for n, k in found.items() if n in expected})
                expected = found | expected
                together = held[0]
                if len(held) > 1:
                    together = {name: np.concatenate([batch[name] for batch in held]) for name in held[0]}
                sample = {name: values[: self._sample_rows] for name, values in together.items()}
                numbers = EpisodeNumbers(shift, limit, continuity_of(sample, source), Findings())
                for columns, after in pairwise(chain(held, batches, [self._row_after(number)])):
                    assert columns is not None, "the end comes last"
                    yield numbers.of(columns, after)
                if several and numbers.findings.first is not None:
                    numbers.findings.first += f" of {self.file_names[number]}"
                findings.add(numbers.findings)
            row += recording.rows

    def _row_after(self, number: int) -> dict[str, Array] | None:
        """The first row of the next recording with rows, where an episode goes on in it; else None."""
        following = next((other for other in self.recordings[number + 1 :] if other.rows), None)
        if following is None or not self._goes_on(self.recordings[number], following):
            return None
        return next(self._checked(following.batches(1), str(following.path), 0), None)

    def _checked(self, batches: Iterable[Columns], source: str, first_row: int) -> Iterator[dict[str, Array]]:
        for batch in batches:
            if batch:
                columns = checked_columns(batch, source, first_row)
                if self.step_cost:
                    columns["reward"] = columns["reward"] - columns["reward"].dtype.type(self.step_cost)
                first_row += len(columns["reward"])
                if len(columns["reward"]):
                    yield columns

    @cached_property
    def _sample_rows(self) -> int:
        return min(SAMPLE_ROWS, self._piece_rows)

    @cached_property
    def _shifts(self) -> tuple[int, ...]:
        """What is added to the episode numbers of each recording: nothing, if none of them occurs in two."""
        if self.shifts is not None:
            return self.shifts
        ids = [recording.episodes for recording in self.recordings]
        return shifts_of(ids, [recording.rows for recording in self.recordings], self.source)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Fields of ``Transitions`` that are no columns, where all recordings agree, and the notes of all."""
        one = next((recording for recording in self.recordings if recording.rows), self.recordings[0])
        facts = dict(one.facts)
        notes = [note for recording in self.recordings for note in recording.notes]
        first = one.facts.get("observation_parts", ())
        for recording in (recording for recording in self.recordings if recording is not one):
            parts = recording.facts.get("observation_parts", ())
            if parts != first and recording.rows:
                raise DatasetError(
                    f"{self.source}: observations are made of other parts in {recording.path}",
                    details=(f"first: {first}", f"there: {parts}"),
                    fix="leave out what is not in all files: --drop-columns",
                )
            for name, value in recording.facts.items() if recording.rows else ():
                if name in facts and not np.array_equal(np.asarray(facts[name]), np.asarray(value)):
                    notes.append(f"the recordings differ in {name}: not used")
                    del facts[name]
        return facts | {"notes": tuple(dict.fromkeys(notes))}


def _same(facts: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    return facts.keys() == others.keys() and all(
        np.array_equal(np.asarray(facts[name], dtype=object), np.asarray(others[name], dtype=object))
        for name in facts
    )


def _counted(batches: Iterable[Columns], source: str, rows: int) -> Iterator[Columns]:
    """The batches, which must have as many rows in all as their file declares."""
    count = 0
    for batch in batches:
        count += len(batch["reward"]) if batch else 0
        if count > rows:
            break
        yield batch
    if count != rows:
        raise _other_count(source, rows, count)


def _other_count(source: str, rows: int, found: int) -> DatasetError:
    return DatasetError(
        f"{source}: declares {rows:,} rows, but holds {'more' if found > rows else f'{found:,}'}",
        fix="the file is damaged: download or export it again",
    )


def _are_unique(names: list[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)
