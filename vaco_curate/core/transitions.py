"""``Transitions``: the columnar dataset every reader returns and everything else starts from."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from vaco_curate.errors import DatasetError
from vaco_curate.wording import Note, as_notes

Array = NDArray[Any]


@dataclass(frozen=True)
class Transitions:
    """Rows of an offline dataset, in the order of the source, checked once on construction.

    All of them, or a piece of whole episodes. Row ``i`` is raw row ``first_row + i`` of the source: nothing is
    dropped or reordered, so that scores and selections can be joined back to it. Rows of an episode are
    contiguous.

    Attributes:
        observation: (n, d) floats, as stored.
        action: (n, k) floats, as stored.
        reward: (n,) floats, as stored.
        terminated: (n,) bool, true end of the task: no bootstrap.
        truncated: (n,) bool, time limit: the task went on, the recording did not.
        next_observation: (n, d); zeros where ``has_successor`` is false.
        has_successor: (n,) bool, whether the state after the row is known.
        episode_id: (n,) int64.
        step_index: (n,) int64, position in the episode.
        followed: (n,) bool, whether the next row of the source is in the state that this row led to.
        is_reset: (n,) bool, whether ``next_observation`` is the first of the next episode, which a simulator
            that resets itself returns in place of the state that was reached.
        source: what the user called the dataset, for messages.
        format: name of the reader.
        first_row: raw row number of row 0: 0 but for a piece of a larger dataset.
        env_id: Gymnasium environment, when the dataset names one.
        env_kwargs: for ``gymnasium.make``, when the dataset has them.
        action_low, action_high: (k,) bounds of the action space, when known.
        reference_returns: returns of a random and of an expert policy, when the dataset has them.
        observation_parts: (name, size) of the parts that an observation concatenates, in order; empty where
            the source holds one vector.
        notes: what the reader had to assume, in plain words.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: Array
    has_successor: Array
    episode_id: Array
    step_index: Array
    followed: Array
    is_reset: Array
    source: str
    format: str
    first_row: int = 0
    env_id: str | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    action_low: Array | None = None
    action_high: Array | None = None
    reference_returns: tuple[float, float] | None = None
    observation_parts: tuple[tuple[str, int], ...] = ()
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        _check_shapes(self)
        if not _in_range(self):
            _check_numbers(self)
            _check_range(self)
        _check_episodes(self)
        object.__setattr__(self, "notes", as_notes(self.notes))

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def observation_size(self) -> int:
        """d, the length of an observation vector."""
        return int(self.observation.shape[1])

    @property
    def action_size(self) -> int:
        """k, the length of an action vector."""
        return int(self.action.shape[1])

    @property
    def is_learnable(self) -> Array:
        """(n,) bool: rows with a Bellman target, that is a true end or a successor that followed."""
        usable: Array = (self.has_successor & ~self.is_reset) | self.terminated
        return usable

    @property
    def sizes(self) -> str:
        """How much there is, in words."""
        widths = f"observation {self.observation_size}, action {self.action_size}"
        return f"{len(self):,} rows in {len(self.episode_start):,} episodes, {widths}"

    def __repr__(self) -> str:
        return f"<Transitions {self.source}: {self.sizes}>"

    @cached_property
    def episode_start(self) -> Array:
        """(episodes,) first row of each episode."""
        changes = np.flatnonzero(self.episode_id[1:] != self.episode_id[:-1]) + 1
        return np.concatenate([[0], changes])

    @cached_property
    def episode_length(self) -> Array:
        """(episodes,) rows of each episode."""
        return np.diff(np.append(self.episode_start, len(self)))

    @cached_property
    def episode_return(self) -> Array:
        """(episodes,) undiscounted sum of rewards, float64."""
        return np.add.reduceat(self.reward.astype(np.float64), self.episode_start)

    @property
    def goes_on(self) -> Array:
        """(n - 1,) bool: whether the next row is the next step of the same episode, with nothing missing.

        Not where steps are left out, or a stored next observation is not the observation of the next row.
        """
        next_step = (self.episode_id[1:] == self.episode_id[:-1]) & (np.diff(self.step_index) == 1)
        return np.asarray(next_step & (self.followed[:-1] | self.terminated[:-1]))

    @cached_property
    def follows(self) -> Array:
        """(n - 1,) bool: whether the episode ``goes_on`` in the next row, and the row is no true end."""
        return np.asarray(self.goes_on & ~self.terminated[:-1])

    @cached_property
    def path_start(self) -> Array:
        """(paths,) first row of each run of rows in which every row ``follows`` the one before."""
        return np.concatenate([[0], np.flatnonzero(~self.follows) + 1])

    def pieces(self, begin: int = 0, end: int | None = None) -> Iterator[Transitions]:
        """Rows in pieces of whole episodes: about ``BLOCK`` rows each, or one longer episode.

        Args:
            begin: the first row, where an episode begins.
            end: the row after the last, where an episode begins or the rows end.
        """
        end = len(self) if end is None else end
        first, last = np.searchsorted(self.episode_start, [begin, end])
        for episodes in _some_episodes(self, BLOCK, int(first), int(last)):
            start = int(self.episode_start[episodes][0])
            stop = int(self.episode_start[episodes][-1] + self.episode_length[episodes][-1])
            yield self.part(start, stop)

    def part(self, first: int, last: int) -> Transitions:
        """Rows ``first`` to ``last - 1`` of these."""
        columns: dict[str, Any] = {name: getattr(self, name)[first:last] for name in ROW_COLUMNS}
        return dataclasses.replace(self, first_row=self.first_row + first, **columns)

    @cached_property
    def fingerprint(self) -> str:
        """``Fingerprint`` of these rows alone: equal for equal rows, whatever file they came from."""
        fingerprint = Fingerprint()
        fingerprint.add(self)
        return fingerprint.hexdigest()


class Fingerprint:
    """What identifies the rows of a dataset, whatever files they lie in: made of its pieces, in any order.

    The sum, modulo 2**256, of the SHA-256 of every episode: of its raw row number, and of the bytes of its rows
    in all columns. Sums of pieces add up to that of the whole, so that pieces can be read anywhere.
    """

    def __init__(self) -> None:
        self.rows, self.total, self._layout = 0, 0, b""

    def add(self, piece: Transitions) -> None:
        """Take in the rows of a piece."""
        columns = {name: getattr(piece, name).reshape(len(piece), -1) for name in COLUMNS}
        self._layout = repr([(name, str(c.dtype), c.shape[1]) for name, c in columns.items()]).encode()
        width = sum(column.itemsize * column.shape[1] for column in columns.values())
        for episodes in _some_episodes(piece, HASHED_ROWS):
            starts, lengths = piece.episode_start[episodes], piece.episode_length[episodes]
            first, last = int(starts[0]), int(starts[-1] + lengths[-1])
            rows, at = np.empty((last - first, width), np.uint8), 0
            for column in columns.values():
                part = np.ascontiguousarray(column[first:last]).view(np.uint8)
                rows[:, at : at + part.shape[1]] = part
                at += part.shape[1]
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                digest = hashlib.sha256((piece.first_row + start).to_bytes(8, "little"))
                digest.update(rows[start - first : start - first + length].data)
                self.total += int.from_bytes(digest.digest(), "little")
        self.total %= 2**256
        self.rows += len(piece)

    def over(self, pieces: Iterable[Transitions]) -> Iterator[Transitions]:
        """The same pieces, each taken in on its way."""
        for piece in pieces:
            self.add(piece)
            yield piece

    def to_json(self) -> dict[str, str]:
        """What it takes to add it to others, as JSON can hold it."""
        return {"rows": str(self.rows), "total": str(self.total), "layout": self._layout.decode()}

    def add_json(self, facts: Mapping[str, str]) -> None:
        """Take in what ``to_json`` gave of another piece."""
        self.rows += int(facts["rows"])
        self.total = (self.total + int(facts["total"])) % 2**256
        self._layout = facts["layout"].encode()

    def hexdigest(self) -> str:
        """SHA-256 of the sum, the number of rows and the columns' types, in hexadecimal."""
        return hashlib.sha256(self._layout + f" {self.rows} {self.total}".encode()).hexdigest()


def _some_episodes(data: Transitions, at_once: int, start: int = 0, end: int | None = None) -> Iterator[slice]:
    """Episodes ``start`` to ``end - 1`` in groups of at most ``at_once`` rows, or one longer episode."""
    rows = np.concatenate([[0], np.cumsum(data.episode_length)])
    end = len(data.episode_start) if end is None else end
    while start < end:
        stop = max(start + 1, int(np.searchsorted(rows, rows[start] + at_once, side="right")) - 1)
        stop = min(stop, end)
        yield slice(start, stop)
        start = stop


HASHED_ROWS = 1 << 12
"""Rows that are put side by side to be hashed: few enough to stay in the processor's cache."""

BLOCK = 1 << 18
"""Rows that a computation over all rows takes at a time, where the dataset may be larger than memory."""


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most ``BLOCK`` rows that cover ``count`` rows in order."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


LARGEST = 1e15
"""Largest absolute value of a number in a dataset."""

VALUES = ("observation", "action", "reward", "next_observation")
"""Columns of numbers that a network sees."""

COLUMNS = (
    "observation",
    "action",
    "reward",
    "terminated",
    "truncated",
    "next_observation",
    "has_successor",
    "episode_id",
    "step_index",
)
"""Columns that identify a row."""

DERIVED = ("followed", "is_reset")
"""Columns that follow from the others and the order of the rows."""

ROW_COLUMNS = (*COLUMNS, *DERIVED)


def check_same_length(source: str, **columns: Array) -> None:
    """Refuse columns of different lengths, with the length of each."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DatasetError(
            f"{source}: columns differ in length",
            details=tuple(f"{name}: {length} rows" for name, length in lengths.items()),
            fix="the file is damaged or only partly written: export it again",
        )


def _check_shapes(data: Transitions) -> None:
    if len(data) == 0:
        raise DatasetError(f"{data.source}: the dataset has zero rows")
    check_same_length(data.source, **{name: getattr(data, name) for name in ROW_COLUMNS})
    if data.observation_size == 0 or data.action_size == 0:
        raise DatasetError(f"{data.source}: observations and actions need at least one dimension")


def _in_range(data: Transitions) -> bool:
    """Whether there is nothing to refuse in the numbers; in one pass, for nearly always it is so."""
    columns = (getattr(data, name) for name in VALUES)
    return all((np.abs(column[rows]) <= LARGEST).all() for column in columns for rows in blocks(len(data)))


def _check_numbers(data: Transitions) -> None:
    _refuse_rows(
        data,
        lambda values: ~np.isfinite(values),
        "is NaN or infinite",
        "remove or repair the episodes that hold these rows",
    )


def _check_range(data: Transitions) -> None:
    """Networks compute in float32; squares of observations must fit as well."""
    _refuse_rows(
        data,
        lambda values: np.abs(values) > LARGEST,
        f"exceeds {LARGEST:g}",
        "repair these rows: such values are damage, or need other units",
    )


def _refuse_rows(data: Transitions, is_bad: Callable[[Array], Array], what: str, fix: str) -> None:
    for name in VALUES:
        column, count, first = getattr(data, name), 0, -1
        for rows in blocks(len(data)):
            bad = np.flatnonzero(is_bad(column[rows]).reshape(rows.stop - rows.start, -1).any(axis=1))
            first = rows.start + int(bad[0]) if bad.size and not count else first
            count += bad.size
        if count:
            row, last = data.first_row + first, data.first_row + len(data) - 1
            more = f" and {count - 1} more up to row {last}" if count > 1 else ""
            where = f"episode {data.episode_id[first]}, step {data.step_index[first]}"
            raise DatasetError(
                f"{data.source}: {name} {what} in row {row} ({where}){more}",
                details=(f"{name}[{row}] = {column[first]}",),
                fix=fix,
            )


def _check_episodes(data: Transitions) -> None:
    _, first = np.unique(data.episode_id[data.episode_start], return_index=True)
    if len(first) != len(data.episode_start):
        repeated = np.setdiff1d(np.arange(len(data.episode_start)), first)[0]
        refuse_rows_apart(data, int(repeated))
    inside = data.episode_id[1:] == data.episode_id[:-1]
    backwards = np.flatnonzero(inside & (np.diff(data.step_index) <= 0))
    if backwards.size:
        row = int(backwards[0]) + 1
        raise DatasetError(
            f"{data.source}: step_index does not increase at row {data.first_row + row} "
            f"(episode {data.episode_id[row]})",
            fix="sort the rows by episode and step",
        )


def refuse_rows_apart(data: Transitions, episode: int) -> NoReturn:
    """Refuse a dataset one of whose episodes, the given one of ``data``, has begun before.

    Raises:
        DatasetError: always.
    """
    row = int(data.episode_start[episode])
    raise DatasetError(
        f"{data.source}: the rows of episode {data.episode_id[row]} are not together: "
        f"more begin at row {data.first_row + row}",
        fix="sort the rows by episode and step",
    )
