"""Rows in D4RL's layout, as HDF5."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.formats.d4rl import OURS
from vaco_curate.data.formats.others import stored_values
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import require_space


def flat_columns(piece: Transitions, rows: Array) -> dict[str, Array]:
    """Some rows of a piece by D4RL's names.

    Readers of this layout take the next row for a row's successor, and leave out a row that timed out. So every
    row that is not followed by its successor gets a timeout, within an episode too where rows are missing. A
    next observation that is not known repeats the observation.
    """
    observation, known = piece.observation[rows], piece.has_successor[rows]
    broken = np.ones(len(rows), bool)
    broken[:-1] = (np.diff(rows) != 1) | ~piece.follows[rows[:-1]]
    return {
        "observations": observation,
        "actions": piece.action[rows],
        "rewards": piece.reward[rows],
        "terminals": piece.terminated[rows],
        "timeouts": piece.truncated[rows] | (broken & ~piece.terminated[rows]),
        "next_observations": np.where(known[:, None], piece.next_observation[rows], observation),
    }


class D4RLWriter:
    """``writing.RowsWriter``: a file for each recording, in which ``infos`` hold what D4RL has no names for."""

    def __init__(self, target: Target) -> None:
        self._paths = [target.folder / f"{name}.hdf5" for name in target.names]
        self._ends = target.first_row + np.cumsum(target.rows)
        self._facts = dict(target.facts)
        self._env_id: str | None = None
        self._empty: dict[str, Array] = {}
        self._has_holes = False
        self._number, self._file = -1, cast(Any, None)  # of the file that is open; rows come in their order

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """As the protocol; further columns lie under ``infos``, those of words as bytes."""
        columns = self._columns(piece, rows) | {
            f"infos/{name.removeprefix('infos/')}": stored_values(name, values)
            for name, values in extra.items()
        }
        self._has_holes |= bool(
            (columns["timeouts"] & ~piece.truncated[rows] & piece.has_successor[rows]).any()
        )
        require_space(self._paths[0].parent, _most_bytes(columns))
        self._env_id, self._empty = piece.env_id, {key: values[:0] for key, values in columns.items()}
        shard = np.searchsorted(self._ends, piece.first_row + rows, side="right")
        for number in np.unique(shard).tolist():
            self._go_on_to(number)
            chosen = shard == number
            for key, values in columns.items():
                array = self._file[key]
                array.resize(len(array) + int(chosen.sum()), axis=0)
                array[len(array) - int(chosen.sum()) :] = values[chosen]

    @property
    def notes(self) -> tuple[str, ...]:
        """What readers must heed where rows within episodes are missing."""
        if not self._has_holes:
            return ()
        return (
            "rows within episodes are missing, and timeouts are set there: next_observations are right; "
            "a reader that takes the next row for the successor must heed timeouts",
        )

    def close(self) -> None:
        """As the protocol."""
        self._go_on_to(len(self._paths) - 1)
        self._file.close()

    def _columns(self, piece: Transitions, rows: Array) -> dict[str, Array]:
        return flat_columns(piece, rows) | {
            "infos/index": piece.first_row + rows,
            "infos/truncated": piece.truncated[rows],
            "infos/has_successor": piece.has_successor[rows],
            "infos/episode_id": piece.episode_id[rows],
            "infos/step_index": piece.step_index[rows],
        }

    def _go_on_to(self, number: int) -> None:
        """Close files and make others, up to the one of this number: a thousand cannot be open at a time."""
        while self._number < number:
            if self._file is not None:
                self._file.close()
            self._number += 1
            self._file = self._made(self._paths[self._number])

    def _made(self, path: Path) -> Any:
        import h5py  # deferred: the training core runs without it

        file = h5py.File(path, "w")
        for key, values in self._empty.items():
            shape = values.shape[1:]
            _refuse_taken(file, key)
            file.create_dataset(
                key,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(CHUNK_ROWS, *shape),
                dtype=values.dtype,
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=True,  # a checksum, which every reader of HDF5 holds a chunk against
            )
        if self._env_id is not None:
            file.attrs["env_id"] = self._env_id
        file.attrs[OURS] = np.bytes_(json.dumps(self._facts))
        return file


def _refuse_taken(file: Any, key: str) -> None:
    """Refuse names that are no names here: of nothing, or ``a`` beside ``a/b``, which makes ``a`` a folder."""
    import h5py  # deferred: the training core runs without it

    parts = key.split("/")
    folders = ["/".join(parts[:n]) for n in range(1, len(parts))]
    if "" in parts or key in file or any(isinstance(file.get(folder), h5py.Dataset) for folder in folders):
        raise DatasetError(
            f"column {key.removeprefix('infos/')!r} cannot have this name in HDF5, beside the others",
            fix="name the columns to write with --columns, or choose --format parquet",
        )


CHUNK_ROWS = 8_192


def _most_bytes(columns: Mapping[str, Array]) -> int:
    """That these rows and what HDF5 still holds of others can take, and as many again for its own tables."""
    return 2 * sum(
        (len(values) + CHUNK_ROWS) * int(np.prod(values.shape[1:])) * values.itemsize
        for values in columns.values()
    )
