"""Datasets larger than memory: columns in mapped files, of which the system loads what is used."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.core.scratch import scratch_file
from vaco_curate.core.transitions import DERIVED, ROW_COLUMNS, Array, Transitions
from vaco_curate.data.formats.dataset import Dataset
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.successors import Findings
from vaco_curate.errors import CurateError, DatasetError
from vaco_curate.store.files import hidden, remove, sync_tree, user_cache
from vaco_curate.store.locks import locked
from vaco_curate.store.memory import memory_of_machine

VERSION = 4
"""Of what a cache holds; one of another version is not used."""

FACTS_FILE = "facts.json"

TRAINING_BYTES, MEMBER_BYTES = 72, 32
"""Bytes a row that training holds beside the columns: row numbers, sums along
paths; and by every member, values and TD errors."""


def bytes_in_memory(dataset: Dataset, members: int) -> tuple[int, int]:
    """Bytes that training needs: for the columns, and on its device for a copy and numbers of every row.

    Raises:
        DatasetError: as ``Dataset.pieces``.
    """
    observation, action, _ = _widths(dataset)
    copy = 4 * (2 * observation + action + 2)
    on_device = copy + TRAINING_BYTES + MEMBER_BYTES * members
    return _bytes_a_row(dataset) * len(dataset), on_device * len(dataset)


def _bytes_a_row(dataset: Dataset) -> int:
    flags_and_numbers = 3 + len(DERIVED) + 16
    return _widths(dataset)[2] + flags_and_numbers


def _widths(dataset: Dataset) -> tuple[int, int, int]:
    """(d, k, bytes of the observation, its successor, the action and the reward) of a row."""
    columns = dataset.first_columns
    bytes_of = {name: values.nbytes // len(values) for name, values in columns.items()}
    size = 2 * bytes_of["observation"] + bytes_of["action"] + bytes_of["reward"]
    return columns["observation"].shape[1], columns["action"].shape[1], size


def loaded(dataset: Dataset) -> tuple[Transitions, Path | None]:
    """All rows and None; or where they would fill memory, in mapped files, and a folder for more such files.

    The files have no names, and go with the process: nothing is left behind, however it ends.

    Raises:
        DatasetError: no room on the disk; and as ``Dataset.pieces``.
    """
    size = sum(bytes_in_memory(dataset, members=1))  # a network's copy, too
    if size <= memory_of_machine() // 2:
        return dataset.read(), None
    folder = user_cache()
    _refuse_full(dataset, folder, size)

    def allocate(_name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        with scratch_file(folder, math.prod(shape) * dtype.itemsize) as file:
            return np.memmap(file, dtype, "r+", shape=shape)

    findings = Findings()
    return dataset.transitions(dataset.fill(allocate, findings), findings), folder


def cache_folder(hashes: Any, options: ReadOptions) -> Path:
    """Where the columns of a dataset are kept in the user's cache.

    Args:
        hashes: of its files, as ``manifest.hash_source`` gives them.
    """
    key = json.dumps([VERSION, [recording["files"] for recording in hashes], options.to_json()])
    return user_cache() / "columns" / hashlib.sha256(key.encode()).hexdigest()[:32]


def mapped(dataset: Dataset, folder: Path, on_note: Callable[[str], None]) -> Transitions:
    """The dataset as columns in mapped files of a folder, written in one pass if they are missing or damaged.

    Raises:
        DatasetError: no room on the disk; and as ``Dataset.pieces``.
    """
    with locked(folder, wait=True):  # while another training writes the same columns
        data = _kept(dataset, folder)
        if data is None:
            _write(dataset, folder, on_note)
            data = _kept(dataset, folder)
        if data is None:
            raise DatasetError(f"{folder}: what was written there reads otherwise", fix="check the disk")
    return data


def _kept(dataset: Dataset, folder: Path) -> Transitions | None:
    """What the folder holds, if it is what was written."""
    try:
        facts = json.loads((folder / FACTS_FILE).read_text())
        # "c": torch takes no read-only memory; nothing is written to it, and if it were, not to the file
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in ROW_COLUMNS}
        data = dataset.transitions(columns, Findings(**facts["findings"]))
    except (OSError, ValueError, KeyError, TypeError, CurateError):
        return None
    return data if data.fingerprint == facts["fingerprint"] else None


def _write(dataset: Dataset, folder: Path, on_note: Callable[[str], None]) -> None:
    observation, action, _ = _widths(dataset)
    columns = _bytes_a_row(dataset) * len(dataset)
    size = columns + 4 * (2 * observation + action + 2) * len(dataset)  # and what training keeps for itself
    folder.parent.mkdir(parents=True, exist_ok=True)
    _refuse_full(dataset, folder.parent, size)
    on_note(f"writing the dataset's columns once, {in_words(columns)}, to {folder}")
    unfinished = hidden(folder, "fresh")
    for left in (folder, unfinished):  # damaged, and of a command that was killed
        remove(left)
    unfinished.mkdir()
    try:
        findings = Findings()
        filled = dataset.fill(
            lambda name, shape, dtype: _file(unfinished / f"{name}.npy", shape, dtype), findings
        )
        facts = {
            "findings": findings.to_json(),
            "fingerprint": dataset.transitions(filled, findings).fingerprint,
        }
        (unfinished / FACTS_FILE).write_text(json.dumps(facts))
        sync_tree(unfinished)
        unfinished.rename(folder)
    finally:
        remove(unfinished)


def _refuse_full(dataset: Dataset, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DatasetError(
            f"{dataset.source}: needs {in_words(size)} in {folder}, where {in_words(free)} are free",
            fix="free space there, or set XDG_CACHE_HOME to another disk",
        )


def _file(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def in_words(size: int) -> str:
    """Bytes as ``1.5 GB`` or ``12 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
