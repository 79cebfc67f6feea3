"""robomimic HDF5: a group ``data/demo_i`` for each demonstration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.columns import Columns
from vaco_curate.errors import DatasetError
from vaco_curate.formats.dataset import Dataset
from vaco_curate.formats.hdf5 import opened, root_keys, text
from vaco_curate.formats.options import ReadOptions
from vaco_curate.formats.parts import joined, kept_parts, recorded_parts
from vaco_curate.formats.recording import Recording, natural_order
from vaco_curate.transitions import Array

GYM_ENVIRONMENT = 2
"""Type of the environments that have Gymnasium's ids, in robomimic's metadata (``EnvType.GYM_TYPE``)."""


def matches(source: str) -> bool:
    """Whether the source is an HDF5 file with a group ``data`` and no arrays at its root."""
    return "data" in root_keys(source, groups=True) and "observations" not in root_keys(source)


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A robomimic file: its demonstrations in the order of their numbers.

    Raises:
        DatasetError: not robomimic's layout, without observations, or with images that are not dropped.
    """
    if options.columns or options.max_episode_steps is not None:
        raise DatasetError(
            f"{source}: robomimic names its columns and ends itself: no --column, --max-episode-steps"
        )
    path = Path(source).absolute()
    with opened(path) as file:
        demos = _demos(file, source)
        first = file["data"][demos[0]]
        kept = kept_parts(source, {k: v.shape[1:] for k, v in first["obs"].items()}, options.drop_columns)
        for name in demos:
            missing = [part for part in kept if part not in file["data"][name]["obs"]]
            if missing:
                raise DatasetError(f"{source}: data/{name} has no obs/{missing[0]}, which {demos[0]} has")
        lengths = {name: len(file["data"][name]["actions"]) for name in demos}
        masks = tuple(f"mask/{key}" for key in file.get("mask", ()))
        has_rewards = all("rewards" in file["data"][name] for name in demos)
        env_id = _env_id(file["data"].attrs)
    return (
        Recording(
            path=path,
            format="robomimic",
            rows=sum(lengths.values()),
            batches=partial(_batches, path, lengths, kept),
            labels=masks,
            label=partial(_label, path, lengths),
            has_rewards=has_rewards,
            facts={"env_id": env_id, "observation_parts": recorded_parts(kept)},
            notes=(
                f"observation concatenates {', '.join(kept)}",
                "dones are taken as true ends; robomimic also lets them mark the end of a recording",
                *(() if has_rewards else ("no rewards: all are read as 0",)),
            ),
        ),
    )


def _demos(file: Any, source: str) -> list[str]:
    demos = sorted(file["data"], key=natural_order)
    if not demos:
        raise DatasetError(f"{source}: no demonstrations in data/")
    for name in demos:
        missing = [key for key in ("obs", "actions") if key not in file["data"][name]]
        if missing:
            raise DatasetError(
                f"{source}: data/{name} has no {', '.join(missing)}",
                details=(f"found: {', '.join(file['data'][name])}",),
                fix="robomimic's dataset_states_to_obs.py extracts observations from states",
            )
    return demos


def _env_id(attributes: Any) -> str | None:
    facts = json.loads(text(attributes["env_args"])) if "env_args" in attributes else {}
    return facts.get("env_name") if facts.get("type") == GYM_ENVIRONMENT else None


def _batches(path: Path, lengths: dict[str, int], kept: dict[str, int], rows: int) -> Iterator[Columns]:
    demos: list[dict[str, Array]] = []
    count = 0
    with opened(path) as file:
        for number, (name, length) in enumerate(lengths.items()):
            demos.append(_demo(file["data"][name], length, kept, number))
            count += length
            if count >= rows or number == len(lengths) - 1:
                yield {key: np.concatenate([demo[key] for demo in demos]) for key in demos[0]}
                demos, count = [], 0


def _demo(group: Any, length: int, kept: dict[str, int], number: int) -> dict[str, Array]:
    columns = {
        "observation": joined({name: group["obs"][name][()] for name in kept}, kept),
        "action": group["actions"][()],
        "reward": group["rewards"][()] if "rewards" in group else np.zeros(length, np.float32),
        "terminated": group["dones"][()] if "dones" in group else np.zeros(length, bool),
        "episode_id": np.full(length, number),
        "step_index": np.arange(length),
    }
    if "next_obs" in group:
        columns["next_observation"] = joined({name: group["next_obs"][name][()] for name in kept}, kept)
    ended = np.asarray(columns["terminated"]).reshape(-1) != 0
    columns["truncated"] = np.zeros(length, bool)
    columns["truncated"][-1:] = ~ended[-1:]
    return columns


def write_masks(folder: Path, dataset: Dataset, keep: Array, key: str) -> None:
    """Files that stand for robomimic's own, with the kept demonstrations under a filter key.

    Each holds a link to the group ``data`` of the source in place of a copy, its filter keys, and the new one.

    Args:
        keep: (n,) bool, whole demonstrations.

    Raises:
        DatasetError: the dataset is not robomimic's, or some rows of a demonstration are kept, and not all.
    """
    import h5py  # deferred: the training core runs without it

    if dataset.format != "robomimic":
        raise DatasetError(
            f"{dataset.source}: a filter key can be added to a robomimic dataset, this is {dataset.format}",
            fix="choose another --format, parquet for one",
        )
    row = 0
    for path, name in zip(dataset.files, dataset.shard_names, strict=True):
        kept, row = _kept_demos(path, keep, row)
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            file["data"] = h5py.ExternalLink(str(path.resolve()), "data")
            with opened(path) as source:
                masks = {mask: source["mask"][mask][()] for mask in source.get("mask", ())}
            for mask, demos in (masks | {key: np.array(kept, dtype="S")}).items():
                file[f"mask/{mask}"] = demos


def _kept_demos(path: Path, keep: Array, row: int) -> tuple[list[bytes], int]:
    """Names of the demonstrations of a file that are kept, and the row after its last."""
    kept = []
    with opened(path) as source:
        for demo in _demos(source, str(path)):
            length = len(source["data"][demo]["actions"])
            count = int(keep[row : row + length].sum())
            if 0 < count < length:
                raise DatasetError(
                    f"a filter key is of whole demonstrations; of {demo} {count} of {length} rows are kept",
                    fix="choose episodes with --level episode, or another --format, parquet for one",
                )
            kept += [demo.encode()] if count else []
            row += length
    return kept, row


def _label(path: Path, lengths: dict[str, int], name: str) -> Array:
    """Whether a row's demonstration is under a filter key."""
    with opened(path) as file:
        members = {text(demo) for demo in file[name][()]}
    return np.repeat([demo in members for demo in lengths], list(lengths.values()))
