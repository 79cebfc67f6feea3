"""Dataset formats: one module each with ``matches`` and ``read``, and one entry in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vaco_curate.errors import DatasetError
from vaco_curate.formats import d4rl, minari, parquet
from vaco_curate.formats.options import ReadOptions
from vaco_curate.transitions import Transitions

__all__ = ["FORMATS", "Format", "ReadOptions", "read_dataset"]


@dataclass(frozen=True)
class Format:
    """How a format is recognized and read.

    Attributes:
        matches: whether a source (a path, or an id) looks like this format; reads no data.
        read: the whole source as ``Transitions``.
        looks_like: one line for messages.
    """

    matches: Callable[[str], bool]
    read: Callable[[str, ReadOptions], Transitions]
    looks_like: str


FORMATS: Mapping[str, Format] = {
    "d4rl": Format(d4rl.matches, d4rl.read, "a D4RL-layout .hdf5 file"),
    "parquet": Format(parquet.matches, parquet.read, "a .parquet file, or a folder of them"),
    "minari": Format(minari.matches, minari.read, "a Minari id such as mujoco/hopper/expert-v0, or its folder"),
}


def read_dataset(source: str, options: ReadOptions | None = None) -> Transitions:
    """Read a dataset of any known format.

    Args:
        source: a path, or the id of a local Minari dataset.

    Raises:
        DatasetError: the source is missing, of no known format, or unusable.
    """
    for known in FORMATS.values():
        if known.matches(source):
            return known.read(source, options or ReadOptions())
    known_formats = tuple(f"{name}: {known.looks_like}" for name, known in FORMATS.items())
    if not Path(source).exists():
        raise DatasetError(
            f"{source}: no such file or folder, and no Minari dataset of this id", details=known_formats
        )
    raise DatasetError(f"{source}: not a dataset of a known format", details=known_formats)
