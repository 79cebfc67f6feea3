"""Datasets in memory: each is written to a file of the format that its library writes, and read from there.

So what is read, checked and scored is the same whether a dataset was saved before or not, and later commands
find the rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vaco_curate.core.transitions import Transitions
from vaco_curate.data.formats.others import table_of
from vaco_curate.data.formats.parquet import ParquetWriter
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import DatasetError

Source: TypeAlias = Any
"""The address of a dataset, or one in memory: a dict of arrays by D4RL's names or ours; a table of polars,
pandas, pyarrow or ``datasets``; a Minari dataset; a d3rlpy replay buffer; or ``Transitions``."""


def is_address(source: Source) -> bool:
    """Whether a source is where a dataset lies, and not the dataset itself."""
    return isinstance(source, (str, Path)) or hasattr(source, "protocol")  # a path in an object store


@contextlib.contextmanager
def on_disk(source: Source) -> Iterator[str]:
    """The address of a source; that of one in memory ends with the context.

    Raises:
        DatasetError: as ``written``.
    """
    if is_address(source):
        yield str(source)
        return
    with TemporaryDirectory(prefix="vaco-curate-") as folder:
        yield str(written(source, Path(folder) / "rows"))


def written(source: Source, stem: Path) -> Path:
    """Write a dataset that is in memory.

    Args:
        stem: of the file, without suffix; one of this name is replaced.

    Returns:
        The file; or for a whole Minari dataset its folder, where it lies already.

    Raises:
        DatasetError: it is none of ``Source``.
    """
    if hasattr(source, "iterate_episodes") and hasattr(source, "storage"):
        return _minari(source, stem)
    if isinstance(source, Transitions):
        return _transitions(source, stem, lambda episodes: np.ones(len(episodes), bool))
    if hasattr(source, "dump") and hasattr(source, "transition_count"):
        path = stem.with_name(f"{stem.name}.h5")
        with path.open("w+b") as file:
            source.dump(file)
        return path
    if isinstance(source, Mapping):
        return _arrays(dict(_flat(source)), stem)
    return _table(source, stem)


def _minari(dataset: Any, stem: Path) -> Path:
    from vaco_curate.data.formats import read_dataset  # which reads what is in memory through this module

    folder, chosen = Path(dataset.storage.data_path), dataset.episode_indices
    if chosen is None or len(chosen) == dataset.storage.total_episodes:
        return folder
    return _transitions(read_dataset(folder), stem, lambda episodes: np.isin(episodes, chosen))


def _transitions(data: Transitions, stem: Path, choose: Callable[[Any], Any]) -> Path:
    """The rows of some episodes."""
    rows = np.flatnonzero(choose(data.episode_id))
    writer = ParquetWriter(Target(stem.parent, [stem.name], [len(data)], {}))
    writer.write(data, rows, {})
    writer.close()
    return stem.with_name(f"{stem.name}.parquet")


def _flat(arrays: Mapping[str, Any], folder: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{folder}{name}/")
        else:
            yield f"{folder}{name}", np.asarray(value)


def _arrays(arrays: Mapping[str, Any], stem: Path) -> Path:
    """By D4RL's names as such a file; by others as a table, in which episodes may have numbers."""
    if "observations" in arrays:
        import h5py  # deferred: the training core runs without it

        path = stem.with_name(f"{stem.name}.hdf5")
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values.astype("S") if values.dtype.kind == "U" else values
        return path
    lengths = {name: values.shape[:1] for name, values in arrays.items()}
    if len(set(lengths.values())) != 1 or any(values.ndim not in (1, 2) for values in arrays.values()):
        shapes = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
        raise DatasetError(
            "a dict of arrays needs an entry for every row in each, one number or a vector",
            details=(f"found: {shapes or 'nothing'}",),
        )
    return _table(table_of(arrays), stem)


def _table(source: Any, stem: Path) -> Path:
    path = stem.with_name(f"{stem.name}.parquet")
    try:
        if hasattr(source, "with_format"):  # of datasets: with the rows that were selected, in their order
            source = source.with_format("arrow")[:]
        pq.write_table(pa.table(source), path)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise DatasetError(
            f"a {type(source).__module__}.{type(source).__name__} is no dataset that is known",
            details=(str(error).splitlines()[0],),
            fix="give a path, a dict of arrays, a table of polars, pandas, pyarrow or datasets, a Minari "
            "dataset, or a d3rlpy replay buffer",
        ) from error
    return path
