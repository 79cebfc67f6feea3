"""Dataset formats: one module each with ``matches`` and ``recordings``, and one entry in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vaco_curate.errors import DatasetError, RunError
from vaco_curate.files import is_local, place
from vaco_curate.formats import d3rlpy_file, d4rl, lerobot, minari, ogbench, parquet, robomimic
from vaco_curate.formats.dataset import Dataset
from vaco_curate.formats.options import ReadOptions
from vaco_curate.formats.recording import Recording, natural_order
from vaco_curate.formats.writing import RowsWriter, Target
from vaco_curate.manifest import read_manifest
from vaco_curate.transitions import Transitions

__all__ = [
    "DATA_FOLDER",
    "FORMATS",
    "WRITERS",
    "Dataset",
    "Format",
    "ReadOptions",
    "Recording",
    "RowsWriter",
    "Target",
    "open_dataset",
    "read_dataset",
]


@dataclass(frozen=True)
class Format:
    """How a format is recognized and read.

    Attributes:
        matches: whether a source (a path, or an id) looks like this format; reads no rows.
        recordings: the source, opened: one recording for each file that is a unit of its own.
        looks_like: one line for messages.
    """

    matches: Callable[[str], bool]
    recordings: Callable[[str, ReadOptions], tuple[Recording, ...]]
    looks_like: str


FORMATS: Mapping[str, Format] = {
    "robomimic": Format(robomimic.matches, robomimic.recordings, "a robomimic .hdf5 file"),
    "d3rlpy": Format(d3rlpy_file.matches, d3rlpy_file.recordings, "an .h5 file that d3rlpy dumped"),
    "d4rl": Format(d4rl.matches, d4rl.recordings, "a D4RL-layout .hdf5 file"),
    "ogbench": Format(ogbench.matches, ogbench.recordings, "an OGBench .npz file"),
    "lerobot": Format(lerobot.matches, lerobot.recordings, "the folder of a LeRobot dataset, version 2 or 3"),
    "parquet": Format(parquet.matches, parquet.recordings, "a .parquet file, or a folder of them"),
    "minari": Format(
        minari.matches,
        minari.recordings,
        "a Minari id such as mujoco/hopper/expert-v0 (minari:ID to fetch it), or its folder",
    ),
}
"""In the order in which a source is tried."""

WRITERS: Mapping[str, Callable[[Target], RowsWriter]] = {
    "parquet": parquet.ParquetWriter,
    "d4rl": d4rl.D4RLWriter,
    "minari": minari.MinariWriter,
}
"""Formats that rows can be written in."""

DATA_FOLDER = "data"
"""Where the rows lie in a folder that we write."""

PATTERN = frozenset("*?[")


def open_dataset(source: str, options: ReadOptions | None = None) -> Dataset:
    """Open a dataset of any known format, without reading its rows.

    Args:
        source: a file, a folder, a pattern of several (``logs/*.hdf5``), or the id of a Minari dataset.
            A folder that is no dataset of its own is all the files of one format in it.

    Raises:
        DatasetError: the source is missing, of no known format, or damaged.
    """
    options = options or ReadOptions()
    path = place(source)
    is_pattern = not path.exists() and not PATTERN.isdisjoint(source)
    address = str(path.absolute() if is_pattern else path.resolve())
    rows = str(_rows_of_ours(path)) if path.is_dir() else source
    kind = None if is_pattern else _name_of(rows)
    if not is_local(path) and kind != "parquet":
        raise DatasetError(
            f"{source}: only Parquet is read from an object store, a file or a folder of them",
            fix="copy it here; vaco-curate convert writes Parquet",
        )
    if kind is not None:
        parts = FORMATS[kind].recordings(rows, options)
        if not path.exists():  # an id stands for a folder
            address = str(parts[0].path.resolve())
        return Dataset(source, address, parts, options.max_episode_steps)
    if not path.exists() and not is_pattern:
        raise DatasetError(
            f"{source}: no such file or folder, and no Minari dataset of this id", details=_known_formats()
        )
    members = _members(rows)
    kinds = {_kind_of(member): member for member in members}
    if not members:
        what = "no file matches this pattern" if is_pattern else "not a dataset of a known format"
        raise DatasetError(f"{source}: {what}", details=_known_formats())
    if len(kinds) > 1:
        raise DatasetError(
            f"{source}: files of several formats",
            details=tuple(f"{kind}: {member}" for kind, member in kinds.items()),
            fix="name those of one format, for example with a pattern: 'logs/*.hdf5'",
        )
    (known,) = (FORMATS[kind] for kind in kinds)
    several = tuple(part for member in members for part in known.recordings(member, options))
    return Dataset(source, address, several, options.max_episode_steps)


def read_dataset(source: str, options: ReadOptions | None = None) -> Transitions:
    """Read a dataset of any known format into memory.

    Args:
        source: as for ``open_dataset``.

    Raises:
        DatasetError: the source is missing, of no known format, or unusable.
    """
    return open_dataset(source, options).read()


def _name_of(source: str) -> str | None:
    return next((name for name, known in FORMATS.items() if known.matches(source)), None)


def _kind_of(member: str) -> str:
    kind = _name_of(member)
    if kind is None:
        raise DatasetError(f"{member}: not a dataset of a known format", details=_known_formats())
    return kind


def _rows_of_ours(folder: Path) -> Path:
    """Where the rows lie in a folder that we wrote, beside a manifest; else the folder itself."""
    try:
        manifest = read_manifest(folder)
    except RunError:
        return folder
    if manifest.get("complete") is False:
        raise DatasetError(f"{folder}: is not finished", fix="give the command that writes it again")
    return folder / DATA_FOLDER if (folder / DATA_FOLDER).is_dir() else folder


def _members(source: str) -> list[str]:
    """What a pattern matches, or what of a known format lies in a folder; in the order of their numbers."""
    path = Path(source)
    if path.is_dir():
        found = [str(file) for file in path.iterdir() if file.is_file() and _name_of(str(file)) is not None]
    else:
        anchor = Path(path.anchor)
        found = [str(member) for member in anchor.glob(str(path.relative_to(anchor)))]
    return sorted(found, key=natural_order)


def _known_formats() -> tuple[str, ...]:
    return tuple(f"{name}: {known.looks_like}" for name, known in FORMATS.items())
