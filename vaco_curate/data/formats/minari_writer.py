"""Rows as a Minari dataset."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.formats.minari import INFOS
from vaco_curate.data.formats.others import stored_values
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import require_space

VERSIONED = re.compile(r"-v\d+$")
EPISODE_BYTES, SPARE_BYTES = 1 << 15, 1 << 20
"""That HDF5 takes for an episode beside its rows, at most, and that it may hold back."""


class MinariWriter:
    """``writing.RowsWriter``: one Minari dataset of whole episodes, stored as HDF5.

    Minari holds an episode's observations as one series, one longer than its steps. So an episode that goes on
    after a true end, or whose stored successors are not the next observations, becomes several, and a last row
    whose successor is unknown is left out: the row before it leads to its observation. There is no part of an
    episode in Minari: a filter of transitions cannot be written.
    """

    def __init__(self, target: Target) -> None:
        self._folder, self._facts = target.folder, dict(target.facts)
        self._id = _id_of(target.folder.resolve().parent.parent / target.names[0])
        self._storage: Any = None
        self._episodes, self._left_out = 0, 0

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """As the protocol; further columns become ``infos`` of the steps.

        Raises:
            DatasetError: some rows of an episode, and not all.
        """
        from minari.data_collector import EpisodeBuffer  # deferred: heavy

        chosen = np.isin(np.arange(len(piece)), rows)
        _refuse_parts(piece, chosen)
        position = np.cumsum(chosen) - 1
        infos = {"index": piece.first_row + rows}
        infos |= {name.removeprefix(INFOS): stored_values(name, values) for name, values in extra.items()}
        buffers: list[Any] = []
        written = 0
        for steps, last_observation in _series(piece):
            if chosen[steps.start]:
                written += steps.stop - steps.start
                count, terminated = steps.stop - steps.start, piece.terminated[steps]
                buffer = EpisodeBuffer(
                    id=self._episodes + len(buffers),
                    observations=np.concatenate([piece.observation[steps], last_observation[None]]),
                    actions=piece.action[steps],
                    rewards=list(piece.reward[steps]),
                    terminations=list(terminated),
                    truncations=list((np.arange(count) == count - 1) & ~terminated),
                    infos={name: values[position[steps]] for name, values in infos.items()},
                )
                buffers.append(buffer)
        if self._storage is None:
            self._create(piece)
        self._episodes, self._left_out = self._episodes + len(buffers), self._left_out + len(rows) - written
        columns = piece.observation, piece.action, piece.reward, *infos.values()
        bytes_of_rows = sum(values.nbytes for values in columns)
        require_space(self._folder, 2 * bytes_of_rows + EPISODE_BYTES * len(buffers) + SPARE_BYTES)
        self._storage.update_episodes(buffers)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many rows were left out."""
        if not self._left_out:
            return ()
        return (
            f"{self._left_out} row(s), the last of their episodes, are left out: Minari holds the observation "
            "after every step, and theirs is not known",
        )

    def close(self) -> None:
        """As the protocol."""
        self._storage.update_metadata({"description": json.dumps(self._facts)})

    def _create(self, piece: Transitions) -> None:
        import minari  # deferred: heavy
        from gymnasium.spaces import Box
        from minari.dataset.minari_storage import MinariStorage

        def space(values: Array, low: Array | float = -np.inf, high: Array | float = np.inf) -> Any:
            return Box(low, high, values.shape[1:], values.dtype.type)

        bounded = piece.action_low is not None and piece.action_high is not None
        ends = (piece.action_low, piece.action_high) if bounded else ()
        bounds = [np.asarray(end, piece.action.dtype) for end in ends]
        self._storage = MinariStorage.new(
            self._folder, space(piece.observation), space(piece.action, *bounds), _spec(piece), "hdf5"
        )
        references = dict(zip(("ref_min_score", "ref_max_score"), piece.reference_returns or (), strict=False))
        self._storage.update_metadata(
            {"dataset_id": self._id, "minari_version": minari.__version__, **references}
        )


def _id_of(folder: Path) -> str:
    """The id of a dataset that gets this folder: in the local store its place there, elsewhere its name.

    Raises:
        DatasetError: in the local store, without a version: Minari could then list none of its datasets.
    """
    from minari.storage import get_dataset_path  # deferred: heavy

    store = get_dataset_path("").resolve()
    if not folder.is_relative_to(store):
        plain = re.sub(r"[^\w-]+", "-", folder.name, flags=re.ASCII)
        return plain if VERSIONED.search(plain) else f"{plain}-v0"
    if re.search(r"[^\w-]", folder.name, flags=re.ASCII):
        raise DatasetError(
            f"{folder}: in Minari's local store, names are of letters, digits, - and _",
            fix="choose another --out",
        )
    if not VERSIONED.search(folder.name):
        raise DatasetError(
            f"{folder}: in Minari's local store, a name ends in a version",
            fix=f"--out {folder}-v0",
        )
    return folder.relative_to(store).as_posix()


def _refuse_parts(piece: Transitions, chosen: Array) -> None:
    counts = np.add.reduceat(chosen.astype(np.int64), piece.episode_start)
    partly = np.flatnonzero((counts > 0) & (counts < piece.episode_length))
    if partly.size:
        episode = int(partly[0])
        raise DatasetError(
            f"Minari holds whole episodes, and of episode {piece.episode_id[piece.episode_start[episode]]} "
            f"{counts[episode]} of {piece.episode_length[episode]} rows are kept",
            fix="choose episodes with --level episode, or another --format, such as parquet",
        )


def _series(piece: Transitions) -> Iterator[tuple[slice, Array]]:
    """(rows, observation after them) of each run of rows in which every successor is the next observation."""
    for run in np.split(np.arange(len(piece)), piece.path_start[1:]):
        first, last = int(run[0]), int(run[-1])
        if piece.has_successor[last]:
            yield slice(first, last + 1), piece.next_observation[last]
        elif piece.terminated[last]:
            yield slice(first, last + 1), piece.observation[last]
        elif last > first:
            yield slice(first, last), piece.observation[last]


def _spec(piece: Transitions) -> Any:
    """Gymnasium's description of the recorded environment; None where it is not known here."""
    import gymnasium  # deferred: heavy

    if piece.env_id is None:
        return None
    try:
        spec = gymnasium.spec(piece.env_id)
    except gymnasium.error.Error:
        return None
    spec.kwargs.update({k: v for k, v in piece.env_kwargs.items() if k != "max_episode_steps"})
    return spec
