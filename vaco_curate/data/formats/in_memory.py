"""Datasets in memory: each is written to a file of the format that its library writes, and read from there.

So what is read, checked and scored is the same whether a dataset was saved before or not, and later commands
find the rows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vaco_curate.core.transitions import Transitions
from vaco_curate.data.formats.others import chosen_rows, table_of, written_names
from vaco_curate.data.formats.parquet_writer import ParquetWriter
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import CurateError, DatasetError
from vaco_curate.store.files import address_of

Source: TypeAlias = Any
"""The address of a dataset, or one in memory: a dict of arrays by D4RL's names or ours; a table of polars,
pandas, pyarrow or ``datasets``; a Minari dataset; a d3rlpy replay buffer; or ``Transitions``."""


IN_MEMORY = "the dataset in memory"


def is_address(source: Source) -> bool:
    """Whether a source is where a dataset lies, and not the dataset itself."""
    return isinstance(source, str | os.PathLike) or hasattr(source, "protocol")  # a path in an object store


@contextlib.contextmanager
def on_disk(source: Source) -> Iterator[str]:
    """The address of a source; that of one in memory ends with the context.

    Raises:
        DatasetError: as ``written``.
    """
    if is_address(source):
        yield address_of(source)
        return
    with TemporaryDirectory(prefix="vaco-curate-") as folder:
        path = written(source, Path(folder) / "rows")
        with named_in_memory(path):
            yield str(path)


@contextlib.contextmanager
def named_in_memory(path: Path) -> Iterator[None]:
    """Let refusals of a file speak of the dataset in memory that was written to it."""
    try:
        yield
    except DatasetError as error:
        problem = error.problem.replace(str(path), IN_MEMORY)
        fix = "mend the arrays that were given" if error.fix is not None and "file" in error.fix else error.fix
        raise DatasetError(problem, details=error.details, fix=fix) from error


def written(source: Source, stem: Path) -> Path:
    """Write a dataset that is in memory.

    Args:
        stem: of the file, without suffix; one of this name is replaced.

    Returns:
        The file; or for a whole Minari dataset its folder, where it lies already.

    Raises:
        DatasetError: it is none of ``Source``, or holds what no file can.
    """
    try:
        return _written(source, stem)
    except CurateError:
        raise
    except Exception as error:  # each library has errors of its own for what it cannot convert
        kind = f"{type(source).__module__}.{type(source).__name__}"
        reason = str(error).strip().splitlines()
        raise DatasetError(
            f"the dataset in memory, a {kind}, cannot be written to a file",
            details=(f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}",),
            fix="give a path, a dict of arrays of numbers, a table of polars, pandas, pyarrow or datasets, a "
            "Minari dataset, or a d3rlpy replay buffer",
        ) from error


def _written(source: Source, stem: Path) -> Path:
    if hasattr(source, "iterate_episodes") and hasattr(source, "storage"):
        return _minari(source, stem)
    if isinstance(source, Transitions):
        return _rows(stem, [(source, np.arange(len(source)), {})])
    if hasattr(source, "dump") and hasattr(source, "transition_count"):
        path = stem.with_name(f"{stem.name}.h5")
        with path.open("w+b") as file:
            source.dump(file)
        return path
    if isinstance(source, Mapping):
        return _arrays(dict(_flat(source)), stem)
    return _table(source, stem)


def _minari(dataset: Any, stem: Path) -> Path:
    from vaco_curate.data.formats import open_dataset  # which reads what is in memory through this module

    folder, chosen = Path(dataset.storage.data_path), dataset.episode_indices
    if chosen is None or len(chosen) == dataset.storage.total_episodes:
        return folder
    whole = open_dataset(str(folder))
    names = written_names(whole.further.types)
    others = whole.further.rows(list(names))

    def pieces() -> Iterator[tuple[Transitions, Any, dict[str, pa.Array]]]:
        for piece in whole.pieces():
            table = others.read(len(piece)) if names else pa.table({})
            rows = np.flatnonzero(np.isin(piece.episode_id, chosen))
            yield piece, rows, chosen_rows(table, rows, names)

    return _rows(stem, pieces())


def _rows(stem: Path, pieces: Iterable[tuple[Transitions, Any, Mapping[str, Any]]]) -> Path:
    """(piece, rows of it, further columns) as a file."""
    writer = None
    for piece, rows, further in pieces:
        if writer is None:
            writer = ParquetWriter(Target(stem.parent, [stem.name], [1 << 62], {}, piece.first_row))
        writer.write(piece, rows, further)
    if writer is not None:
        writer.close()
    return stem.with_name(f"{stem.name}.parquet")


def _flat(arrays: Mapping[str, Any], folder: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{folder}{name}/")
        else:
            if hasattr(value, "detach"):  # a tensor: of any device and type, and with its gradient
                value = value.detach().cpu()
                value = value.float() if "bfloat16" in str(value.dtype) else value
            yield f"{folder}{name}", _plain(np.asarray(value), f"{folder}{name}")


def _plain(values: Any, name: str) -> Any:
    """Numbers or words; objects that are all words become such."""
    if values.dtype.kind == "O" and all(isinstance(value, str) for value in values.reshape(-1)):
        values = values.astype(str)
    if values.dtype.kind not in "fiubSU":
        raise DatasetError(f"the dataset in memory: {name} holds {values.dtype}, not numbers or words")
    return values


def _arrays(arrays: Mapping[str, Any], stem: Path) -> Path:
    """By D4RL's names as such a file; by others as a table, in which episodes may have numbers."""
    if "observations" in arrays:
        import h5py  # deferred: the training core runs without it

        path = stem.with_name(f"{stem.name}.hdf5")
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = np.char.encode(values, "utf-8") if values.dtype.kind == "U" else values
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
    if hasattr(source, "with_format"):  # of datasets: with the rows that were selected, in their order
        source = source.with_format("arrow")[:]
    elif hasattr(source, "to_arrow"):  # of polars, which has types of its own for words
        source = source.to_arrow()
    table = pa.table(source)
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            words = table.column(number).cast(field.type.value_type)
            table = table.set_column(number, field.name, words)
    table = table.cast(pa.schema([(field.name, _stored(field.type)) for field in table.schema]))
    pq.write_table(table, path)
    return path


def _stored(kind: pa.DataType) -> pa.DataType:
    return pa.large_string() if kind == pa.string_view() else kind
