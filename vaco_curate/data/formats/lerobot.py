"""LeRobot datasets, versions 2.x and 3.0: a folder with ``meta/info.json`` and Parquet under ``data/``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.columns import flag_column
from vaco_curate.data.episodes import Columns, EpisodeIds
from vaco_curate.data.formats.arrow import (
    further_fields,
    further_tables,
    parquet_file,
    scalar_batches,
    scalars,
    unreadable,
    vectors,
)
from vaco_curate.data.formats.dataset import Dataset
from vaco_curate.data.formats.lerobot_episodes import (
    EPISODE,
    episodes_without_frames,
    flag_names,
    flags_of_episodes,
)
from vaco_curate.data.formats.names import (
    check_asked,
    flags_of_success,
    hint_at_success,
    named,
    note_on_ends,
    some,
)
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.parts import joined, kept_parts, recorded_parts
from vaco_curate.data.formats.recording import Recording, natural_order
from vaco_curate.data.formats.tables import TableWriter
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import is_hidden

VERSIONS = ("v2.", "v3.")
USUAL = {
    "action": "action",
    "reward": "next.reward",
    "terminated": "next.terminated",
    "truncated": "next.truncated",
}
"""LeRobot's names of our columns; ``next.done`` is any end, and where it is all there is, a true one."""

DONE, SUCCESS = "next.done", "next.success"
STEP = "frame_index"
OBSERVATION = ("observation", "observation.")
PICTURES = ("image", "video")
WORDS = ("string", "language")


def matches(source: str) -> bool:
    """Whether the source is a folder with LeRobot's ``meta/info.json``."""
    return (Path(source) / "meta" / "info.json").is_file()


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """The data files of a LeRobot dataset, in the order of their numbers.

    Raises:
        DatasetError: another version, a missing or damaged file, or nothing but images.
    """
    if options.max_episode_steps is not None:
        raise DatasetError(f"{source}: LeRobot defines where episodes end: leave out --max-episode-steps")
    info = _info(Path(source))
    features = info["features"]
    of_episodes = None
    if options.success is not None and options.success not in features:
        of_episodes = flags_of_episodes(Path(source), options.success, features)
    names = _names(source, features, options.columns if of_episodes is not None else options.names)
    flags = flags_of_success([*_flags_of_frames(features), *flag_names(Path(source))])
    asked = options.columns.get("observation")
    parts = (
        [name for name in features if name.startswith(OBSERVATION[1]) or name == OBSERVATION[0]]
        if asked is None
        else named(source, "observation", asked, list(features))
    )
    if not parts:
        raise DatasetError(
            f"{source}: no feature observation or observation.*",
            details=(f"found: {', '.join(features)}",),
            fix="name what makes the observation: --column observation=state (or state+gripper)",
        )
    shapes = {name: _shape(source, name, features[name]) for name in parts}
    words = [name for name in parts if features[name]["dtype"] in WORDS]
    cameras = [name for name in parts if features[name]["dtype"] in PICTURES] if asked is None else []
    kept = kept_parts(source, shapes, (*options.drop_columns, *cameras), words)
    found = [_recording(path, names, kept, features, of_episodes, flags) for path in _files(Path(source))]
    notes = _notes_on_episodes(Path(source), found)
    if cameras and not options.drop_columns:
        notes.append(f"cameras are left out, scores are made of the rest: {', '.join(cameras)}")
    if found:
        found[0] = dataclasses.replace(found[0], notes=(*found[0].notes, *notes))
    rows = sum(recording.rows for recording in found)
    if rows != int(info["total_frames"]):
        raise DatasetError(
            f"{source}: {rows} of {info['total_frames']} frames are here, in {len(found)} data files",
            fix="download the rest of the dataset. If you removed episodes by hand, set total_frames in "
            "meta/info.json, or remove them with LeRobot's own lerobot-edit-dataset instead",
        )
    if not rows:
        raise DatasetError(
            f"{source}: the dataset has zero frames", fix="the recording was interrupted: record again"
        )
    return tuple(found)


def _notes_on_episodes(folder: Path, found: Sequence[Recording]) -> list[str]:
    """A word on episodes that have no frames."""
    numbers = [recording.episodes.numbers for recording in found if recording.episodes is not None]
    missing = (
        [str(number) for number in episodes_without_frames(folder, np.concatenate(numbers))] if numbers else []
    )
    return [f"without frames: episode{'s' * (len(missing) > 1)} {some(missing)}"] if missing else []


def _files(folder: Path) -> list[Path]:
    """The data files in the order of their numbers."""
    data = folder.absolute() / "data"
    shown = (path for path in data.glob("*/*.parquet") if not is_hidden(path.parent.name))
    found = [path for path in shown if not is_hidden(path.name)]
    deeper = next((path for path in data.glob("*/*/*.parquet") if not is_hidden(path.name)), None)
    if not found and deeper is not None:
        raise DatasetError(
            f"{folder}: data files lie in folders of their own: {deeper.relative_to(folder.absolute())}",
            details=(
                "LeRobot's own are data/chunk-000/episode_000000.parquet or data/chunk-000/file-000.parquet",
            ),
            fix="write them there, with the column episode_index in each file",
        )
    return sorted(found, key=lambda path: natural_order(path.as_posix()))


def _info(folder: Path) -> dict[str, Any]:
    path = folder / "meta" / "info.json"
    try:
        info: dict[str, Any] = json.loads(path.read_text())
        version, _, _ = info["codebase_version"], dict(info["features"]), int(info["total_frames"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DatasetError(f"{path}: not readable as LeRobot's", details=(repr(error),)) from error
    if not str(version).startswith(VERSIONS):
        raise DatasetError(
            f"{folder}: LeRobot dataset of version {version}, known are 2 and 3",
            fix="convert it with LeRobot's own script",
        )
    return info


def _names(source: str, features: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, list[str]]:
    """Columns in the files by ours; rewards and ends may be missing, or have other names."""
    check_asked(source, asked, ("observation", *USUAL))
    names = {
        ours: named(source, ours, theirs, list(features))
        for ours, theirs in asked.items()
        if ours != "observation"
    }
    names = {ours: [usual] for ours, usual in USUAL.items() if usual in features} | names
    if "terminated" not in names and DONE in features:
        names["terminated"] = [DONE]
    elif "truncated" not in names and DONE in features:
        names["truncated"] = [DONE]
    if "action" not in names:
        raise DatasetError(
            f"{source}: missing column {USUAL['action']}",
            details=(f"found: {', '.join(features)}",),
            fix="name it: --column action=actions",
        )
    return names


def _shape(source: str, name: str, feature: Mapping[str, Any]) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in feature["shape"])
        return (0, 0, 0) if feature["dtype"] in PICTURES and len(shape) < 2 else shape
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{source}: meta/info.json: the feature {name} has no readable dtype and shape",
            details=(repr(error),),
        ) from error


def _recording(
    path: Path,
    names: Mapping[str, list[str]],
    kept: dict[str, int],
    features: Mapping[str, Any],
    of_episodes: Mapping[int, tuple[bool, int]] | None,
    flags: tuple[str, ...],
) -> Recording:
    try:
        with parquet_file(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            needed = {*chain(*names.values()), *kept, EPISODE, STEP}
            missing = [name for name in needed if name not in schema.names]
            if missing:
                raise DatasetError(f"{path}: missing column {', '.join(sorted(missing))}")
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    has_rewards = "reward" in names or of_episodes is not None
    further, unread = further_fields(schema, [name for name in schema.names if name not in needed])
    return Recording(
        path=path,
        format="lerobot",
        rows=rows,
        batches=partial(_batches, path, names, kept, of_episodes),
        further=further,
        unread=tuple(unread),
        others=partial(further_tables, path),
        episodes=EpisodeIds.of(scalar_batches(path, {"episode_id": EPISODE, "step_index": STEP})),
        has_rewards=has_rewards,
        facts={"observation_parts": recorded_parts(kept)},
        success_flags=flags,
        notes=_notes(names, features, flags) if of_episodes is None else (),
    )


def _flags_of_frames(features: Mapping[str, Any]) -> list[str]:
    """Names of the features that are flags; the usual name of success comes first."""
    flags = [name for name, feature in features.items() if feature.get("dtype") == "bool"]
    return [SUCCESS, *(name for name in flags if name != SUCCESS)] if SUCCESS in features else flags


def _notes(
    names: Mapping[str, list[str]], features: Mapping[str, Any], flags: tuple[str, ...]
) -> tuple[str, ...]:
    notes = [] if "reward" in names else [f"no rewards: all are read as 0{hint_at_success(flags)}"]
    if names.get("terminated") == [DONE] and "truncated" not in names:
        option = "--column terminated=" if "reward" in names else "--success "
        other = f"; if it does: {option}{SUCCESS}" if SUCCESS in features else ""
        notes.append(f"{DONE} is taken as a true end; it may also mark time limits, which are none{other}")
    return (*notes, *note_on_ends(names, features))


def _batches(
    path: Path,
    names: Mapping[str, list[str]],
    kept: dict[str, int],
    of_episodes: Mapping[int, tuple[bool, int]] | None,
    rows: int,
) -> Iterator[Columns]:
    first_row = 0
    try:
        with parquet_file(path, pre_buffer=False) as file:
            for batch in file.iter_batches(
                rows, columns=list(dict.fromkeys([*chain(*names.values()), *kept, EPISODE, STEP]))
            ):
                columns = _columns(str(path), pa.Table.from_batches([batch]), names, kept, first_row)
                if of_episodes is not None:
                    columns |= _successes(path, columns, of_episodes)
                yield columns
                first_row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _successes(path: Path, columns: Columns, of_episodes: Mapping[int, tuple[bool, int]]) -> dict[str, Array]:
    """Rewards and true ends on the last frames of the episodes whose flag is set."""
    episodes, which = np.unique(columns["episode_id"], return_inverse=True)
    missing = [number for number in episodes.tolist() if number not in of_episodes]
    if missing:
        raise DatasetError(f"{path}: episode {missing[0]} is not in meta/episodes")
    flags, lengths = np.array([of_episodes[number] for number in episodes.tolist()]).T[:, which]
    ends = (columns["step_index"] == lengths - 1) & (flags != 0)
    return {"reward": ends, "terminated": ends, "truncated": columns["truncated"] & ~ends}


def _columns(
    source: str, table: pa.Table, names: Mapping[str, list[str]], kept: dict[str, int], first_row: int
) -> dict[str, Array]:
    """LeRobot's done is true at any end; one that is not truncated is a true one."""

    def numbers(name: str) -> Array:
        return scalars(source, table.column(name), name, first_row)

    def flags(ours: str) -> Array:
        values = numbers(names[ours][0]) if ours in names else None
        return flag_column(values, names.get(ours, [ours])[0], len(table), source, first_row)

    def vector(name: str) -> Array:
        return vectors(source, table.column(name), name, first_row)[0]

    terminated, truncated = flags("terminated"), flags("truncated")
    if names.get("terminated") == [DONE]:
        terminated &= ~truncated
    if names.get("truncated") == [DONE]:
        truncated &= ~terminated
    return {
        "observation": joined({name: vector(name) for name in kept}, kept),
        "action": joined({name: vector(name) for name in names["action"]}, dict.fromkeys(names["action"], 0)),
        "reward": numbers(names["reward"][0]) if "reward" in names else np.zeros(len(table), np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "episode_id": numbers(EPISODE),
        "step_index": numbers(STEP),
    }


def write_advantages(folder: Path, dataset: Dataset, keep: Array, name: str) -> None:
    """The file by which RLinf tells good frames from bad: ``meta/advantages_TAG.parquet`` of a LeRobot dataset.

    Its trainers read ``episode_index``, ``frame_index`` and the flag ``advantage``, of every frame.

    Args:
        keep: (n,) bool, the flag.

    Raises:
        DatasetError: the dataset is not LeRobot's.
    """
    if dataset.format != "lerobot":
        raise DatasetError(
            f"{dataset.source}: advantages of frames belong to a LeRobot dataset, this is {dataset.format}",
            fix="choose another --format, such as parquet",
        )
    columns = {EPISODE: pa.int64(), STEP: pa.int64(), "advantage": pa.bool_()}
    writer = TableWriter(folder / f"advantages_{name}.parquet", pa.schema(list(columns.items())))
    for piece in dataset.pieces():
        kept = keep[piece.first_row : piece.first_row + len(piece)]
        writer.write(pa.table(dict(zip(columns, (piece.episode_id, piece.step_index, kept), strict=True))))
    writer.close()
