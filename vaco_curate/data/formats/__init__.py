"""Dataset formats: one module each with ``matches`` and ``recordings``, and one entry in ``FORMATS``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.episodes import Columns
from vaco_curate.data.formats import d3rlpy_file, d4rl, lerobot, minari, ogbench, parquet, qlearning, robomimic
from vaco_curate.data.formats.d4rl_writer import D4RLWriter
from vaco_curate.data.formats.dataset import Dataset
from vaco_curate.data.formats.in_memory import Source, on_disk
from vaco_curate.data.formats.minari_writer import MinariWriter
from vaco_curate.data.formats.openings import opened_once
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.parquet_writer import ParquetWriter
from vaco_curate.data.formats.recording import Recording, natural_order
from vaco_curate.data.formats.writing import Target, Writable
from vaco_curate.errors import CurateError, DatasetError, SettingsError
from vaco_curate.store.files import FolderLike, address_of, is_hidden, is_local, place, stamp, store_unusable
from vaco_curate.store.folders import RUN
from vaco_curate.store.manifest import check_files, is_ours, read_manifest

__all__ = [
    "DATA_FOLDER",
    "FORMATS",
    "MASKS",
    "WRITERS",
    "Dataset",
    "Format",
    "ReadOptions",
    "Recording",
    "RowsWriter",
    "Target",
    "open_dataset",
    "opened_once",
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

WRITERS: Mapping[str, Writable] = {
    "parquet": Writable(ParquetWriter, in_stores=True, plain=False),
    "d4rl": Writable(D4RLWriter),
    "minari": Writable(MinariWriter, one_file=True),
    "npz": Writable(qlearning.QlearningWriter, one_file=True),
}
"""Formats that rows can be written in."""

MASKS: Mapping[str, Callable[[Path, Dataset, Array, str], None]] = {
    "robomimic": robomimic.write_masks,
    "lerobot": lerobot.write_advantages,
}
"""Formats in which a filter is a mask for the source: (folder, dataset, keep, name)."""

DATA_FOLDER = "data"
"""Where the rows lie in a folder that we write."""

PATTERN = frozenset("*?[")

FILES_ONLY_HERE = (".hdf5", ".h5", ".npz")
"""Formats that need a file of this machine."""


@opened_once()
def open_dataset(source: FolderLike, read_options: ReadOptions | None = None) -> Dataset:
    """Open a dataset of any known format, without reading its rows.

    Args:
        source: a file, a folder, a pattern of several (``logs/*.hdf5``), or the id of a Minari dataset.
            A folder that is no dataset of its own is all the files of one format in it.

    Raises:
        DatasetError: the source is missing, of no known format, or damaged.
    """
    path, options = place(source), ReadOptions() if read_options is None else read_options
    source = address_of(source)
    if not isinstance(options, ReadOptions):
        raise SettingsError(
            f"read_options: ReadOptions are needed, not {type(options).__name__}",
            fix='give ReadOptions(success="NAME") and the like',
        )
    if is_local(path):
        try:
            dataset = _opened(source, path, options)
        except DatasetError as error:
            above = _lerobot_above(path)
            if above is None or options.columns:  # single files of one can be read, with names
                raise
            raise DatasetError(
                f"{source}: is a part of a LeRobot dataset, which is read as a whole",
                details=(error.problem,),
                fix=f"name its folder: {above}",
            ) from error
        for file in dataset.files:
            _refuse_name(file)
        return dataset
    if path.suffix in FILES_ONLY_HERE:
        raise _only_parquet(source)
    try:
        return _opened(source, path, options)
    except CurateError:
        raise
    except Exception as error:  # each store's client has errors of its own
        raise store_unusable(source, error) from error


def _lerobot_above(path: Path) -> Path | None:
    """The LeRobot dataset that a file or folder lies in; None for none."""
    return next((folder for folder in path.absolute().parents[:3] if lerobot.matches(str(folder))), None)


def _refuse_name(path: Path) -> None:
    """Refuse names that no other file could be given: outputs are named after their sources."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{path}: its name is not UTF-8", fix="rename it") from error


def _absolute(source: str, path: Path) -> Path:
    try:
        return path.resolve()
    except (RuntimeError, OSError) as error:  # a RuntimeError before Python 3.13
        raise DatasetError(f"{source}: a link that leads to itself", fix="check the path") from error


def _only_parquet(source: str) -> DatasetError:
    return DatasetError(
        f"{source}: only Parquet is read from an object store, a file or a folder of them",
        fix="copy it here; vaco-curate convert writes Parquet",
    )


def _opened(source: str, path: Path, options: ReadOptions) -> Dataset:
    is_pattern = not path.exists() and not PATTERN.isdisjoint(source)
    address = str(path.absolute() if is_pattern else _absolute(source, path))
    hashes: dict[Path, str] = {}
    rows = str(path) if path.exists() or source.startswith("~") else source
    if path.is_dir():
        folder, hashes = _rows_of_ours(path)
        rows = str(folder)
    kind = None if is_pattern else _name_of(rows)
    if not is_local(path) and kind != "parquet":
        raise _only_parquet(source)
    if kind is not None:
        parts = _recordings(kind, rows, options)
        if not path.exists():  # an id stands for a folder
            address = str(parts[0].path.resolve())
        return _dataset(source, address, parts, options, hashes)
    if not path.exists() and not is_pattern:
        raise DatasetError(
            f"{source}: no such file or folder, and no Minari dataset of this id", details=_known_formats()
        )
    members = _members(rows if path.is_dir() else str(path))
    kinds = {_kind_of(member): member for member in members}
    if not members:
        what = "no file matches this pattern" if is_pattern else "not a dataset of a known format"
        inner = _datasets_in(path) if path.is_dir() else []
        held = (f"it holds folders that are datasets: {', '.join(inner)}; name one, or several by a pattern",)
        raise DatasetError(f"{source}: {what}", details=held if inner else _known_formats())
    if len(kinds) > 1:
        raise DatasetError(
            f"{source}: files of several formats",
            details=tuple(f"{kind}: {member}" for kind, member in kinds.items()),
            fix="name those of one format, for example with a pattern: 'logs/*.hdf5'",
        )
    (only,) = kinds
    several = tuple(part for member in members for part in _recordings(only, member, options))
    return _dataset(source, address, several, options, hashes)


def _dataset(
    source: str,
    address: str,
    parts: tuple[Recording, ...],
    options: ReadOptions,
    hashes: Mapping[Path, str],
) -> Dataset:
    return Dataset(
        source,
        address,
        parts,
        max_episode_steps=options.max_episode_steps,
        step_cost=options.step_cost,
        by_success=options.success is not None,
        hashes=hashes,
    )


@opened_once()
def read_dataset(source: Source, read_options: ReadOptions | None = None) -> Transitions:
    """Read a dataset of any known format into memory.

    Args:
        source: as for ``open_dataset``, or in memory (``in_memory.Source``).

    Raises:
        DatasetError: the source is missing, of no known format, or unusable.
    """
    with on_disk(source) as address:
        return open_dataset(address, read_options).read()


def _recordings(kind: str, source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """What a reader opens; whatever stops it is a refusal, also later, when rows are read."""
    with _refusing(kind, source):
        found = FORMATS[kind].recordings(source, options)
    return tuple(
        dataclasses.replace(
            one, batches=partial(_read, one), others=partial(_read_others, one), stamp=stamp(one.path)
        )
        for one in found
    )


def _read(recording: Recording, rows: int) -> Iterator[Columns]:
    batches = recording.batches(rows)
    while True:
        with _refusing(recording.format, str(recording.path)):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def _read_others(recording: Recording, names: Sequence[str]) -> Iterator[pa.Table]:
    tables = recording.others(names)
    while True:
        with _refusing(recording.format, f"{recording.path}: {', '.join(names)}"):
            table = next(tables, None)
        if table is None:
            return
        yield table


@contextlib.contextmanager
def _refusing(kind: str, source: str) -> Iterator[None]:
    """Make a refusal of what a damaged or odd file does to a reader."""
    try:
        yield
    except (CurateError, MemoryError, ImportError, PermissionError):
        raise
    except Exception as error:  # foreign bytes can stop the libraries beneath in any way
        if "://" in source:
            raise store_unusable(source, error) from error
        reason = str(error).strip().splitlines()
        raise DatasetError(
            f"{source}: cannot be read as {kind}",
            details=(f"{type(error).__name__}: {reason[0] if reason else 'no reason given'}",),
            fix=f"it looks like {FORMATS[kind].looks_like}, but damaged or laid out otherwise: export it again",
        ) from error


def _name_of(source: str) -> str | None:
    for name, known in FORMATS.items():
        with _refusing(name, source):
            if known.matches(source):
                return name
    return None


def _kind_of(member: str) -> str:
    kind = _name_of(member)
    if kind is None:
        raise DatasetError(f"{member}: not a dataset of a known format", details=_known_formats())
    return kind


def _rows_of_ours(folder: Path) -> tuple[Path, dict[Path, str]]:
    """Where the rows lie in a folder that we wrote, beside a manifest, with hashes; else the folder itself.

    Raises:
        RunError: its files are not as they were written.
    """
    if not is_ours(folder):
        return folder, {}
    manifest = read_manifest(folder)
    if manifest.get("kind") == RUN:
        raise DatasetError(
            f"{folder}: is a run of score, no dataset",
            details=(f"its dataset: {manifest['dataset']['source']}",),
            fix=f"name that, or write rows first: vaco-curate filter {folder} --top 10%",
        )
    if manifest.get("complete") is False:
        raise DatasetError(f"{folder}: is not finished", fix="give the command that writes it again")
    # elsewhere, hashes would double what is fetched
    hashes = check_files(folder, manifest, [DATA_FOLDER]) if is_local(folder) else {}
    return folder / DATA_FOLDER if (folder / DATA_FOLDER).is_dir() else folder, hashes


def _members(source: str) -> list[str]:
    """What a pattern matches, or what of a known format lies in a folder; in the order of their numbers.

    Hidden files are left out, but for those that a pattern names itself.
    """
    path = Path(source)
    if path.is_dir():
        visible = [file for file in path.iterdir() if file.is_file() and not is_hidden(file.name)]
        found = [str(file) for file in visible if _name_of(str(file)) is not None]
    elif path.exists():
        found = []
    else:
        start = path.absolute()
        while not start.exists():  # a folder's own name may hold what patterns are made of
            start = start.parent
        pattern = path.absolute().relative_to(start)
        matched = start.glob(str(pattern))
        found = [str(member) for member in matched if not _is_left_out(member.relative_to(start), pattern)]
    return sorted(found, key=natural_order)


def _is_left_out(member: Path, pattern: Path) -> bool:
    """Whether a hidden file or folder was matched without being asked for."""
    folders = any(part.startswith(".") and part not in pattern.parts for part in member.parts[:-1])
    asked = pattern.name.startswith(member.name[:1])
    return folders or (is_hidden(member.name) and not asked)


def _datasets_in(folder: Path) -> list[str]:
    """Names of the folders in a folder that are datasets of a known format."""
    inner = [entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name)]
    return sorted(entry.name for entry in inner if _name_of(str(entry)) is not None)


def _known_formats() -> tuple[str, ...]:
    return tuple(f"{name}: {known.looks_like}" for name, known in FORMATS.items())
