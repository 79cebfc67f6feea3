"""d3rlpy's ``.h5``: an array for each column and episode, such as ``observations_0``; version 1 was flat."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.data.columns import flag_column
from vaco_curate.data.episodes import Columns
from vaco_curate.data.formats.hdf5 import StoredArray, opened, root_keys
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.parts import joined, kept_parts, recorded_parts
from vaco_curate.data.formats.recording import Recording
from vaco_curate.errors import DatasetError

FLAT = "episode_terminals"
"""What only the flat files of d3rlpy 1 hold."""


def matches(source: str) -> bool:
    """Whether the source is an HDF5 file that d3rlpy wrote."""
    keys = root_keys(source)
    return {"columns", "num_episodes"} <= keys or FLAT in keys


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A replay buffer that d3rlpy dumped; episodes of T steps hold T observations.

    Raises:
        DatasetError: without episodes, or with images that are not dropped.
    """
    if options.names or options.max_episode_steps is not None:
        raise DatasetError(
            f"{source}: d3rlpy defines its columns and episode ends",
            fix="leave out --column, --success and --max-episode-steps",
        )
    path = Path(source).absolute()
    with opened(path) as file:
        if FLAT in file:
            shapes, lengths = {"": _array(file, "observations").shape[1:]}, [len(_array(file, "rewards"))]
        else:
            count = int(_array(file, "num_episodes")[()])
            lengths = [len(_array(file, f"rewards_{number}")) for number in range(count)]
            if not lengths:
                raise DatasetError(f"{source}: the dataset has zero episodes")
            shapes = {name: part.shape[1:] for name, part in _parts(file, 0).items()}
        kept = kept_parts(source, shapes, options.drop_columns)
        flat = FLAT in file
    return (
        Recording(
            path=path,
            format="d3rlpy",
            rows=sum(lengths),
            batches=partial(_flat_batches, path) if flat else partial(_batches, path, lengths, kept),
            facts={"observation_parts": recorded_parts(kept)},
        ),
    )


def _array(file: Any, key: str) -> StoredArray:
    return StoredArray(file, key, str(file.filename))


def _parts(file: Any, number: int) -> dict[str, StoredArray]:
    """Arrays of an episode's observations by name: one without a name, or those of a tuple."""
    whole = f"observations_{number}"
    if whole in file:
        return {"": _array(file, whole)}
    parts: dict[str, StoredArray] = {}
    while f"{whole}_{len(parts)}" in file:
        parts[str(len(parts))] = _array(file, f"{whole}_{len(parts)}")
    return parts


def _batches(path: Path, lengths: list[int], kept: dict[str, int], rows: int) -> Iterator[Columns]:
    episodes: list[dict[str, Array]] = []
    count = 0
    with opened(path) as file:
        for number, length in enumerate(lengths):
            ended = bool(_array(file, f"terminated_{number}")[()])
            last = np.arange(length) == length - 1
            episodes.append(
                {
                    "observation": joined(
                        {name: part[()] for name, part in _parts(file, number).items()}, kept
                    ),
                    "action": _array(file, f"actions_{number}")[()],
                    "reward": _array(file, f"rewards_{number}")[()].reshape(-1),
                    "terminated": last & ended,
                    "truncated": last & (not ended),
                    "episode_id": np.full(length, number),
                    "step_index": np.arange(length),
                }
            )
            count += length
            if count >= rows or number == len(lengths) - 1:
                yield {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
                episodes, count = [], 0


def _flat_batches(path: Path, rows: int) -> Iterator[Columns]:
    with opened(path) as file:
        arrays = {key: _array(file, key) for key in ("observations", "actions", "rewards", "terminals", FLAT)}
        count = len(arrays["rewards"])
        for start in range(0, count, rows):
            part = slice(start, min(start + rows, count))
            size, source = part.stop - part.start, str(path)
            terminated = flag_column(arrays["terminals"][part], "terminals", size, source, start)
            ends = flag_column(arrays[FLAT][part], FLAT, size, source, start)
            yield {
                "observation": arrays["observations"][part],
                "action": arrays["actions"][part],
                "reward": arrays["rewards"][part],
                "terminated": terminated,
                "truncated": ends & ~terminated,
            }
