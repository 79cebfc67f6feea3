"""Parquet: our own schema, read and written; other schemas by a column map.

Vectors are lists of fixed size of the stored float type, byte-stream-split and zstd compressed, which is the
smallest and fastest lossless form for smooth trajectories. No column of ours holds nulls: where
``has_successor`` is false, ``next_observation`` repeats the observation. File metadata under ``vaco_curate``
(JSON) carries what the columns cannot: environment, action bounds, whether rows are consecutive.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vaco_curate.core.transitions import Array
from vaco_curate.data.columns import flag_column, notes_on_episodes, step_limit
from vaco_curate.data.episodes import Columns, EpisodeIds, step_limit_flags
from vaco_curate.data.formats.arrow import (
    READ_BYTES,
    further_fields,
    further_tables,
    holds_words,
    is_list,
    leaf,
    leaf_fields,
    parquet_file,
    scalar_batches,
    scalars,
    top_column,
    unreadable,
    vectors,
    words,
)
from vaco_curate.data.formats.environment import action_bounds
from vaco_curate.data.formats.names import (
    check_asked,
    flags_of_success,
    hint_at_success,
    named,
    note_on_ends,
    refuse_one_of_several,
)
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.parts import joined, kept_parts, recorded_parts
from vaco_curate.data.formats.recording import Recording, natural_order
from vaco_curate.data.success import ends_beside_success
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import is_hidden, place

METADATA_KEY = b"vaco_curate"
ID_ROWS = 65_536

VECTORS = ("observation", "action", "next_observation")
SCALARS = ("reward", "terminated", "truncated", "episode_id", "step_index", "has_successor")


def matches(source: str) -> bool:
    """Whether the source is a ``.parquet`` file, or a folder with some at its top or in ``name=value``."""
    path = place(source)
    if path.is_dir():
        return any(_shards(path)) or _is_partitioned(path)
    return path.suffix == ".parquet"


def _shards(folder: Path) -> list[Path]:
    return [file for file in folder.glob("*.parquet") if not is_hidden(file.name) and not file.is_dir()]


def _is_partitioned(folder: Path) -> bool:
    return any(
        "=" in inner.name and any(inner.glob("**/*.parquet")) for inner in folder.iterdir() if inner.is_dir()
    )


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A file, or the shards of a folder in their order: an episode that has a number may go on in the next.

    Raises:
        DatasetError: no such file, a damaged one, or a missing column.
    """
    check_asked(source, options.names, (*VECTORS, *SCALARS))
    found = [_recording(path, options) for path in _files(source)]
    deeper = _folders_with_more(place(source))
    if deeper:
        note = f"not read, in folders of their own: {', '.join(deeper)}"
        found[0] = dataclasses.replace(found[0], notes=(*found[0].notes, note))
    return tuple(found)


def _folders_with_more(folder: Path) -> list[str]:
    """Names of folders in a folder of shards that hold Parquet files, too."""
    if not folder.is_dir():
        return []
    inner = (entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    return sorted(entry.name for entry in inner if any(entry.glob("*.parquet")))


def _recording(path: Path, options: ReadOptions) -> Recording:
    try:
        with parquet_file(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            columns = _columns_of(str(path), schema, options)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    facts = table_facts(schema)
    low, high = _bounds(facts)
    references = facts.get("reference_returns")
    parts = _kept(path, schema, columns, options) if rows else {}
    columns = _without(columns, list(parts)) if parts else columns
    named_episodes = _named_episodes(path, columns, schema) if "episode_id" in columns else ()
    used = {top_column(name, schema) for group in columns.values() for name in group}
    free = [name for name in dict.fromkeys(schema.names) if name not in used]
    ends = _ends(path, columns, free, options) if rows and "episode_id" not in columns else None
    further, unread = further_fields(schema, [name for name in free if schema.names.count(name) == 1])
    recorded = tuple((name, size) for name, size in facts.get("observation_parts", ()))
    return Recording(
        path=path,
        format="parquet",
        rows=rows,
        batches=partial(_batches, path, columns, named_episodes, ends),
        further=further,
        unread=tuple(unread),
        others=partial(further_tables, path),
        success_flags=flags_of_success(free),
        has_rewards=facts.get("has_rewards", True),
        episodes=_episodes(path, columns, named_episodes, options) if "episode_id" in columns else None,
        facts={
            "env_id": facts.get("env_id"),
            "env_kwargs": facts.get("env_kwargs", {}),
            "action_low": low,
            "action_high": high,
            "reference_returns": tuple(references) if references else None,
            "observation_parts": recorded_parts(parts) if len(parts) > 1 else recorded,
        },
        notes=(*notes_on_episodes(columns, options.max_episode_steps), *note_on_ends(columns, free)),
    )


def _columns_of(source: str, schema: pa.Schema, options: ReadOptions) -> dict[str, list[str]]:
    """The file's columns by ours: those that the user names, or of our names; of a struct, its fields."""
    fields = leaf_fields(schema)
    columns: dict[str, list[str]] = {}
    for ours in (*VECTORS, *SCALARS):
        theirs = options.names.get(ours, ours)
        leaves = [name for name in fields if name.startswith(f"{theirs}.") and theirs in schema.names]
        if theirs in schema.names and theirs not in fields:
            if ours in SCALARS or not leaves:
                raise DatasetError(
                    f"{source}: {theirs} is a struct of {', '.join(leaves) or 'nothing'}, not one value a row",
                    fix=f"name a field of it: --column {ours}={theirs}.NAME",
                )
            columns[ours] = _in_order(leaves, theirs, columns) if ours == "next_observation" else leaves
        elif ours in options.names:
            columns[ours] = named(source, ours, theirs, list(fields), options.success)
        elif ours in fields:
            columns[ours] = [ours]
    twice = [name for group in columns.values() for name in group if schema.names.count(name) > 1]
    if twice:
        raise DatasetError(
            f"{source}: there are several columns {twice[0]}", fix="rename or remove all but one"
        )
    missing = [ours for ours in ("observation", "action", "reward") if ours not in columns]
    if missing:
        raise DatasetError(
            f"{source}: missing column {', '.join(missing)}",
            details=(f"found: {', '.join(schema.names)}",),
            fix="name the source's columns: --column observation=NAME,action=NAME,reward=NAME,terminated=NAME; "
            "several that make a vector: --column 'observation=obs_*' or --column observation=pos+vel"
            + (hint_at_success(flags_of_success(fields)) if "reward" in missing else ""),
        )
    numbers = [name for name, field in fields.items() if not is_list(field.type)]
    for ours, group in columns.items():
        if len(group) == 1 and group[0] in numbers:
            refuse_one_of_several(source, ours, group[0], numbers, options.drop_columns)
    return columns


def _in_order(leaves: list[str], top: str, columns: Mapping[str, list[str]]) -> list[str]:
    """The fields of a next observation in the order of those of the observation, if they are the same."""
    places = {name.partition(".")[2]: place for place, name in enumerate(columns.get("observation", []))}
    fields = {name: name[len(top) + 1 :] for name in leaves}
    same = set(fields.values()) == set(places)
    return sorted(leaves, key=lambda name: places[fields[name]]) if same else leaves


def _without(columns: dict[str, list[str]], kept: list[str]) -> dict[str, list[str]]:
    """The columns with the kept parts of an observation alone, and the same of the next observation."""
    before, following = columns["observation"], columns.get("next_observation", [])
    if len(following) == len(before):
        places = [before.index(name) for name in kept]
        columns = columns | {"next_observation": [following[place] for place in places]}
    return columns | {"observation": kept}


def _kept(
    path: Path, schema: pa.Schema, columns: Mapping[str, list[str]], options: ReadOptions
) -> dict[str, int]:
    """Size by name of the columns that make an observation, where there are several, or some to be left out."""
    names = columns["observation"]
    known = leaf_fields(schema)
    if len(names) == 1:
        unknown = [name for name in options.drop_columns if name not in known]
        if unknown:
            raise DatasetError(
                f"{path}: --drop-columns {unknown[0]}: no such column", details=(f"found: {', '.join(known)}",)
            )
        return {}
    try:
        with parquet_file(path, pre_buffer=False) as file:
            top = list(dict.fromkeys(top_column(name, schema) for name in names))
            table = pa.Table.from_batches([next(file.iter_batches(1, columns=top))])
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    text = [name for name in names if holds_words(known[name].type)]
    shapes = {
        name: () if name in text else vectors(str(path), leaf(table, name), name)[0].shape[1:] for name in names
    }
    return kept_parts(str(path), shapes, options.drop_columns, text)


def _batches(
    path: Path, columns: Mapping[str, list[str]], named_episodes: Sequence[str], ends: Array | None, rows: int
) -> Iterator[Columns]:
    """Columns of ``Transitions`` that are present, by the names in the file.

    Args:
        ends: numbers of the rows at which episodes end; None where the columns tell.
    """
    first_row = 0
    try:
        with parquet_file(path, pre_buffer=False, buffer_size=READ_BYTES) as file:
            schema = file.schema_arrow
            names = list(
                dict.fromkeys(top_column(name, schema) for group in columns.values() for name in group)
            )
            for batch in file.iter_batches(rows, columns=names):
                table = pa.Table.from_batches([batch])
                found = _columns(str(path), table, columns, named_episodes, first_row)
                if ends is not None:
                    found["episode_id"] = np.searchsorted(ends, first_row + np.arange(len(batch)))
                yield found
                first_row += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error


def _columns(
    source: str,
    table: pa.Table,
    columns: Mapping[str, list[str]],
    named_episodes: Sequence[str],
    first_row: int,
) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name in (name for name in ("observation", "action") if name in columns):
        parts = {part: vectors(source, leaf(table, part), name, first_row)[0] for part in columns[name]}
        found[name] = joined(parts, dict.fromkeys(columns[name], 0))
    for name in (name for name in SCALARS if name in columns):
        column = leaf(table, columns[name][0])
        if name == "episode_id" and named_episodes:
            plain = words(source, column, name)
            numbers = pc.index_in(plain, value_set=pa.array(named_episodes, plain.type))
            found[name] = numbers.to_numpy().astype(np.int64)
        else:
            found[name] = scalars(source, column, name, first_row)
    if "next_observation" in columns:
        several = [
            vectors(source, leaf(table, part), "next_observation", first_row, nulls=True)
            for part in columns["next_observation"]
        ]
        known = np.logical_and.reduce([valid for _, valid in several])
        if "has_successor" in found:
            known &= flag_column(found["has_successor"], "has_successor", len(known), source, first_row)
        following = np.concatenate([values for values, _ in several], axis=1)
        found["has_successor"] = known
        found["next_observation"] = following if known.any() else np.zeros_like(found["observation"])
    return found


def _named_episodes(path: Path, columns: Mapping[str, list[str]], schema: pa.Schema) -> tuple[str, ...]:
    """Names of the episodes in the order in which they begin, where they are words."""
    (name,) = columns["episode_id"]
    if not holds_words(leaf_fields(schema)[name].type):
        return ()
    found: dict[str, None] = {}
    try:
        with parquet_file(path, pre_buffer=False) as file:
            for batch in file.iter_batches(columns=[top_column(name, schema)]):
                column = words(str(path), leaf(pa.Table.from_batches([batch]), name), "episode_id")
                found |= dict.fromkeys(column.unique().to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from error
    return tuple(found)


def _episodes(
    path: Path, columns: Mapping[str, list[str]], named_episodes: Sequence[str], options: ReadOptions
) -> EpisodeIds | None:
    names = [name for name in ("episode_id", "step_index", "terminated", "truncated") if name in columns]
    if options.success is not None and "step_index" in columns:  # an episode may go on after its success
        names.remove("terminated")
    if not named_episodes:
        return EpisodeIds.of(scalar_batches(path, {name: columns[name][0] for name in names}))
    return EpisodeIds.of(
        _batches(path, {name: columns[name] for name in names}, named_episodes, None, ID_ROWS), named_episodes
    )


def _ends(
    path: Path, columns: Mapping[str, list[str]], free: Sequence[str], options: ReadOptions
) -> Array | None:
    """Rows at which episodes end, of a file with a flag of success; None where its columns tell."""
    if options.success is None:
        return None
    names = {name: columns[name][0] for name in ("truncated", "step_index", "terminated") if name in columns}
    names |= {"own": "terminated"} if "terminated" in free else {}
    batches = list(scalar_batches(path, names))
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    flags = {
        name: flag_column(values, name, len(values), str(path))
        for name, values in found.items()
        if name != "step_index"
    }
    ends = flags.get("truncated", np.zeros_like(flags["terminated"])) | flags.get("own", False)
    if "step_index" in found:
        ends[:-1] |= np.diff(found["step_index"]) <= 0
    limit = step_limit(columns, options.max_episode_steps)
    if limit is not None:
        ends |= step_limit_flags(ends, limit, 0)
    return ends_beside_success(flags["terminated"], ends)


def _files(source: str) -> list[Path]:
    path = place(source).absolute()
    shards = _shards(path) if path.is_dir() else [path]
    files = sorted(shards, key=lambda file: natural_order(file.name))
    if not files and _is_partitioned(path):
        raise DatasetError(
            f"{source}: is partitioned, with values in the names of folders (name=value), which are not read",
            fix="write it as plain columns: "
            f"polars.read_parquet('{source}/**/*.parquet', hive_partitioning=True)"
            ".write_parquet('rows.parquet')",
        )
    if not files or not all(file.is_file() for file in files):
        raise DatasetError(f"{source}: no such Parquet file or folder of shards")
    return files


def table_facts(schema: pa.Schema) -> dict[str, Any]:
    """Our metadata of a file; empty for a foreign one."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    return json.loads(raw) if raw is not None else {}


def _bounds(facts: Mapping[str, Any]) -> tuple[Array | None, Array | None]:
    if facts.get("action_low") is not None:
        return np.asarray(facts["action_low"]), np.asarray(facts["action_high"])
    return action_bounds(facts.get("env_id"))
