"""robomimic HDF5: a group ``data/demo_i`` for each demonstration."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.columns import flag_column
from vaco_curate.data.episodes import Columns
from vaco_curate.data.formats.dataset import Dataset
from vaco_curate.data.formats.hdf5 import StoredArray, opened, root_keys, text
from vaco_curate.data.formats.names import check_asked, flags_of_success, hint_at_success, nearest
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.others import array_type, table_of
from vaco_curate.data.formats.parts import joined, kept_parts, recorded_parts
from vaco_curate.data.formats.recording import Recording, natural_order
from vaco_curate.errors import DatasetError

DEEPEST = 8
"""Groups within groups of an observation."""

GYM_ENVIRONMENT = 2
"""Type of the environments that have Gymnasium's ids, in robomimic's metadata (``EnvType.GYM_TYPE``)."""


USUAL = {
    "observation": "obs",
    "action": "actions",
    "reward": "rewards",
    "terminated": "dones",
    "next_observation": "next_obs",
}
"""robomimic's names of our columns, in the group of a demonstration."""


def matches(source: str) -> bool:
    """Whether the source is an HDF5 file with groups in a group ``data``, and no arrays at its root."""
    groups = root_keys(source, groups=True)
    if "data" not in groups or "observations" in root_keys(source):
        return False
    with opened(Path(source)) as file:
        return bool(_groups(file["data"])) or not len(file["data"])


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A robomimic file: its demonstrations in the order of their numbers.

    Raises:
        DatasetError: not robomimic's layout, without observations, or with images that are not dropped.
    """
    if options.max_episode_steps is not None:
        raise DatasetError(f"{source}: robomimic defines where episodes end: leave out --max-episode-steps")
    check_asked(source, options.names, (*USUAL, "truncated"))
    path, names = Path(source).absolute(), USUAL | options.names
    with opened(path) as file:
        demos = _demos(file, source, names)
        first = _parts(file, demos[0], names["observation"], source)
        shapes = {name: part.shape[1:] for name, part in first.items()}
        words = [name for name, part in first.items() if part.dtype.kind not in "fiub"]
        kept = kept_parts(source, shapes, options.drop_columns, words)
        _refuse_more_parts(file, demos, names["observation"], shapes, options.drop_columns, source)
        lengths = {demo: _checked_length(file, demo, names, kept, source) for demo in demos}
        present = {
            ours for ours, theirs in names.items() if all(theirs in file["data"][demo] for demo in demos)
        }
        _refuse_some(file, demos, names, present, source)
        absent = [theirs for ours, theirs in options.names.items() if ours not in present]
        if absent:
            raise _not_everywhere(source, absent[0], file["data"][demos[0]], options)
        some_next = any(names["next_observation"] in file["data"][demo] for demo in demos)
        part = next(iter(kept))
        longer = [d for d in demos if len(_parts(file, d, names["observation"], source)[part]) > lengths[d]]
        masks = tuple(f"mask/{key}" for key in file.get("mask", ()))
        further, unread = _further(file, lengths, set(names.values()))
        further |= dict.fromkeys(masks, pa.bool_())
        groups = set(_groups(file["data"]))
        beside = [name for name in file["data"] if name not in groups]
        env_id, env_notes = _environment(file["data"].attrs)
        flags = flags_of_success(n for n in file["data"][demos[0]] if all(n in file["data"][d] for d in demos))
    notes = [
        *([f"observation concatenates {', '.join(kept)}"] if any(kept) else []),
        *(
            ["dones are taken as true ends; robomimic also lets them mark the end of a recording"]
            if names["terminated"] == USUAL["terminated"] and "terminated" in present
            else []
        ),
        *([] if "reward" in present else [f"no rewards: all are read as 0{hint_at_success(flags)}"]),
        *([f"not read, no demonstrations: {', '.join(f'data/{name}' for name in beside)}"] if beside else []),
        *([f"without steps: {', '.join(d for d in demos if not lengths[d])}"] if 0 in lengths.values() else []),
        *(
            [f"{len(longer)} demonstration(s) hold T + 1 observations: the last is the state after them"]
            if longer
            else []
        ),
        *env_notes,
    ]
    return (
        Recording(
            path=path,
            format="robomimic",
            rows=sum(lengths.values()),
            batches=partial(_batches, path, source, lengths, names, kept, some_next or bool(longer)),
            further=further,
            unread=tuple(unread),
            others=partial(_others, path, source, lengths),
            named_episodes=lengths,
            success_flags=(*flags, *([USUAL["reward"]] if "reward" in present else [])),
            has_rewards="reward" in present,
            facts={"env_id": env_id, "observation_parts": recorded_parts(kept)},
            notes=tuple(notes),
        ),
    )


def _not_everywhere(source: str, name: str, found: Collection[str], options: ReadOptions) -> DatasetError:
    """The refusal of a name that is not in every demonstration; ``found`` are those of the first."""
    likely = nearest(name, found)
    return DatasetError(
        f"{source}: {name} is not in every demonstration, which "
        f"{'--success' if name == options.success else '--column'} names",
        details=(f"found: {', '.join(found)}",),
        fix=f"if you mean it: {' or '.join(likely)}" if likely else None,
    )


def _refuse_more_parts(
    file: Any, demos: Sequence[str], name: str, shapes: Collection[str], drop: Collection[str], source: str
) -> None:
    """Refuse a part of the observation that the first demonstration does not have."""
    for demo in demos[1:]:
        for part in _parts(file, demo, name, source):
            if part not in shapes and not any(part == other or part.startswith(f"{other}/") for other in drop):
                raise DatasetError(
                    f"{source}: data/{demo}/{name}/{part} is not in the first demonstration",
                    fix="give such demonstrations a file of their own",
                )


def _refuse_some(
    file: Any, demos: Sequence[str], names: Mapping[str, str], present: Collection[str], source: str
) -> None:
    """Refuse rewards or ends that some demonstrations have and others lack."""
    for ours in ("reward", "terminated", "truncated"):
        lacking = [demo for demo in demos if names.get(ours, "") not in file["data"][demo]]
        if ours in names and ours not in present and len(lacking) < len(demos):
            raise DatasetError(
                f"{source}: data/{lacking[0]} has no {names[ours]}, which other demonstrations have",
                details=(f"without it: {len(lacking)} of {len(demos)}",),
                fix="give such demonstrations a file of their own, or add what they lack",
            )


def _groups(data: Any) -> list[str]:
    import h5py  # deferred: the training core runs without it

    return [name for name in data if isinstance(data.get(name), h5py.Group)]


def _demos(file: Any, source: str, names: Mapping[str, str]) -> list[str]:
    demos = sorted(_groups(file["data"]), key=natural_order)
    if not demos:
        raise DatasetError(f"{source}: no demonstrations in data/")
    for name in demos:
        missing = [names[key] for key in ("observation", "action") if names[key] not in file["data"][name]]
        if missing:
            raise DatasetError(
                f"{source}: data/{name} has no {', '.join(missing)}",
                details=(f"found: {', '.join(file['data'][name])}",),
                fix="robomimic's dataset_states_to_obs.py extracts observations from states. For other names: "
                "--column observation=NAME,action=NAME",
            )
    return demos


def _parts(file: Any, demo: str, name: str, source: str) -> dict[str, StoredArray]:
    """The arrays of a demonstration's observation by name, also those of groups in it."""
    import h5py  # deferred: the training core runs without it

    key = f"data/{demo}/{name}"
    item = file[key]
    if isinstance(item, h5py.Dataset):
        return {"": StoredArray(file, key, source)}
    return {part: StoredArray(file, f"{key}/{part}", source) for part in _leaves(item)}


def _leaves(group: Any, depth: int = 0) -> Iterator[str]:
    """Names of what is no group, in a group and in those within it; links are followed."""
    import h5py  # deferred: the training core runs without it

    for name in group:
        inner = group.get(name)
        if isinstance(inner, h5py.Group) and depth < DEEPEST:
            yield from (f"{name}/{leaf}" for leaf in _leaves(inner, depth + 1))
        else:
            yield name


def _checked_length(
    file: Any, demo: str, names: Mapping[str, str], kept: Mapping[str, int], source: str
) -> int:
    """Steps of a demonstration whose arrays fit each other and those of the first."""
    length = len(StoredArray(file, f"data/{demo}/{names['action']}", source))
    for ours in ("observation", "next_observation"):
        if names[ours] not in file["data"][demo]:
            continue
        parts = _parts(file, demo, names[ours], source)
        for part, size in kept.items():
            key = f"data/{demo}/{names[ours]}" + (f"/{part}" if part else "")
            if part not in parts:
                raise DatasetError(f"{source}: {key} is missing, which other demonstrations have")
            array = parts[part]
            width = int(np.prod(array.shape[1:]))
            if width != size and length:
                raise DatasetError(
                    f"{source}: {key} has {width} numbers a step, the first demonstration {size}",
                    fix=f"leave it out with --drop-columns {part}, or move such demonstrations to another file",
                )
            longer = ours == "observation" and names["next_observation"] not in file["data"][demo]
            if len(array) != length and not (longer and len(array) == length + 1):
                raise DatasetError(
                    f"{source}: {key} has {len(array)} entries, {names['action']} {length}",
                    fix="each array needs an entry for every step; observations may have one more",
                )
    for ours in [ours for ours in ("reward", "terminated", "truncated") if ours in names]:
        if names[ours] in file["data"][demo]:
            array = StoredArray(file, f"data/{demo}/{names[ours]}", source)
            if len(array) != length:
                raise DatasetError(f"{array.name} has {len(array)} entries, {names['action']} {length}")
    return length


def _environment(attributes: Any) -> tuple[str | None, tuple[str, ...]]:
    """The id of a Gymnasium environment, and notes."""
    if "env_args" not in attributes:
        return None, ()
    try:
        facts = json.loads(text(attributes["env_args"]))
        return (facts.get("env_name") if facts.get("type") == GYM_ENVIRONMENT else None), ()
    except (ValueError, AttributeError):
        return None, ("the attribute env_args of data is no JSON object: the environment is not known",)


def _batches(
    path: Path,
    source: str,
    lengths: dict[str, int],
    names: Mapping[str, str],
    kept: dict[str, int],
    some_next: bool,
    rows: int,
) -> Iterator[Columns]:
    demos: list[dict[str, Array]] = []
    count = 0
    with opened(path) as file:
        for number, (demo, length) in enumerate(lengths.items()):
            demos.append(_demo(file, demo, length, names, kept, number, source, some_next))
            count += length
            if count >= rows or number == len(lengths) - 1:
                yield {key: np.concatenate([demo[key] for demo in demos]) for key in demos[0]}
                demos, count = [], 0


def _demo(
    file: Any,
    demo: str,
    length: int,
    names: Mapping[str, str],
    kept: dict[str, int],
    number: int,
    source: str,
    some_next: bool,
) -> dict[str, Array]:
    group = file["data"][demo]

    def states(name: str) -> Array:
        parts = _parts(file, demo, name, source)
        return joined({part: parts[part][()] for part in kept}, kept)

    def array(ours: str, absent: Array) -> Array:
        name = names.get(ours, "")
        return StoredArray(file, f"data/{demo}/{name}", source)[()] if name and name in group else absent

    observation = states(names["observation"])
    columns = {
        "observation": observation[:length],
        "action": array("action", np.empty(0)),
        "reward": array("reward", np.zeros(length, np.float32)),
        "terminated": array("terminated", np.zeros(length, bool)),
        "episode_id": np.full(length, number),
        "step_index": np.arange(length),
    }
    ended = np.asarray(columns["terminated"]).reshape(-1) != 0
    truncated = array("truncated", np.zeros(length, bool))
    columns["truncated"] = flag_column(truncated, "truncated", length, f"{source}: data/{demo}")
    columns["truncated"][-1:] |= ~ended[-1:]
    if some_next:
        known = np.ones(length, bool)
        if names["next_observation"] in group:
            following = states(names["next_observation"])
        else:
            known[len(observation) - 1 :] = False
            following = np.concatenate([observation[1:], np.zeros_like(observation[:1])])[:length]
        columns |= {"next_observation": following, "has_successor": known}
    return columns


def write_masks(folder: Path, dataset: Dataset, keep: Array, key: str) -> None:
    """Files that stand for robomimic's own, with the kept demonstrations under a filter key.

    Each holds a link to the group ``data`` of the source in place of a copy, its filter keys, and the new one.
    The link is relative, so that both can be moved together. The file has a name of its own: beside the source,
    one of the same name would be a link to itself.

    Args:
        keep: (n,) bool, whole demonstrations.

    Raises:
        DatasetError: the dataset is not robomimic's, or some rows of a demonstration are kept, and not all.
    """
    import h5py  # deferred: the training core runs without it

    if dataset.format != "robomimic":
        raise DatasetError(
            f"{dataset.source}: a filter key can be added to a robomimic dataset, this is {dataset.format}",
            fix="choose another --format, such as parquet",
        )
    row = 0
    for recording, name in zip(dataset.recordings, dataset.shard_names, strict=True):
        kept, row = _kept_demos(recording.named_episodes, keep, row)
        with h5py.File(folder / f"{name}.filtered.hdf5", "w") as file:
            target = os.path.relpath(recording.path.resolve(), folder.resolve())
            file["data"] = h5py.ExternalLink(target, "data")
            with opened(recording.path) as source:
                masks = {mask: source["mask"][mask][()] for mask in source.get("mask", ())}
            for mask, demos in (masks | {key: np.array(kept, dtype="S")}).items():
                file[f"mask/{mask}"] = demos


def _kept_demos(lengths: Mapping[str, int], keep: Array, row: int) -> tuple[list[bytes], int]:
    """Names of the demonstrations of a file that are kept, and the row after its last."""
    kept = []
    for demo, length in lengths.items():
        count = int(keep[row : row + length].sum())
        if 0 < count < length:
            raise DatasetError(
                f"a filter key is of whole demonstrations; of {demo} {count} of {length} rows are kept",
                fix="choose episodes with --level episode, or another --format, such as parquet",
            )
        kept += [demo.encode()] if count else []
        row += length
    return kept, row


def _further(
    file: Any, lengths: Mapping[str, int], used: Collection[str]
) -> tuple[dict[str, pa.DataType], list[str]]:
    """Types by name of arrays beside the columns, with an entry for each step, and names of others with one."""
    import h5py  # deferred: the training core runs without it

    groups = {demo: file["data"][demo] for demo in lengths}
    types, unread = dict[str, pa.DataType](), list[str]()
    for name in (name for name in next(iter(groups.values())) if name not in used):
        arrays = [group.get(name) for group in groups.values()]
        if not all(isinstance(array, h5py.Dataset) and array.shape for array in arrays):
            continue
        if [array.shape[0] for array in arrays] == list(lengths.values()):
            kinds = {array_type(array.dtype, array.shape) for array in arrays}
            kind = kinds.pop() if len(kinds) == 1 else None
            if kind is None:
                unread.append(name)
            else:
                types[name] = kind
    return types, unread


def _others(path: Path, source: str, lengths: dict[str, int], names: Sequence[str]) -> Iterator[pa.Table]:
    """Of each demonstration, whether it is under a filter key, and arrays of it."""
    with opened(path) as file:
        members = {
            key: {text(demo) for demo in StoredArray(file, key, source)[()]}
            for key in names
            if key.startswith("mask/")
        }
        for demo, length in lengths.items():
            yield table_of(
                {
                    name: np.full(length, demo in members[name])
                    if name in members
                    else StoredArray(file, f"data/{demo}/{name}", source)[()]
                    for name in names
                }
            )
