"""Whether the next row of a recording is the state that a row led to, where next observations are stored.

Stored next observations say where trajectories break, whatever the flags say. Some rows of a recording tell how
large steps are (``Continuity.of``), and with that what a break means there: the end of a trajectory, or frames
that are missing. ``Findings`` counts what was found, for messages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vaco_curate.core.transitions import LARGEST, Array, blocks
from vaco_curate.errors import DatasetError

SAMPLE_ROWS = 65_536
"""Rows at the start of a recording by which it is judged."""

SAME_STATE = 1e-3
"""Difference, in standard deviations, up to which two states are the same."""

SAME_STEP = 0.05
"""The same, in steps: what was rounded differs by less than the steps that it records."""

FEW_STEPS = 4.0
"""Change in steps, in the dimension that changes most, that a few steps can make and most resets exceed."""

ALIKE = 0.3
"""Spread, relative to that of all states, below which states are taken for the starts of episodes."""

SOME_STEPS = 16.0
"""Change in steps that a hole of some frames can make."""

LARGEST_HOLE, ENOUGH_BREAKS, ENOUGH_ENDS = 0.6, 5, 4
"""Size of a hole at most, relative to jumps at flagged ends; and how many of both it takes to say so."""

MOST_COPIES = 8_192
"""Environments side by side whose rows are told apart."""


@dataclass(frozen=True)
class StateScale:
    """How far states are apart.

    Attributes:
        same: (d,) difference up to which two states are the same.
        step: (d,) root mean square change in a step, at least ``same``.
        smooth: whether steps are small beside the spread of the states, so that a jump can be told from a step.
    """

    same: Array
    step: Array
    smooth: bool

    @classmethod
    def of(cls, observation: Array, change: Array, rounding: Array | float = 0.0) -> StateScale:
        """From states, and the changes that steps made, (n, d) and (m, d).

        Args:
            rounding: (d,) error that stored successors have because their decimals are cut.
        """
        spread = observation.std(axis=0, dtype=np.float64)
        step = np.sqrt(np.square(change, dtype=np.float64).mean(axis=0)) if len(change) else 0.0 * spread
        same = SAME_STATE * spread + SAME_STEP * step + 1e-6 + rounding
        moving = spread > same
        smooth = bool(moving.any() and np.median(step[moving] / spread[moving]) < 1.0)
        return cls(same, np.maximum(step, same), smooth)

    def same_state(self, one: Array, other: Array) -> Array:
        """(n,) bool, whether the states of two columns are the same but for rounding, float32's at least."""
        same = np.empty(len(one), bool)
        for rows in blocks(len(one)):
            left, right = one[rows], other[rows]
            same[rows] = (left == right).all(axis=1)
            differ = np.flatnonzero(~same[rows])
            if differ.size:
                left, right = left[differ].astype(np.float64), right[differ].astype(np.float64)
                rounding = 4 * _resolution(one, other) * np.maximum(np.abs(left), np.abs(right))
                with np.errstate(all="ignore"):
                    near = np.abs(left - right) <= self.same + rounding
                same[rows.start + differ] = near.all(axis=1)
        return same

    def jump(self, before: Array, after: Array) -> Array:
        """(n,) change from one state to another in steps, in the dimension that changes most."""
        with np.errstate(all="ignore"):
            change = np.abs(after.astype(np.float64) - before.astype(np.float64))
        return np.asarray((change / self.step).max(axis=1))


DECIMALS, PROBED_ROWS = 4, 4_096
"""Most decimals to which successors are found to be rounded, and rows that are looked at for it."""


def _rounding(observation: Array, following: Array) -> Array:
    """(d,) half of the last decimal of successors that are rounded and observations that are not; else 0."""
    error = np.zeros(observation.shape[1])
    for decimals in reversed(range(1, DECIMALS + 1)):
        error[_on_grid(following, decimals) & ~_on_grid(observation, decimals)] = 0.5001 * 10.0**-decimals
    return error


def _on_grid(values: Array, decimals: int) -> Array:
    """(d,) bool: whether all values of a dimension have at most so many decimals, but for their type."""
    exact = values.astype(np.float64)
    off = np.abs(exact - exact.round(decimals))
    return np.asarray((off <= 4 * _resolution(values, values) * np.abs(exact) + 1e-12).all(axis=0))


def _resolution(one: Array, other: Array) -> float:
    return max(float(np.finfo(np.float32).eps), *(float(np.finfo(c.dtype).eps) for c in (one, other)))


@dataclass(frozen=True)
class Continuity:
    """What some rows of a recording say of its stored next observations.

    Attributes:
        scale: of its states.
        breaks_end: whether a trajectory ends where a row is not followed by its stored successor; else frames
            are missing there, and it goes on.
        limits_late: whether time limits are marked one row late, on the first row of the next trajectory.
        terminals_go_on: whether terminals follow one another within trajectories, as success flags do.
        ends_reset: whether ends that lead to the next row's observation lead to a reset: what a simulator that
            resets itself returns in place of the state that was reached.
    """

    scale: StateScale
    breaks_end: bool = True
    limits_late: bool = False
    terminals_go_on: bool = False
    ends_reset: bool = False

    @classmethod
    def of(cls, columns: Mapping[str, Array], source: str) -> Continuity:
        """Judge the first rows of a recording.

        Args:
            columns: checked columns with ``next_observation``.

        Raises:
            DatasetError: rows of several environments alternate.
        """
        observation, following = (_finite(columns[name]) for name in ("observation", "next_observation"))
        known, terminated, truncated = (columns[n] for n in ("has_successor", "terminated", "truncated"))
        inside = known & ~terminated & ~truncated
        rounding = _rounding(observation[:PROBED_ROWS], following[:PROBED_ROWS][known[:PROBED_ROWS]])
        scale = StateScale.of(observation, following[inside] - observation[inside], rounding)
        followed = known[:-1] & scale.same_state(following[:-1], observation[1:])
        if "episode_id" in columns:
            ends = np.diff(columns["episode_id"]) != 0
            lost = inside[:-1] & ~ends & ~followed
            if 2 * lost.sum() > (inside[:-1] & ~ends).sum():
                _refuse_alternating(observation, following, inside, scale, source)
            return cls(
                scale, ends_reset=_reset(observation, following, scale, ends & ~terminated[:-1] & followed)
            )
        breaks = np.flatnonzero(inside[:-1] & ~followed)
        if 2 * len(breaks) > inside[:-1].sum():
            _refuse_alternating(observation, following, inside, scale, source)
        late = truncated[1:] & inside[:-1] & ~followed
        late[:-1] &= followed[1:]
        limits_late = bool(late.any() and 2 * late.sum() > truncated.sum())
        return cls(
            scale,
            not _frames_missing(observation, following, breaks, np.flatnonzero(~inside[:-1]), scale),
            limits_late,
            bool((after_another(terminated, truncated) & followed).any()),
            not limits_late
            and _reset(observation, following, scale, truncated[:-1] & ~terminated[:-1] & followed),
        )


def after_another(terminated: Array, truncated: Array) -> Array:
    """(n - 1,) bool: terminals with another one behind them, where most are such, as success flags are.

    None where most rows are terminals, which are episodes of one step then. A run that begins where an episode
    begins does not count: such episodes began at their goal, or are of one step.
    """
    behind = terminated[:-1] & terminated[1:]
    begins = terminated & ~np.concatenate([[False], terminated[:-1]])
    at_start = begins & np.concatenate([[True], truncated[:-1]])
    run = np.cumsum(begins)
    of_start = np.isin(run, run[at_start])
    behind &= ~of_start[:-1]
    ends = terminated.sum()
    return np.asarray(behind & bool(2 * behind.sum() > ends and 2 * ends < len(terminated)))


def _finite(states: Array) -> Array:
    """The states, zero where they are not finite or out of range, which is refused later with its row."""
    fine = np.abs(states) <= LARGEST
    return states if fine.all() else np.where(fine, states, 0)


def _frames_missing(
    observation: Array, following: Array, breaks: Array, ends: Array, scale: StateScale
) -> bool:
    """Whether breaks are holes within trajectories, and not ends.

    They are ends where the states after them are alike, as starts of episodes are. Otherwise they are holes if
    they are no larger than a few steps, or than some more and much smaller than the jumps at flagged ends.
    """
    moving = scale.step > scale.same
    if not breaks.size or not moving.any():
        return False
    after = observation[breaks + 1]
    spread = observation[:, moving].std(axis=0, dtype=np.float64)
    if len(breaks) > 2 and np.median(after[:, moving].std(axis=0, dtype=np.float64) / spread) < ALIKE:
        return False
    size = float(np.median(scale.jump(following[breaks], after)))
    if scale.smooth and size <= FEW_STEPS:
        return True
    if size > SOME_STEPS or len(breaks) < ENOUGH_BREAKS or len(ends) < ENOUGH_ENDS:
        return False
    of_ends = float(np.median(scale.jump(observation[ends], observation[ends + 1])))
    return bool(size < LARGEST_HOLE * (1.0 - len(breaks) ** -0.5) * of_ends)  # a median of few says less


def _reset(observation: Array, following: Array, scale: StateScale, ends: Array) -> bool:
    """Whether the given ends, which lead to the next row's observation, jump there."""
    rows = np.flatnonzero(ends)
    if not rows.size or not scale.smooth:
        return bool(rows.size)
    return bool(np.median(scale.jump(observation[rows], following[rows])) > FEW_STEPS)


def _refuse_alternating(
    observation: Array, following: Array, inside: Array, scale: StateScale, source: str
) -> None:
    """Refuse rows of several environments side by side, whose successors lie a fixed number of rows ahead."""
    count = len(observation)
    probes = np.flatnonzero(inside[: count // 2])[:: max(1, count // 64)][:32]
    if not probes.size:
        return
    ahead = observation[probes[0] + 2 : probes[0] + 1 + min(MOST_COPIES, count // 2)]
    first = np.broadcast_to(following[probes[0]], ahead.shape)
    for copies in np.flatnonzero(scale.same_state(first, ahead)) + 2:
        if scale.same_state(following[probes], observation[probes + copies]).mean() > 0.5:
            rows = np.flatnonzero(inside[:-copies])
            share = scale.same_state(following[rows], observation[rows + copies]).mean()
            raise DatasetError(
                f"{source}: rows of {copies} environments alternate, so that episodes cannot be told",
                details=(
                    "next observations are stored, and hardly one is the observation of the next row",
                    f"{share:.0%} of them are that of the row {copies} further on",
                ),
                fix="write one environment after the other: of arrays of (steps, environments, ...), "
                f"x.reshape(-1, {copies}, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape), with a timeout at the "
                "last row of each",
            )


@dataclass
class Findings:
    """What the stored next observations of a dataset say against its flags and order.

    Attributes:
        ends: rows after which a trajectory ends without a flag.
        gaps: rows within an episode that are not followed by their stored successor.
        late: time limits that were marked one row late.
        resets: ends whose stored successor is the first observation of the next episode.
        reset_rows: rows after an end that go on from the state it reached, and jump: steps that only reset.
        unknown: rows whose next observation is not stored, which no flag explains.
        successes: terminals after which the trajectory goes on.
        flagged: episodes with a success flag on several frames.
        first: where the first of ``ends`` and ``gaps`` is, in words; None for none.
    """

    ends: int = 0
    gaps: int = 0
    late: int = 0
    resets: int = 0
    reset_rows: int = 0
    unknown: int = 0
    successes: int = 0
    flagged: int = 0
    first: str | None = None

    def add(self, other: Findings) -> None:
        """Take in what was found in another part; parts come in order."""
        self.first = other.first if self.first is None else self.first
        for name in (field.name for field in dataclasses.fields(self) if field.name != "first"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def to_json(self) -> dict[str, int | str | None]:
        """Plain values; ``Findings(**facts)`` reads them back."""
        return dataclasses.asdict(self)

    def notes(self) -> list[str]:
        """In plain words, with what was done."""
        notes = []
        inside = f"row(s) inside episodes are not followed by their stored successor (first {self.first}): "
        if self.ends:
            notes.append(f"{self.ends} {inside}episodes end there")
        if self.gaps:
            notes.append(f"{self.gaps} {inside}frames are missing there, and paths of steps end")
        if self.unknown:
            notes.append(f"{self.unknown:,} row(s) without a flag have no next observation: episodes end there")
        if self.successes:
            notes.append(
                f"{self.successes} terminal(s) do not end a trajectory: it continues, so they mark success"
            )
        if self.flagged:
            notes.append(
                f"the success flag is set on several frames of {self.flagged} episode(s): the first of them "
                "earns the reward and is the true end, or the last frame where all frames have the flag"
            )
        if self.late:
            notes.append(
                f"{self.late:,} time limit(s) are marked one row late, on the first row of the next episode: "
                "they are taken for the row before"
            )
        if self.resets:
            notes.append(
                f"{self.resets:,} end(s) lead to the next episode's first observation, which is a reset and "
                "not the state that was reached: outputs keep it, training does not bootstrap from it"
            )
        if self.reset_rows:
            notes.append(
                f"{self.reset_rows:,} row(s) after an end start where it stopped and jump: a simulator that "
                "resets itself records such a step; each is kept as the first row of the next episode"
            )
        return notes
