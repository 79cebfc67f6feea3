"""OGBench npz: flat arrays, of which ``terminals`` marks the end of a trajectory, not of a task.

Every trajectory has one row more than transitions: its last row holds the state that was reached and an action
whose outcome was not recorded. Rows keep the numbers of the file, so that row is one without a successor. Where
a task was chosen, ``masks`` is 0 in rows where it succeeds: no value is bootstrapped there, and the trajectory
goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import check_same_length
from vaco_curate.data.columns import flag_column
from vaco_curate.data.episodes import Columns
from vaco_curate.data.formats import d4rl
from vaco_curate.data.formats.names import Joined, check_asked, flags_of_success, hint_at_success, named
from vaco_curate.data.formats.npz import SUFFIX, NpzArrays, notes_on_left_out, opened_npz
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.others import array_tables, further_arrays
from vaco_curate.data.formats.parts import kept_parts
from vaco_curate.data.formats.recording import Recording
from vaco_curate.errors import DatasetError

USUAL = {
    "observation": "observations",
    "action": "actions",
    "terminals": "terminals",
    "reward": "rewards",
    "masks": "masks",
    "next_observation": "next_observations",
    "valids": "valids",
}
"""OGBench's names of our columns, and of the flags that are its own."""

REQUIRED = ("observation", "action", "terminals")

NO_REWARDS = "no rewards, OGBench has none before a task is chosen: read as 0"


def matches(source: str) -> bool:
    """Whether the source names an npz file."""
    return source.lower().endswith(SUFFIX)


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """An OGBench file; rewards and masks count where a task was chosen and they were saved with it.

    Raises:
        DatasetError: not an npz file, an array missing, or observations are images.
    """
    if "terminated" in options.names or "truncated" in options.names:
        return d4rl.recordings(source, options)
    if options.max_episode_steps is not None or options.drop_columns:
        option = "--max-episode-steps" if options.max_episode_steps is not None else "--drop-columns"
        raise DatasetError(f"{source}: OGBench ends its episodes itself, in one observation: no {option}")
    path = Path(source).absolute()
    with opened_npz(path) as arrays:
        names = _names(arrays, source, options.names)
        columns = _columns(arrays, names)
        scalar = [", ".join(names[ours]) for ours, array in columns.items() if not array.ndim]
        if scalar:
            raise DatasetError(f"{source}: {', '.join(scalar)} is a single value, not one per row")
        kept_parts(source, {"": columns["observation"].shape[1:]}, ())
        check_same_length(source, **{USUAL[name]: np.empty(len(array)) for name, array in columns.items()})
        rows = len(columns["terminals"])
        used = {name for group in names.values() for name in group}
        further, unread = further_arrays(arrays, [name for name in arrays if name not in used], rows)
        left_out = notes_on_left_out(arrays)
        flags = flags_of_success(further)
    stored = "next_observation" in names
    return (
        Recording(
            path=path,
            format="ogbench",
            rows=rows,
            batches=partial(_batches, path, names),
            further=further,
            success_flags=flags,
            unread=tuple(unread),
            others=partial(_others, path, rows),
            has_rewards="reward" in names,
            notes=(
                "without timeouts an npz file is OGBench's: terminals end trajectories"
                + ("" if stored else "; the last row of each has no successor"),
                *(["masks of 0 are true ends, and trajectories go on after them"] if "masks" in names else []),
                *([] if "reward" in names else [f"{NO_REWARDS}{hint_at_success(flags)}"]),
                *(
                    ["if they are true ends: --column terminated=terminals"]
                    if "reward" in names and "masks" not in names
                    else []
                ),
                *left_out,
            ),
        ),
    )


def _names(arrays: NpzArrays, source: str, asked: Mapping[str, str]) -> dict[str, list[str]]:
    """The file's names by those of ``USUAL``."""
    check_asked(source, asked, ("observation", "action", "reward", "next_observation"))
    names = {ours: named(source, ours, theirs, list(arrays)) for ours, theirs in asked.items()}
    names |= {ours: [usual] for ours, usual in USUAL.items() if ours not in names and usual in arrays}
    missing = [USUAL[ours] for ours in REQUIRED if ours not in names]
    if missing:
        raise DatasetError(
            f"{source}: missing {', '.join(missing)}",
            details=(f"found: {', '.join(arrays) or 'nothing'}", *notes_on_left_out(arrays)),
            fix="an npz file is read as OGBench's, with timeouts as D4RL's; name its arrays if they have other "
            "names: --column observation=NAME,action=NAME",
        )
    return names


def _columns(arrays: NpzArrays, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    found = {ours: [arrays[name] for name in theirs] for ours, theirs in names.items()}
    return {ours: Joined(several) if len(several) > 1 else several[0] for ours, several in found.items()}


def _batches(path: Path, names: Mapping[str, Sequence[str]], rows: int) -> Iterator[Columns]:
    with opened_npz(path) as arrays:
        columns, episode = _columns(arrays, names), 0
        for start in range(0, len(columns["terminals"]), rows):
            part = slice(start, min(start + rows, len(columns["terminals"])))
            values = {name: array[part] for name, array in columns.items()}
            count, source = part.stop - part.start, str(path)
            ends = flag_column(values.pop("terminals"), "terminals", count, source, start)
            if (
                "valids" in values
            ):  # compact: the last two rows of a trajectory are terminals, the first is valid
                ends = ~flag_column(values.pop("valids"), "valids", count, source, start)
            goes_on = flag_column(values.pop("masks", np.ones(count)), "masks", count, source, start)
            yield values | {
                "reward": values.get("reward", np.zeros(count, np.float32)),
                "terminated": ~goes_on,
                "truncated": ends & goes_on,
                "episode_id": episode + np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64),
            }
            episode += int(ends.sum())


def _others(path: Path, rows: int, names: Sequence[str]) -> Iterator[pa.Table]:
    with opened_npz(path) as arrays:
        yield from array_tables({name: arrays[name] for name in names}, rows)
