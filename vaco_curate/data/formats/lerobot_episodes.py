"""What LeRobot's ``meta/episodes`` say of episodes: lengths, and flags."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.arrow import parquet_file
from vaco_curate.data.formats.names import nearest
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import is_hidden

EPISODE, LENGTH = "episode_index", "length"
DAMAGED = (KeyError, TypeError, ValueError, OverflowError, OSError, pa.ArrowException)


def flags_of_episodes(folder: Path, name: str, features: Collection[str]) -> dict[int, tuple[bool, int]]:
    """By number of each episode, a flag that the metadata have for it, and its length.

    Args:
        features: of frames, for the message.

    Raises:
        DatasetError: they have no such flag, for each episode.
    """
    try:
        facts = _facts(folder, (EPISODE, LENGTH, name))
        flags = {int(one[EPISODE]): (bool(one[name]), int(one[LENGTH])) for one in facts}
    except DAMAGED as error:
        raise _no_success(folder, name, features) from error
    if not flags:
        raise _no_success(folder, name, features)
    return flags


def flag_names(folder: Path) -> list[str]:
    """Names of the flags that the metadata have for episodes; none where they cannot be read."""
    try:
        if (lines := _lines(folder)) is not None:
            facts = [json.loads(line) for line in lines[:1]]
            return [name for one in facts for name, value in one.items() if isinstance(value, bool)]
        for path in _files(folder):
            with parquet_file(path) as file:
                return [field.name for field in file.schema_arrow if pa.types.is_boolean(field.type)]
    except (*DAMAGED, AttributeError):
        return []
    return []


def lengths_of_episodes(folder: Path) -> dict[int, int]:
    """By number of each episode, its frames as the metadata have it; nothing where they cannot be read."""
    try:
        return {int(one[EPISODE]): int(one[LENGTH]) for one in _facts(folder, (EPISODE, LENGTH))}
    except DAMAGED:
        return {}


def episodes_without_frames(folder: Path, present: Array) -> list[int]:
    """Numbers of the episodes that the metadata have, and of those left out between others, without a frame.

    Args:
        present: (episodes,) numbers of those with frames.
    """
    missing = lengths_of_episodes(folder).keys() - set(present.tolist())
    highest = int(present.max(initial=-1))
    if highest < 2 * len(present):  # others do not count their episodes
        missing |= set(range(highest)) - set(present.tolist())
    return sorted(missing)


def _lines(folder: Path) -> list[str] | None:
    """The lines about episodes of a dataset of version 2."""
    path = folder / "meta" / "episodes.jsonl"
    return [line for line in path.read_text().splitlines() if line.strip()] if path.is_file() else None


def _files(folder: Path) -> list[Path]:
    """The files about episodes of a dataset of version 3."""
    found = (folder / "meta" / "episodes").glob("**/*.parquet")
    return sorted(path for path in found if not is_hidden(path.name))


def _facts(folder: Path, names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    """Some facts of each episode."""
    facts: list[Mapping[str, Any]] = [json.loads(line) for line in _lines(folder) or ()]
    for path in _files(folder):
        with parquet_file(path) as file:
            facts += file.read([name for name in names if name in file.schema_arrow.names]).to_pylist()
    return facts


def _no_success(folder: Path, name: str, features: Collection[str]) -> DatasetError:
    flags = flag_names(folder)
    likely = nearest(name, [*features, *flags])
    return DatasetError(
        f"{folder}: --success {name}: neither a feature of frames nor a flag of every episode in meta/episodes",
        details=(
            f"features: {', '.join(features)}",
            f"flags of meta/episodes: {', '.join(flags) or 'none'}",
        ),
        fix=f"if you mean it: --success {' or '.join(likely)}" if likely else None,
    )
