"""What ``terminals`` and ``timeouts`` mean in D4RL's layout, which is not the same in all of it.

In AntMaze a terminal marks a step near the goal and the trajectory goes on; the timeouts of its version 0 are
out of step with the trajectories. Others mark success in the same way. In Maze2D there is one long trajectory,
and a timeout marks a waypoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array, blocks
from vaco_curate.data.columns import flag_column
from vaco_curate.data.episodes import step_limit_flags
from vaco_curate.data.success import ends_beside_success
from vaco_curate.data.successors import FEW_STEPS, SAMPLE_ROWS, StateScale, after_another

POSITION = slice(0, 2)
"""Where AntMaze and Maze2D have the place of their body in an observation."""

JUMP = 5.0
"""A body that moves this many times farther than in all but one step of ten was set down there."""

GOALS, ANT_SIZES = "infos/goal", ((29,), (8,))
"""What AntMaze and Maze2D record of their goals, and AntMaze's numbers for a state and an action."""


@dataclass(frozen=True)
class Trajectories:
    """What the flags of a file mean.

    Attributes:
        ends: row numbers at which trajectories end, where they are told neither by flags nor by numbers.
        unbroken: whether every row but the last is followed by its successor, whatever the flags say.
        notes: in plain words.
    """

    ends: Array | None = None
    unbroken: bool = False
    notes: tuple[str, ...] = ()


def trajectories_of(file: Any, columns: Mapping[str, Any], source: str, name: str) -> Trajectories:
    """What the flags of a file mean, which we have not written.

    Args:
        file: all its arrays by name.
        columns: arrays by our names, with ``terminated``; stored successors are held against flags elsewhere.
        name: what may tell the environment: its id, and the name of the file.

    Raises:
        DatasetError: flags other than 0 and 1.
    """
    rows = len(columns["reward"])
    terminated = flag_column(columns["terminated"][()], "terminated", rows, source)
    stored = columns["truncated"][()] if "truncated" in columns else None
    truncated = flag_column(stored, "truncated", rows, source)
    is_maze = bool(terminated.any()) and _is_ant_maze(file, columns, terminated, name)
    is_told = "next_observation" in columns or not truncated.any()
    if is_maze or (not is_told and after_another(terminated, truncated).any()):
        return _beyond_terminals(columns, terminated, truncated, is_maze)
    waypoints = _marks_waypoints(file, columns, terminated, truncated)
    return _unbroken(columns) if waypoints else Trajectories()


def trajectories_beside_success(
    file: Any, columns: Mapping[str, Any], terminals: Any, source: str, name: str, limit: int | None
) -> Trajectories:
    """What the other flags of a file say that has a flag of success: they end its trajectories.

    Args:
        file, columns, name: of ``trajectories_of``; ``terminated`` is the flag of success.
        terminals: the file's flags of true ends, None where it has none.
        limit: steps of the longest episode, where only true ends tell.

    Raises:
        DatasetError: flags other than 0 and 1.
    """
    rows = len(columns["reward"])
    ends = np.zeros(rows, bool)
    if "truncated" in columns:
        ends |= flag_column(columns["truncated"][()], "truncated", rows, source)
    if terminals is not None:
        found = trajectories_of(file, {**columns, "terminated": terminals}, source, name)
        if found.ends is not None or found.unbroken:
            return found
        ends |= flag_column(terminals[()], "terminated", rows, source)
    if limit is not None:
        ends |= step_limit_flags(ends, limit, 0)
    flagged = flag_column(columns["terminated"][()], "the flag of success", rows, source)
    return Trajectories(ends_beside_success(flagged, ends))


def _is_ant_maze(file: Any, columns: Mapping[str, Any], terminated: Array, name: str) -> bool:
    """By its name; or by its sizes or recorded goals, and rewards at terminals only."""
    if "antmaze" in name.lower():
        return True
    sizes, goals = (columns["observation"].shape[1:], columns["action"].shape[1:]), file.get(GOALS)
    has_goals = getattr(goals, "shape", ())[1:] == (2,) and sizes[0] > (4,)
    if not has_goals and sizes != ANT_SIZES:
        return False
    reward = np.asarray(columns["reward"][()]).reshape(-1)
    return bool(((reward > reward.min()) == terminated).all())


def _beyond_terminals(
    columns: Mapping[str, Any], terminated: Array, truncated: Array, is_maze: bool
) -> Trajectories:
    """Trajectories that go on after terminals, if the state moves on from there as from other rows."""
    after = terminated[:-1] & ~truncated[:-1] if is_maze else after_another(terminated, truncated)
    large, smooth = _large_moves(columns, terminated | truncated)
    if not after.any() or 2 * large[after].sum() >= after.sum() or not (smooth or is_maze):
        return Trajectories()
    where = "as in AntMaze" if is_maze else "they mark success"
    notes = [f"the state moves on after terminals, which end no trajectory: {where}"]
    limits = np.flatnonzero(truncated)
    if is_maze and len(truncated):
        jump = _jumps(columns["observation"])
        inner = limits[limits < len(jump)]
        if jump.any() and 2 * jump[inner].sum() < max(len(inner), 1):
            what = "timeouts are out of step with the trajectories" if limits.size else "there are no timeouts"
            notes.append(f"{what}: trajectories end where the position jumps")
            return Trajectories(np.flatnonzero(jump), notes=tuple(notes))
    if not limits.size:
        return Trajectories()
    left = terminated[:-1] & ~terminated[1:] & large  # the last terminal of a run, and then another place
    return Trajectories(np.union1d(limits, np.flatnonzero(left)), notes=tuple(notes))


def _large_moves(columns: Mapping[str, Any], flagged: Array) -> tuple[Array, bool]:
    """((rows - 1,) whether the state changes by more than a few steps, whether steps are small at all)."""
    observation = columns["observation"]
    sample = _vectors(observation[: SAMPLE_ROWS + 1])
    change = np.diff(sample.astype(np.float64), axis=0)[~flagged[: len(sample) - 1]]
    scale = StateScale.of(sample, change)
    large, before = np.zeros(len(observation), bool), sample[:1]
    for rows in blocks(len(observation)):  # one after the other, as archives are read
        states = np.concatenate([before, _vectors(observation[rows])])
        large[rows] = scale.jump(states[:-1], states[1:]) > FEW_STEPS
        before = states[-1:]
    return large[1:], scale.smooth


def _vectors(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _marks_waypoints(file: Any, columns: Mapping[str, Any], terminated: Array, truncated: Array) -> bool:
    """Maze2D: a point with four numbers for its state that never ends, and a record of its goals."""
    is_point = columns["observation"].shape[1:] == (4,)
    return bool(GOALS in file and is_point and not terminated.any() and truncated.any())


def _unbroken(columns: Mapping[str, Any]) -> Trajectories:
    """Timeouts at waypoints, where the next row is the successor all the same; plain if it jumps anywhere."""
    if _jumps(columns["observation"]).any():
        return Trajectories()
    note = "one long trajectory whose timeouts mark waypoints, as in Maze2D: successors reach beyond them"
    return Trajectories(unbroken=True, notes=(note,))


def _jumps(observation: Any) -> Array:
    """(rows - 1,) whether the body was set down elsewhere after a row."""
    position = np.concatenate([_vectors(observation[rows])[:, POSITION] for rows in blocks(len(observation))])
    moved = np.linalg.norm(np.diff(position.astype(np.float64), axis=0), axis=1)
    limit = JUMP * float(np.quantile(moved, 0.9)) if moved.size else 0.0
    return np.asarray(moved > limit)
