"""D4RL's layout: flat arrays ``observations``, ``actions``, ``rewards``, ``terminals``, in HDF5 or npz."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import check_same_length
from vaco_curate.data.columns import notes_on_episodes, step_limit
from vaco_curate.data.episodes import Columns, EpisodeIds
from vaco_curate.data.formats.d4rl_flags import (
    Trajectories,
    trajectories_beside_success,
    trajectories_of,
)
from vaco_curate.data.formats.environment import action_bounds
from vaco_curate.data.formats.hdf5 import SUFFIXES, StoredArray, array_names, opened, text
from vaco_curate.data.formats.names import (
    Joined,
    check_asked,
    flags_of_success,
    hint_at_success,
    named,
    refuse_one_of_several,
)
from vaco_curate.data.formats.npz import SUFFIX, NpzArrays, notes_on_left_out, opened_npz
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.others import array_tables, further_arrays
from vaco_curate.data.formats.parts import kept_parts
from vaco_curate.data.formats.recording import Recording
from vaco_curate.errors import DatasetError

USUAL = {
    "observation": ("observations", "observation"),
    "action": ("actions", "action"),
    "reward": ("rewards", "reward"),
    "terminated": ("terminals", "terminated"),
    "truncated": ("timeouts", "truncated"),
    "next_observation": ("next_observations", "next_observation"),
    "episode_id": ("episode_id", "episode_ids"),
}
"""D4RL's names of our columns, and ours, which are taken as well."""

REQUIRED = ("observation", "action", "reward", "terminated")

OURS = "vaco_curate"
"""Attribute of a file that we wrote."""

ABOUT = "metadata/"
"""Where D4RL keeps the policies that made a dataset."""

OWN_KEYS = {
    "infos/truncated": "truncated",
    "infos/has_successor": "has_successor",
    "infos/episode_id": "episode_id",
    "infos/step_index": "step_index",
}
"""What the layout cannot say, in a file that we wrote."""


def matches(source: str) -> bool:
    """Whether the source names an HDF5 file, or an npz file with the timeouts that only D4RL's layout has."""
    if source.lower().endswith(SUFFIXES):
        return True
    if not source.lower().endswith(SUFFIX):
        return False
    try:
        with opened_npz(Path(source)) as arrays:
            return any(name in arrays for name in USUAL["truncated"])
    except DatasetError:
        return False


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A file of D4RL's layout, or one with the same arrays under other names.

    Raises:
        DatasetError: not readable, an array missing, or columns that differ in length.
    """
    path = Path(source).absolute()
    with _arrays(path) as file:
        names = _names(file, source, options)
        columns = _Columns(file, source, names)
        rows = _check(columns, source)
        env_id = text(file.attrs["env_id"]) if "env_id" in file.attrs else None
        own = json.loads(file.attrs[OURS]) if OURS in file.attrs else {}
        trajectories = Trajectories()
        if OURS not in file.attrs and "episode_id" not in names:
            trajectories = _trajectories(file, columns, source, f"{env_id} {path.name}", options)
        used = {name for group in names.values() for name in group}
        used |= set(OWN_KEYS) if OURS in file.attrs else set()
        free = [name for name in _all_names(file) if name not in used and not name.startswith(ABOUT)]
        further, unread = further_arrays(file, free, rows)
        ids = _episode_ids(file, columns, source, options)
        left_out = notes_on_left_out(file) if isinstance(file, NpzArrays) else ()
    low, high = action_bounds(env_id)
    return (
        Recording(
            path=path,
            format="d4rl",
            rows=rows,
            batches=partial(_batches, path, source, names, trajectories),
            further=further,
            success_flags=flags_of_success(free),
            unread=tuple(unread),
            others=partial(_others, path, rows),
            facts={"env_id": env_id, "action_low": low, "action_high": high},
            episodes=ids,
            has_rewards=own.get("has_rewards", True),
            notes=(*trajectories.notes, *notes_on_episodes(names, options.max_episode_steps), *left_out),
        ),
    )


def _trajectories(file: Any, columns: _Columns, source: str, name: str, options: ReadOptions) -> Trajectories:
    """What the flags of a file mean that numbers no episodes; as ``trajectories_of``."""
    if options.success is None:
        return trajectories_of(file, columns, source, name)
    own = next((key for key in USUAL["terminated"] if key in file and key != options.success), None)
    terminals = None if own is None else _array(file, own, source)
    limit = step_limit(columns, options.max_episode_steps)
    return trajectories_beside_success(file, columns, terminals, source, name, limit)


def _episode_ids(file: Any, columns: _Columns, source: str, options: ReadOptions) -> EpisodeIds | None:
    """The file's own numbers of its episodes; None where it has none."""
    if OURS in file.attrs:
        arrays = {name: _array(file, key, source) for key, name in OWN_KEYS.items() if name != "has_successor"}
    elif "episode_id" in columns:
        arrays = {name: columns[name] for name in ("episode_id", "terminated", "truncated") if name in columns}
        if options.success is not None:  # an episode may go on after its success
            del arrays["terminated"]
    else:
        return None
    return EpisodeIds.of([{name: np.asarray(array[()]).reshape(-1) for name, array in arrays.items()}])


@contextlib.contextmanager
def _arrays(path: Path) -> Iterator[Any]:
    """The arrays of a file by name, and its attributes."""
    with opened_npz(path) if path.name.lower().endswith(SUFFIX) else opened(path) as file:
        yield file


class _Columns(Mapping[str, Any]):
    """The arrays of a file by our names; several may make a column."""

    def __init__(self, file: Any, source: str, names: Mapping[str, Sequence[str]]) -> None:
        self._arrays = {}
        for ours, theirs in names.items():
            arrays = [_array(file, name, source) for name in theirs]
            self._arrays[ours] = Joined(arrays) if len(arrays) > 1 else arrays[0]

    def __getitem__(self, name: str) -> Any:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _array(file: Any, name: str, source: str) -> Any:
    array = file[name] if isinstance(file, NpzArrays) else StoredArray(file, name, source)
    if not array.ndim:
        raise DatasetError(f"{source}: {name} is a single value, not one per row")
    return array


def _names(file: Any, source: str, options: ReadOptions) -> dict[str, list[str]]:
    """The file's names by ours: those that the user gives, or else the usual ones."""
    check_asked(source, options.names, tuple(USUAL))
    found = _all_names(file)
    names = {
        ours: named(source, ours, theirs, found, options.success) for ours, theirs in options.names.items()
    }
    for ours, usual in USUAL.items():
        present = [name for name in usual if name in file]
        if ours not in names and present:
            names[ours] = present[:1]
    missing = [USUAL[ours][0] for ours in REQUIRED if ours not in names]
    if missing:
        raise DatasetError(
            f"{source}: missing {', '.join(missing)}",
            details=(f"found: {', '.join(sorted(file)) or 'nothing'}", *_known_layout(file)),
            fix=None
            if _known_layout(file)
            else "a D4RL-layout file needs observations, actions, rewards and terminals at its root. For other "
            "names: --column observation=NAME,action=NAME,reward=NAME,terminated=NAME"
            + (hint_at_success(flags_of_success(found)) if USUAL["reward"][0] in missing else ""),
        )
    if len(names["observation"]) > 1:
        shapes = {name: file[name].shape[1:] for name in names["observation"]}
        names["observation"] = list(kept_parts(source, shapes, options.drop_columns))
    flat = [name for name in found if _array_of_numbers(file, name)]
    for ours, theirs in names.items():
        if len(theirs) == 1 and theirs[0] in flat:
            refuse_one_of_several(source, ours, theirs[0], flat, options.drop_columns)
    others = [name for name in options.drop_columns if name not in flat or [name] == names["observation"]]
    if others and not any(len(found) > 1 for found in names.values()):
        raise DatasetError(
            f"{source}: --drop-columns {others[0]}: this file has no observation of several parts"
        )
    return names


def _known_layout(file: Any) -> tuple[str, ...]:
    """A word on layouts that people have and that are not read."""
    if any(name.startswith("traj_") for name in file):
        return ("this looks like a trajectory file of ManiSkill, which is not read: store flat arrays",)
    if any(name.startswith("episode_") for name in file):
        return ("this looks like the main_data.hdf5 of a Minari dataset: name its folder, with metadata.json",)
    return ()


def _all_names(file: Any) -> list[str]:
    """Names of all arrays, also of those in groups."""
    return list(file) if isinstance(file, NpzArrays) else list(array_names(file))


def _array_of_numbers(file: Any, name: str) -> bool:
    array = file[name]
    return array.shape is not None and array.ndim == 1 and array.dtype.kind in "fiu"


def _check(columns: _Columns, source: str) -> int:
    """The number of rows, of a file whose columns fit each other."""
    lengths = {name: columns[name] for name in columns}
    rows = len(columns["reward"])
    if columns["reward"].ndim > 1 and columns["observation"].ndim > 2 and columns["reward"].shape[1] > 1:
        raise DatasetError(
            f"{source}: rewards have shape {columns['reward'].shape}, "
            f"observations {columns['observation'].shape}",
            details=("this looks like (episodes, steps, ...), padded to one length",),
            fix="store the steps of all episodes one after the other, without the padding: x[mask]",
        )
    longer = [
        n for n in ("observation",) if rows < len(columns[n]) <= 2 * rows and len(columns["action"]) == rows
    ]
    if longer:
        raise DatasetError(
            f"{source}: {len(columns['observation'])} observations, {rows} actions and rewards",
            details=(
                f"{len(columns['observation']) - rows} more: episodes of T steps with T + 1 observations?",
            ),
            fix="store observations[:-1] of each episode, and observations[1:] as next_observations",
        )
    check_same_length(source, **lengths)
    return rows


def _batches(
    path: Path, source: str, names: Mapping[str, Sequence[str]], trajectories: Trajectories, rows: int
) -> Iterator[Columns]:
    with _arrays(path) as file:
        arrays = _Columns(file, source, names)
        count, is_ours = len(arrays["reward"]), OURS in file.attrs
        ahead = _Columns(file, source, {"observation": names["observation"]}) if trajectories.unbroken else None
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            columns = {name: arrays[name][part] for name in names}
            if is_ours:
                columns |= {name: _array(file, key, source)[part] for key, name in OWN_KEYS.items()}
            if trajectories.ends is not None:
                row = np.arange(part.start, part.stop)
                columns["episode_id"] = np.searchsorted(trajectories.ends, row)
                terminated = np.asarray(columns["terminated"]).reshape(-1) != 0
                columns["truncated"] = np.isin(row, trajectories.ends) & ~terminated
            if ahead is not None and "next_observation" not in columns:
                following = ahead["observation"][part.start + 1 : part.stop + 1]
                columns["has_successor"] = np.arange(part.start, part.stop) < count - 1
                columns["next_observation"] = np.zeros_like(columns["observation"])
                columns["next_observation"][: len(following)] = following
            yield columns


def _others(path: Path, rows: int, names: Sequence[str]) -> Iterator[pa.Table]:
    with _arrays(path) as file:
        yield from array_tables({name: _array(file, name, str(path)) for name in names}, rows)
