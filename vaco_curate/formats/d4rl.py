"""D4RL-layout HDF5: flat arrays ``observations``, ``actions``, ``rewards``, ``terminals``.

``terminals`` and ``timeouts`` do not mean the same in all of D4RL. In AntMaze a terminal marks a step near the
goal and the trajectory goes on; the timeouts of its version 0 are out of step with the trajectories. In Maze2D
there is one long trajectory, and a timeout marks a waypoint. ``_trajectories`` tells these apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.columns import Columns, EpisodeIds, flag_column, notes_on_episodes
from vaco_curate.errors import DatasetError
from vaco_curate.formats.environment import action_bounds
from vaco_curate.formats.hdf5 import SUFFIXES, opened, text
from vaco_curate.formats.options import ReadOptions
from vaco_curate.formats.recording import Recording
from vaco_curate.formats.writing import Target
from vaco_curate.transitions import Array, Transitions, blocks, check_same_length

REQUIRED = {"observations": "observation", "actions": "action", "rewards": "reward", "terminals": "terminated"}
OPTIONAL = {"timeouts": "truncated", "next_observations": "next_observation"}
KEYS = REQUIRED | OPTIONAL

OURS = "vaco_curate"
"""Attribute of a file that we wrote."""

OWN_KEYS = {
    "infos/truncated": "truncated",
    "infos/has_successor": "has_successor",
    "infos/episode_id": "episode_id",
    "infos/step_index": "step_index",
}
"""What the layout cannot say, in a file that we wrote."""

POSITION = slice(0, 2)
"""Where AntMaze and Maze2D have the place of their body in an observation."""

JUMP = 5.0
"""A body that moves this many times farther than in all but one step of a hundred was set down there."""


def matches(source: str) -> bool:
    """Whether the source names an HDF5 file."""
    return source.lower().endswith(SUFFIXES)


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A D4RL-layout file.

    Raises:
        DatasetError: not HDF5, truncated, a key missing, or columns that differ in length.
    """
    path = Path(source).absolute()
    with opened(path) as file:
        rows = _check(file, source, options)
        env_id = text(file.attrs["env_id"]) if "env_id" in file.attrs else None
        trajectories = _trajectories(file, source, rows)
        labels = tuple(_labels(file, rows))
        own = json.loads(file.attrs[OURS]) if OURS in file.attrs else {}
        keys = {name for key, name in KEYS.items() if key in file}
        ids = None
        if OURS in file.attrs:
            ids = EpisodeIds.of(
                [{name: file[key][()] for key, name in OWN_KEYS.items() if name != "has_successor"}]
            )
    low, high = action_bounds(env_id)
    return (
        Recording(
            path=path,
            format="d4rl",
            rows=rows,
            batches=partial(_batches, path, trajectories),
            labels=labels,
            label=partial(_label, path),
            facts={"env_id": env_id, "action_low": low, "action_high": high},
            episodes=ids,
            has_rewards=own.get("has_rewards", True),
            notes=(*trajectories.notes, *notes_on_episodes(keys, options.max_episode_steps)),
        ),
    )


@dataclass(frozen=True)
class _Trajectories:
    """What the flags of a file mean.

    Attributes:
        ends: row numbers at which trajectories end, where they are told neither by flags nor by numbers.
        unbroken: whether every row but the last is followed by its successor, whatever the flags say.
        notes: in plain words.
    """

    ends: Array | None = None
    unbroken: bool = False
    notes: tuple[str, ...] = ()


def _check(file: Any, source: str, options: ReadOptions) -> int:
    """The number of rows, of a file that has all it needs."""
    import h5py  # deferred: the training core runs without it

    if options.columns or options.drop_columns:
        option = "--column" if options.columns else "--drop-columns"
        raise DatasetError(
            f"{source}: {option} is for other formats, this is D4RL's layout with its fixed names"
        )
    missing = [key for key in REQUIRED if key not in file]
    if missing:
        raise DatasetError(
            f"{source}: missing {', '.join(missing)}",
            details=(f"found: {', '.join(sorted(file)) or 'nothing'}",),
            fix="a D4RL-layout file needs observations, actions, rewards and terminals at its root",
        )
    for key, name in KEYS.items():
        if isinstance(file.get(key), h5py.Group):
            raise DatasetError(
                f"{source}: {key} is a group, not an array",
                details=(f"it holds: {', '.join(file[key])}",),
                fix="store one array of state vectors",
            )
        if key in file and file[key].ndim == 0:
            raise DatasetError(f"{source}: {name} is a single value, not one per row")
    check_same_length(source, **{name: file[key] for key, name in KEYS.items() if key in file})
    return len(file["rewards"])


def _trajectories(file: Any, source: str, rows: int) -> _Trajectories:
    """What the flags mean; in a file that we wrote, what they say."""
    if "timeouts" not in file or OURS in file.attrs:
        return _Trajectories()
    terminated = flag_column(file["terminals"][()], "terminated", rows, source)
    truncated = flag_column(file["timeouts"][()], "truncated", rows, source)
    if _marks_success(terminated):
        return _goal_maze(file, truncated)
    return _unbroken(file) if _marks_waypoints(file, terminated, truncated) else _Trajectories()


def _marks_success(terminated: Array) -> bool:
    """Whether most true ends follow one another, which no simulator that resets records: AntMaze.

    Where most rows are true ends, episodes are of one step; where some are, they began at the goal.
    """
    ends, in_a_row = terminated.sum(), (terminated[1:] & terminated[:-1]).sum()
    return bool(2 * in_a_row > ends and 2 * ends < len(terminated))


def _goal_maze(file: Any, truncated: Array) -> _Trajectories:
    """AntMaze: terminals do not end a trajectory; its timeouts do, or where they are out of step, a jump."""
    jump = _jumps(file)
    out_of_step = bool((jump & ~truncated[:-1]).any())
    notes = ["terminals follow one another: they mark steps at the goal, trajectories go on, as in AntMaze"]
    if out_of_step:
        notes.append(
            "timeouts are out of step with the trajectories, which end where the position jumps instead"
        )
    return _Trajectories(np.flatnonzero(jump if out_of_step else truncated), notes=tuple(notes))


def _marks_waypoints(file: Any, terminated: Array, truncated: Array) -> bool:
    """Maze2D: a point with four numbers for its state that never ends, and a record of its goals."""
    infos = file.get("infos")
    has_goals = infos is not None and hasattr(infos, "keys") and "goal" in infos  # Kitchen's infos are an array
    is_point = file["observations"].shape[1:] == (4,)
    return bool(has_goals and is_point and not terminated.any() and truncated.any())


def _unbroken(file: Any) -> _Trajectories:
    """Timeouts at waypoints, where the next row is the successor all the same; plain if it jumps anywhere."""
    if _jumps(file).any():
        return _Trajectories()
    note = "one long trajectory whose timeouts mark waypoints, as in Maze2D: successors reach beyond them"
    return _Trajectories(unbroken=True, notes=(note,))


def _jumps(file: Any) -> Array:
    """(rows - 1,) whether the body was set down elsewhere after a row."""
    observations = file["observations"]
    position = np.concatenate([observations[rows, POSITION] for rows in blocks(len(observations))])
    moved = np.linalg.norm(np.diff(position.astype(np.float64), axis=0), axis=1)
    limit = JUMP * float(np.quantile(moved, 0.99)) if moved.size else 0.0
    return np.asarray(moved > limit)


def _batches(path: Path, trajectories: _Trajectories, rows: int) -> Iterator[Columns]:
    with opened(path) as file:
        count = len(file["rewards"])
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            columns = {name: file[key][part] for key, name in KEYS.items() if key in file}
            if OURS in file.attrs:
                columns |= {name: file[key][part] for key, name in OWN_KEYS.items()}
            if trajectories.ends is not None:
                row = np.arange(part.start, part.stop)
                columns["episode_id"] = np.searchsorted(trajectories.ends, row)
                terminated = np.asarray(columns["terminated"]).reshape(-1) != 0
                columns["truncated"] = np.isin(row, trajectories.ends) & ~terminated
            if trajectories.unbroken and "next_observation" not in columns:
                following = file["observations"][part.start + 1 : part.stop + 1]
                columns["has_successor"] = np.arange(part.start, part.stop) < count - 1
                columns["next_observation"] = np.zeros_like(columns["observation"])
                columns["next_observation"][: len(following)] = following
            yield columns


def _labels(file: Any, rows: int) -> Iterator[str]:
    """Names of the arrays with one value a row that are none of ours."""
    import h5py  # deferred: the training core runs without it

    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name not in KEYS and item.shape in ((rows,), (rows, 1)):
            found.append(name)

    file.visititems(look)
    yield from found


def _label(path: Path, name: str) -> Array:
    with opened(path) as file:
        values: Array = file[name][()].reshape(-1)
        return values.astype(str) if values.dtype.kind in "SO" else values


class D4RLWriter:
    """``writing.RowsWriter``: a file for each recording, with ``next_observations`` and ``infos``.

    Readers of this layout take the next row for a row's successor, and leave out a row that timed out. So every
    row that is not followed by its successor gets a timeout, within an episode too where rows are missing. A
    next observation that is not known repeats the observation, and ``infos/has_successor`` says so.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, target: Target) -> None:
        self._paths = [target.folder / f"{name}.hdf5" for name in target.names]
        self._ends = target.first_row + np.cumsum(target.rows)
        self._facts = dict(target.facts)
        self._files: list[Any] = []

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """As the protocol; further columns lie under ``infos``, those of words as bytes."""
        columns = self._columns(piece, rows) | {
            f"infos/{name}": _plain(values) for name, values in extra.items()
        }
        index = piece.first_row + rows
        while len(self._files) < len(self._paths):
            self._open(piece, columns)
        shard = np.searchsorted(self._ends, index, side="right")
        for number in np.unique(shard):
            chosen = shard == number
            for key, values in columns.items():
                array = self._files[number][key]
                array.resize(len(array) + int(chosen.sum()), axis=0)
                array[len(array) - int(chosen.sum()) :] = values[chosen]

    def close(self) -> None:
        """As the protocol."""
        for file in self._files:
            file.close()

    def _columns(self, piece: Transitions, rows: Array) -> dict[str, Array]:
        known = piece.has_successor[rows]
        observation = piece.observation[rows]
        broken = np.ones(len(rows), bool)
        broken[:-1] = (np.diff(rows) != 1) | ~piece.follows[rows[:-1]]
        return {
            "observations": observation,
            "actions": piece.action[rows],
            "rewards": piece.reward[rows],
            "terminals": piece.terminated[rows],
            "timeouts": piece.truncated[rows] | (broken & ~piece.terminated[rows]),
            "next_observations": np.where(known[:, None], piece.next_observation[rows], observation),
            "infos/index": piece.first_row + rows,
            "infos/truncated": piece.truncated[rows],
            "infos/has_successor": known,
            "infos/episode_id": piece.episode_id[rows],
            "infos/step_index": piece.step_index[rows],
        }

    def _open(self, piece: Transitions, columns: Mapping[str, Array]) -> None:
        import h5py  # deferred: the training core runs without it

        file = h5py.File(self._paths[len(self._files)], "w")
        for key, values in columns.items():
            shape = values.shape[1:]
            file.create_dataset(
                key,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(CHUNK_ROWS, *shape),
                dtype=values.dtype,
                compression="gzip",
                compression_opts=1,
                shuffle=True,
            )
        if piece.env_id is not None:
            file.attrs["env_id"] = piece.env_id
        file.attrs[OURS] = json.dumps(self._facts)
        self._files.append(file)


CHUNK_ROWS = 8_192


def _plain(values: Array | pa.Array) -> Array:
    """Words as bytes of one length, which HDF5 stores with the rest."""
    if isinstance(values, np.ndarray):
        return values
    return np.char.encode(values.to_numpy(zero_copy_only=False).astype("U64"), "utf-8").astype("S64")
