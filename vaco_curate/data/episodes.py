"""Episodes of a source that is read some rows at a time: their numbers, and batches that end where they end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.data.successors import FEW_STEPS, Continuity, Findings
from vaco_curate.errors import DatasetError

Columns = Mapping[str, Array]
"""Columns of ``Transitions`` by name, of one length: ``observation``, ``action``, ``reward``, and others."""


class EpisodeNumbers:
    """Gives the rows of a recording, batch by batch, episode numbers that no other recording has.

    Where a source tells episodes, its numbers are shifted. Elsewhere episodes are counted: they end at flags,
    where a stored successor is not the next row, after the step limit, and where the recording ends.

    Args:
        shift: added to the source's numbers; the first number where episodes are counted.
        max_episode_steps: of episodes told by true ends alone, in a source that tells no others.
        continuity: of stored next observations; None where there are none.
        findings: takes in what stored next observations say against the flags.
    """

    def __init__(
        self,
        shift: int = 0,
        max_episode_steps: int | None = None,
        continuity: Continuity | None = None,
        findings: Findings | None = None,
    ) -> None:
        self.shift, self.max_episode_steps, self.continuity = shift, max_episode_steps, continuity
        self.findings = Findings() if findings is None else findings
        self._current, self._steps, self._row = shift, 0, 0
        self._moved = False

    def of(self, columns: dict[str, Array], after: Columns | None = None) -> dict[str, Array]:
        """The next rows of the recording, at least one, with ``episode_id``, and ends where there are none.

        Args:
            columns: checked.
            after: columns of the row after them; None where the recording ends.
        """
        numbered = self._linked(columns, after) if self.continuity is not None else columns
        if "episode_id" in columns:
            numbered = numbered | {"episode_id": columns["episode_id"] + self.shift}
        else:
            numbered = self._counted(numbered, after)
        self._row += len(columns["reward"])
        return numbered

    def _counted(self, columns: dict[str, Array], after: Columns | None) -> dict[str, Array]:
        if self.max_episode_steps is not None:
            limit = step_limit_flags(columns["terminated"], self.max_episode_steps, self._steps)
            columns = columns | {"truncated": columns["truncated"] | limit}
        terminated = columns["terminated"]
        if self.continuity is not None and self.continuity.terminals_go_on:
            terminated = terminated & ~columns["followed"]
            self.findings.successes += int((columns["terminated"] & columns["followed"]).sum())
        ends = terminated | columns["truncated"]
        if self.continuity is not None:
            ends |= ~columns["has_successor"] & ~columns["terminated"]
            ends |= ~columns["followed"] & self.continuity.breaks_end
        if "step_index" in columns:
            ends |= _Ahead(columns, after)["step_index"] <= columns["step_index"]
        episode_id = self._current + np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64)
        self._current = int(episode_id[-1]) + int(ends[-1])
        last_ends = np.flatnonzero(ends)
        self._steps = len(ends) - 1 - int(last_ends[-1]) if last_ends.size else self._steps + len(ends)
        return columns | {"episode_id": episode_id}

    def _linked(self, columns: dict[str, Array], after: Columns | None) -> dict[str, Array]:
        """With ``followed`` and ``is_reset``, and time limits in their place; counts what was found."""
        continuity, ahead = self.continuity, _Ahead(columns, after)
        assert continuity is not None, "next observations are stored"
        known, told = columns["has_successor"], "episode_id" in columns
        followed = known & continuity.scale.same_state(columns["next_observation"], ahead["observation"])
        followed[-1] &= after is not None
        ends = columns["terminated"] | columns["truncated"]
        ends[-1] |= after is None
        if told:
            ends |= ahead["episode_id"] != columns["episode_id"]
            if "step_index" in columns:  # the source itself says that rows are missing
                ends |= ahead["step_index"] != columns["step_index"] + 1
        columns = columns | {"followed": followed}
        breaks = known & ~followed & ~ends
        if continuity.limits_late and not told:
            columns, breaks = self._with_limits_in_place(columns, breaks, ahead)
        self._count_breaks(breaks, "gaps" if told or not continuity.breaks_end else "ends")
        if not told:
            self.findings.unknown += int((~known & ~ends).sum())
        limits = (ahead["episode_id"] != columns["episode_id"]) if told else columns["truncated"]
        reset = followed & limits & ~columns["terminated"] & continuity.ends_reset
        self.findings.resets += int(reset.sum())
        if not told and continuity.scale.smooth and not continuity.ends_reset:
            self._count_reset_rows(columns, ahead)
        return columns | {"is_reset": reset}

    def _with_limits_in_place(
        self, columns: dict[str, Array], breaks: Array, ahead: _Ahead
    ) -> tuple[dict[str, Array], Array]:
        """Time limits that stand on the row after a break, moved to the row before; and the other breaks."""
        late = breaks & ahead["truncated"]
        late[-1] &= ahead.goes_on
        moved = np.concatenate([[self._moved], late])
        self._moved = bool(moved[-1])
        self.findings.late += int(late.sum())
        return columns | {"truncated": (columns["truncated"] & ~moved[:-1]) | late}, breaks & ~late

    def _count_breaks(self, breaks: Array, kind: str) -> None:
        if breaks.any() and self.findings.first is None:
            self.findings.first = f"row {self._row + int(np.flatnonzero(breaks)[0])}"
        setattr(self.findings, kind, getattr(self.findings, kind) + int(breaks.sum()))

    def _count_reset_rows(self, columns: Columns, ahead: _Ahead) -> None:
        assert self.continuity is not None, "next observations are stored"
        ended = np.flatnonzero(columns["followed"] & (columns["terminated"] | columns["truncated"]))
        if not ended.size:
            return
        jump = self.continuity.scale.jump
        step = jump(columns["observation"][ended], columns["next_observation"][ended])
        next_step = jump(ahead["observation"][ended], ahead["next_observation"][ended])
        self.findings.reset_rows += int(((step <= FEW_STEPS) & (next_step > FEW_STEPS)).sum())


class _Ahead:
    """Columns of the row after each row; where a recording ends, its last row stands for the row after it."""

    def __init__(self, columns: Columns, after: Columns | None) -> None:
        self._columns, self._after = columns, after

    @property
    def goes_on(self) -> bool:
        """Whether there is a row after the last one."""
        return self._after is not None

    def __getitem__(self, name: str) -> Array:
        values = self._columns[name]
        return np.concatenate([values[1:], values[-1:] if self._after is None else self._after[name][:1]])


@dataclass(frozen=True)
class EpisodeIds:
    """A recording's own episode numbers, and how it begins and ends.

    Attributes:
        numbers: (episodes,) int64, those that occur, ascending.
        first, last: numbers of the first and the last row.
        first_step, last_step: of these rows, None where steps are not told.
        ended: whether the last row has a flag of an end, None where there are no flags.
        words: names of the first and the last episode, where the recording names its episodes.
    """

    numbers: Array
    first: int
    last: int
    first_step: int | None
    last_step: int | None
    ended: bool | None
    words: tuple[str, str] | None = None

    @classmethod
    def of(cls, batches: Iterable[Columns], words: Sequence[str] = ()) -> EpisodeIds | None:
        """Of ``episode_id``, and of steps and flags if there are any, some rows at a time; None for no rows.

        Args:
            words: names of the episodes by number, where they are named.
        """
        found: list[Array] = []
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for columns in batches:
            if len(columns["episode_id"]):
                with np.errstate(invalid="ignore"):  # what is no whole number is refused when it is read
                    numbers = columns["episode_id"].astype(np.int64)
                found = [np.unique(np.concatenate([*found, numbers]))]
                last = {name: int(values[-1]) for name, values in columns.items()}
                first = first or {name: int(values[0]) for name, values in columns.items()}
        if not found:
            return None
        flags = [last[name] for name in ("terminated", "truncated") if name in last]
        return cls(
            numbers=found[0],
            first=first["episode_id"],
            last=last["episode_id"],
            first_step=first.get("step_index"),
            last_step=last.get("step_index"),
            ended=any(flags) if flags else None,
            words=(words[first["episode_id"]], words[last["episode_id"]]) if words else None,
        )

    def goes_on_in(self, other: EpisodeIds) -> bool:
        """Whether the first row of another recording belongs to the last episode of this one.

        Its number must be the same, and the steps must go on; where they are not told, there must be flags, and
        none at the end.
        """
        last = self.words[1] if self.words else self.last
        if last != (other.words[0] if other.words else other.first) or self.ended:
            return False
        if self.last_step is not None and other.first_step is not None:
            return other.first_step == self.last_step + 1
        return self.ended is not None


def shifts_of(ids: Sequence[EpisodeIds | None], rows: Sequence[int], source: str) -> tuple[int, ...]:
    """What is added to the episode numbers of each recording, so that none occurs in two.

    Nothing, where none does but that of an episode that goes on in the next recording.

    Args:
        ids: None where a recording counts its episodes from 0.
        rows: of each recording.

    Raises:
        DatasetError: numbers so far apart that they cannot be shifted.
    """
    told = [found for found, count in zip(ids, rows, strict=True) if count]
    for one, other in pairwise(told):
        if one is not None and other is not None and one.words and one.goes_on_in(other):
            raise DatasetError(
                f"{source}: the episode {one.words[1]!r} continues in the next file, "
                "which is not supported where words name the episodes",
                fix="number the episodes, or keep each in one file",
            )
    if None not in told and _unique([found for found in told if found is not None]):
        return (0,) * len(ids)
    shifts, free = [], 0
    for found, count in zip(ids, rows, strict=True):
        lowest, highest = (0, count - 1) if found is None else (int(found.numbers[0]), int(found.numbers[-1]))
        shifts.append(free - lowest)
        free += highest - lowest + 1
    if free > np.iinfo(np.int64).max:
        raise DatasetError(
            f"{source}: the same episode numbers occur in several files, too far apart to be shifted",
            fix="number the episodes anew",
        )
    return tuple(shifts)


def _unique(ids: Sequence[EpisodeIds]) -> bool:
    numbers = [found.numbers for found in ids]
    for position, (one, other) in enumerate(pairwise(ids)):
        if one.goes_on_in(other):  # counted once, with the recording in which it began
            numbers[position + 1] = np.setdiff1d(other.numbers, [other.first])
    together = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    return len(np.unique(together)) == len(together)


def whole_episodes(batches: Iterable[dict[str, Array]], source: str) -> Iterator[dict[str, Array]]:
    """The same rows in batches that end where an episode ends.

    Args:
        batches: with ``episode_id``, in order.

    Raises:
        DatasetError: within an episode, a batch has other columns than the one before, or of other types.
    """
    held: list[dict[str, Array]] = []
    for batch in batches:
        last = held[-1]["episode_id"][-1:] if held else batch["episode_id"][:1]
        if held and layout(held[0]) != layout(batch):
            if last == batch["episode_id"][:1]:
                refuse_other_columns(source, layout(held[0]), layout(batch))
            yield _together(held)
            held, last = [], batch["episode_id"][:1]
        changes = np.flatnonzero(np.diff(batch["episode_id"], prepend=last))
        if not changes.size:
            held.append(batch)
            continue
        cut = int(changes[-1])
        complete = [*held, {name: values[:cut] for name, values in batch.items()}]
        yield _together(complete)
        held = [{name: values[cut:] for name, values in batch.items()}]
    if held:
        yield _together(held)


def gathered(batches: Iterable[dict[str, Array]], rows: int) -> Iterator[dict[str, Array]]:
    """The same rows in fewer batches, where they are small: of several files, up to so many rows."""
    held: list[dict[str, Array]] = []
    count = 0
    for batch in batches:
        size = len(batch["episode_id"])
        if held and (count + size > rows or layout(held[0]) != layout(batch)):
            yield _together(held)
            held, count = [], 0
        held.append(batch)
        count += size
    if held:
        yield _together(held)


def _together(batches: list[dict[str, Array]]) -> dict[str, Array]:
    if len(batches) == 1:
        return batches[0]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def layout(columns: Columns) -> dict[str, str]:
    """Type and width of each column, in words."""
    return {name: f"{values.dtype} {values.shape[1:]}" for name, values in columns.items()}


def refuse_other_columns(source: str, before: Mapping[str, str], after: Mapping[str, str]) -> NoReturn:
    """Refuse rows of another ``layout`` than those before them.

    Raises:
        DatasetError: always.
    """
    differ = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    raise DatasetError(
        f"{source}: {', '.join(differ)} of another type than before",
        details=tuple(f"{name}: {before.get(name)}, then {after.get(name)}" for name in differ),
        fix="the files of a dataset must hold the same columns",
    )


def step_limit_flags(terminated: Array, limit: int, steps_before: int) -> Array:
    """Time-limit flags for a source without them: every ``limit`` steps since the last end."""
    truncated = np.zeros_like(terminated)
    start = -steps_before
    for end in [*np.flatnonzero(terminated).tolist(), len(terminated) - 1]:
        truncated[start + limit - 1 : end + 1 : limit] = True
        start = end + 1
    return truncated & ~terminated
