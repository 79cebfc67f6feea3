"""OGBench npz: flat arrays, of which ``terminals`` marks the end of a trajectory, not of a task.

Every trajectory has one row more than transitions: its last row holds the state that was reached and an action
whose outcome was not recorded. Rows keep the numbers of the file, so that row is one without a successor.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.columns import Columns, flag_column
from vaco_curate.errors import DatasetError
from vaco_curate.formats.options import ReadOptions
from vaco_curate.formats.parts import kept_parts
from vaco_curate.formats.recording import Recording
from vaco_curate.transitions import Array, check_same_length

REQUIRED = ("observations", "actions", "terminals")


def matches(source: str) -> bool:
    """Whether the source names an npz file."""
    return source.lower().endswith(".npz")


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """An OGBench file; rewards and masks count where a task was chosen and they were saved with it.

    Raises:
        DatasetError: not an npz file, an array missing, or observations are images.
    """
    if options.columns or options.max_episode_steps is not None or options.drop_columns:
        raise DatasetError(f"{source}: OGBench names its arrays and ends itself: no reader options")
    path = Path(source).absolute()
    heads = _heads(path)
    missing = [name for name in REQUIRED if name not in heads]
    if missing:
        raise DatasetError(f"{source}: missing {', '.join(missing)}", details=(f"found: {', '.join(heads)}",))
    kept_parts(source, {"": heads["observations"][0][1:]}, ())
    scalar = [name for name in REQUIRED if not heads[name][0]]
    if scalar:
        raise DatasetError(f"{source}: {', '.join(scalar)} is a single value, not one per row")
    rows = heads["terminals"][0][0]
    names = ("observations", "actions", "terminals", "rewards", "masks")
    held = {name: np.empty(heads[name][0][:1], bool) for name in names if name in heads}
    check_same_length(source, **held)
    has_rewards = "rewards" in heads
    return (
        Recording(
            path=path,
            format="ogbench",
            rows=rows,
            batches=partial(_batches, path, tuple(held)),
            labels=tuple(
                name for name, (shape, _) in heads.items() if shape in ((rows,), (rows, 1)) and name not in held
            ),
            label=partial(_label, path),
            has_rewards=has_rewards,
            notes=(
                "terminals end trajectories, as in OGBench; the last row of each has no successor",
                *(() if has_rewards else ("no rewards, OGBench has none before a task is chosen: read as 0",)),
            ),
        ),
    )


def _heads(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of every array, without reading it."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file", fix=f"check the path; the current folder is {Path.cwd()}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            return {name: _head(archive, name)[:2] for name in names}
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError) as error:
        raise DatasetError(f"{path}: not a readable npz file", details=(str(error),)) from error


def _head(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
    """Shape, type, and the member from where its values begin."""
    member = archive.open(f"{name}.npy")
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[np.lib.format.read_magic(member)](member)
    if fortran or dtype.hasobject:
        raise ValueError(f"{name} is no plain array")
    return shape, dtype, member


def _stream(archive: zipfile.ZipFile, name: str, rows: int) -> Iterator[Array]:
    """An array some rows at a time."""
    shape, dtype, member = _head(archive, name)
    width = dtype.itemsize * int(np.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        count = min(rows, shape[0] - start)
        yield np.frombuffer(member.read(count * width), dtype).reshape(count, *shape[1:])


def _batches(path: Path, names: tuple[str, ...], rows: int) -> Iterator[Columns]:
    try:
        with zipfile.ZipFile(path) as archive:
            streams = [_stream(archive, name, rows) for name in names]
            for number, arrays in enumerate(zip(*streams, strict=True)):
                yield _columns(str(path), dict(zip(names, arrays, strict=True)), number * rows)
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError) as error:
        raise DatasetError(f"{path}: not a readable npz file", details=(str(error),)) from error


def _columns(source: str, arrays: dict[str, Array], first_row: int) -> Columns:
    count = len(arrays["terminals"])
    ends = flag_column(arrays["terminals"], "terminals", count, source, first_row)
    goes_on = flag_column(arrays.get("masks", np.ones(count)), "masks", count, source, first_row)
    return {
        "observation": arrays["observations"],
        "action": arrays["actions"],
        "reward": arrays.get("rewards", np.zeros(count, np.float32)),
        "terminated": ~goes_on,
        "truncated": ends & goes_on,
    }


def _label(path: Path, name: str) -> Array:
    with np.load(path) as arrays:
        return np.asarray(arrays[name]).reshape(-1)
