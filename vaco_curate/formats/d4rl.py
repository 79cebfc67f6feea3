"""D4RL-layout HDF5: flat arrays ``observations``, ``actions``, ``rewards``, ``terminals``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.columns import transitions_from_columns
from vaco_curate.errors import DatasetError
from vaco_curate.formats.environment import action_bounds
from vaco_curate.formats.options import ReadOptions
from vaco_curate.transitions import Array, Transitions

REQUIRED = {"observations": "observation", "actions": "action", "rewards": "reward", "terminals": "terminated"}
OPTIONAL = {"timeouts": "truncated", "next_observations": "next_observation"}


def matches(source: str) -> bool:
    """Whether the source names an HDF5 file."""
    return source.lower().endswith((".hdf5", ".h5"))


def read(source: str, options: ReadOptions) -> Transitions:
    """Read a D4RL-layout file.

    Raises:
        DatasetError: not HDF5, truncated, a key missing, or contents that ``Transitions`` refuses.
    """
    import h5py  # deferred: the training core runs without it

    path = Path(source)
    if not path.is_file():
        raise DatasetError(f"{source}: no such file", fix=f"check the path; the current folder is {Path.cwd()}")
    try:
        with h5py.File(path, "r") as file:
            return _read_open(file, source, options)
    except OSError as error:
        raise DatasetError(
            f"{source}: not a readable HDF5 file",
            details=(str(error),),
            fix="the file may be truncated or of another format: download or export it again",
        ) from error


def _read_open(file: Any, source: str, options: ReadOptions) -> Transitions:
    import h5py  # deferred: the training core runs without it

    if options.columns:
        raise DatasetError(f"{source}: --column names the columns of Parquet, this is HDF5")
    missing = [key for key in REQUIRED if key not in file]
    if missing:
        raise DatasetError(
            f"{source}: missing {', '.join(missing)}",
            details=(f"found: {', '.join(sorted(file)) or 'nothing'}",),
            fix="a D4RL-layout file needs observations, actions, rewards and terminals at its root",
        )
    groups = [key for key in REQUIRED | OPTIONAL if isinstance(file.get(key), h5py.Group)]
    if groups:
        raise DatasetError(
            f"{source}: {groups[0]} is a group, not an array",
            details=(f"it holds: {', '.join(file[groups[0]])}",),
            fix="store one array of state vectors",
        )
    columns: dict[str, Array] = {
        name: file[key][()] for key, name in (REQUIRED | OPTIONAL).items() if key in file
    }
    scalar = [name for name, values in columns.items() if np.ndim(values) == 0]
    if scalar:
        raise DatasetError(f"{source}: {', '.join(scalar)} is a single value, not one per row")
    env_id = _env_id(file)
    low, high = action_bounds(env_id)
    return transitions_from_columns(
        columns,
        source=source,
        format_name="d4rl",
        path=Path(source),
        max_episode_steps=options.max_episode_steps,
        env_id=env_id,
        action_low=low,
        action_high=high,
    )


def _env_id(file: Any) -> str | None:
    value = file.attrs.get("env_id")
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)
