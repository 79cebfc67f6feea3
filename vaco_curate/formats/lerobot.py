"""LeRobot datasets, versions 2.x and 3.0: a folder with ``meta/info.json`` and Parquet under ``data/``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.columns import Columns, EpisodeIds, flag_column
from vaco_curate.errors import DatasetError
from vaco_curate.formats.arrow import (
    is_label,
    label_column,
    parquet_file,
    scalar_batches,
    scalars,
    unreadable,
    vectors,
)
from vaco_curate.formats.options import ReadOptions
from vaco_curate.formats.parts import joined, kept_parts, recorded_parts
from vaco_curate.formats.recording import Recording, natural_order
from vaco_curate.transitions import Array

VERSIONS = ("v2.", "v3.")
ACTION, REWARD, DONE, TRUNCATED = "action", "next.reward", "next.done", "next.truncated"
EPISODE, STEP = "episode_index", "frame_index"
OBSERVATION = ("observation", "observation.")
PICTURES = ("image", "video")


def matches(source: str) -> bool:
    """Whether the source is a folder with LeRobot's ``meta/info.json``."""
    return (Path(source) / "meta" / "info.json").is_file()


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """The data files of a LeRobot dataset, in the order of their numbers.

    Raises:
        DatasetError: another version, a missing or damaged file, or images that are not dropped.
    """
    if options.max_episode_steps is not None:
        raise DatasetError(f"{source}: LeRobot ends its episodes itself: no --max-episode-steps")
    info = _info(Path(source))
    names = _names(source, info, options.columns)
    shapes = {
        name: _shape(feature)
        for name, feature in info["features"].items()
        if name.startswith(OBSERVATION[1]) or name == OBSERVATION[0]
    }
    kept = kept_parts(source, shapes, options.drop_columns)
    files = sorted(
        (Path(source).absolute() / "data").glob("*/*.parquet"), key=lambda path: natural_order(path.as_posix())
    )
    found = [_recording(path, names, kept) for path in files]
    rows = sum(recording.rows for recording in found)
    if rows != info["total_frames"]:
        raise DatasetError(
            f"{source}: {rows} of {info['total_frames']} frames are here, in {len(found)} data files",
            fix="download the rest of the dataset",
        )
    return tuple(found)


def _info(folder: Path) -> dict[str, Any]:
    path = folder / "meta" / "info.json"
    try:
        info: dict[str, Any] = json.loads(path.read_text())
        version, _, _ = info["codebase_version"], info["features"], info["total_frames"]
    except (ValueError, KeyError, OSError) as error:
        raise DatasetError(f"{path}: not readable as LeRobot's", details=(repr(error),)) from error
    if not version.startswith(VERSIONS):
        raise DatasetError(
            f"{folder}: LeRobot dataset of version {version}, known are 2 and 3",
            fix="convert it with LeRobot's own script",
        )
    return info


def _names(source: str, info: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, str]:
    """Column in the files by ours; rewards and ends may be missing, or have another name."""
    unknown = [name for name in asked if name not in ("reward", "terminated", "truncated", "action")]
    if unknown:
        raise DatasetError(
            f"{source}: --column {unknown[0]}=...: in a LeRobot dataset action, reward, terminated and "
            "truncated can have other names"
        )
    usual = {"action": ACTION, "reward": REWARD, "terminated": DONE, "truncated": TRUNCATED}
    names = {ours: theirs for ours, theirs in (usual | dict(asked)).items() if theirs in info["features"]}
    missing = [theirs for ours, theirs in asked.items() if ours not in names]
    if missing or "action" not in names:
        raise DatasetError(
            f"{source}: missing column {', '.join(missing) or ACTION}",
            details=(f"found: {', '.join(info['features'])}",),
        )
    return names


def _shape(feature: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in feature["shape"])
    return (0, 0, 0) if feature["dtype"] in PICTURES and len(shape) < 2 else shape


def _recording(path: Path, names: dict[str, str], kept: dict[str, int]) -> Recording:
    try:
        with parquet_file(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    needed = {*names.values(), *kept, EPISODE, STEP}
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise DatasetError(f"{path}: missing column {', '.join(sorted(missing))}")
    has_rewards = "reward" in names
    return Recording(
        path=path,
        format="lerobot",
        rows=rows,
        batches=partial(_batches, path, names, kept),
        labels=tuple(field.name for field in schema if is_label(field) and field.name not in needed),
        label=partial(label_column, path),
        episodes=EpisodeIds.of(scalar_batches(path, {"episode_id": EPISODE, "step_index": STEP})),
        has_rewards=has_rewards,
        facts={"observation_parts": recorded_parts(kept)},
        notes=() if has_rewards else ("no rewards: all are read as 0",),
    )


def _batches(path: Path, names: dict[str, str], kept: dict[str, int], rows: int) -> Iterator[Columns]:
    first_row = 0
    try:
        with parquet_file(path, pre_buffer=False) as file:
            for batch in file.iter_batches(rows, columns=[*names.values(), *kept, EPISODE, STEP]):
                yield _columns(str(path), pa.Table.from_batches([batch]), names, kept, first_row)
                first_row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _columns(
    source: str, table: pa.Table, names: dict[str, str], kept: dict[str, int], first_row: int
) -> Columns:
    """LeRobot's done is true at any end; one that is not truncated is a true one."""

    def numbers(name: str) -> Array:
        return scalars(source, table.column(name), name, first_row)

    def flags(ours: str) -> Array:
        values = numbers(names[ours]) if ours in names else None
        return flag_column(values, names.get(ours, ours), len(table), source, first_row)

    def vector(name: str) -> Array:
        return vectors(source, table.column(name), name, first_row)[0]

    truncated = flags("truncated")
    return {
        "observation": joined({name: vector(name) for name in kept}, kept),
        "action": vector(names["action"]),
        "reward": numbers(names["reward"]) if "reward" in names else np.zeros(len(table), np.float32),
        "terminated": flags("terminated") & ~truncated,
        "truncated": truncated,
        "episode_id": numbers(EPISODE),
        "step_index": numbers(STEP),
    }
