"""The stage behind ``vaco-curate inspect``: what is in a dataset, and what is odd about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from vaco_curate.core.outliers import outliers
from vaco_curate.core.rewards import are_equal, magnitude
from vaco_curate.core.scaling import constant_columns, mean_and_deviation
from vaco_curate.core.transitions import Array, Transitions, blocks
from vaco_curate.data.formats import ReadOptions, open_dataset, opened_once
from vaco_curate.data.formats.cache import loaded
from vaco_curate.data.formats.further import SOURCE_FILE
from vaco_curate.data.formats.in_memory import IN_MEMORY, Source, is_address, on_disk
from vaco_curate.stages.words import counted, rounded, warned
from vaco_curate.wording import Note, as_notes

MANY_REPEATED = 0.01
"""Share of the rows from which copies are worth a word; resets alone repeat some."""


@dataclass(frozen=True)
class Spread:
    """Smallest, median, mean and largest of a quantity."""

    minimum: float
    median: float
    mean: float
    maximum: float


@dataclass(frozen=True)
class Inspection:
    """Facts about a dataset.

    Attributes:
        files: a name for each file or folder that is a unit of its own, in order.
        labels: further columns, with a value for every row.
        observation_parts: (name, size), where an observation concatenates several.
        rows_without_successor: rows whose next observation is unknown.
        rows_without_target: of those, rows that are no true end either; left out of TD updates.
        first_rows_without_successor: row numbers, at most ten.
        problems: what a user should know before training, in plain words.
    """

    source: str
    format: str
    files: list[str]
    labels: list[str]
    env_id: str | None
    rows: int
    episodes: int
    observation_size: int
    observation_parts: list[tuple[str, int]]
    action_size: int
    dtypes: dict[str, str]
    episode_length: Spread
    episode_return: Spread
    action_range: tuple[float, float]
    terminated_rows: int
    truncated_rows: int
    rows_without_successor: int
    rows_without_target: int
    first_rows_without_successor: list[int]
    fingerprint: str
    problems: tuple[Note, ...]

    def __repr__(self) -> str:
        sizes = f"{counted(self.rows, 'row')} in {counted(self.episodes, 'episode')}"
        width = f"observation {self.observation_size}, action {self.action_size}"
        mean = f"mean return {rounded(self.episode_return.mean)}"
        problems = warned(self.problems, "problem")
        return f"<Inspection {self.source}: {self.format}, {sizes}, {width}, {mean}{problems}>"


@opened_once()
def inspect_dataset(source: Source, read_options: ReadOptions | None = None) -> Inspection:
    """Read a dataset and describe it.

    Args:
        source: as for ``score_dataset``.

    Raises:
        DatasetError: it cannot be read or breaks the contract of ``Transitions``.
    """
    with on_disk(source) as address:
        found = _inspected(address, read_options)
    return found if is_address(source) else dataclasses.replace(found, source=IN_MEMORY, files=[IN_MEMORY])


def _inspected(source: str, read_options: ReadOptions | None) -> Inspection:
    dataset = open_dataset(source, read_options)
    data, _ = loaded(dataset)
    without = np.flatnonzero(~data.has_successor)
    return Inspection(
        source=source,
        format=data.format,
        files=list(dataset.file_names),
        labels=[*dataset.further.types, SOURCE_FILE],
        env_id=data.env_id,
        rows=len(data),
        episodes=len(data.episode_start),
        observation_size=data.observation_size,
        observation_parts=list(data.observation_parts),
        action_size=data.action_size,
        dtypes={name: str(getattr(data, name).dtype) for name in ("observation", "action", "reward")},
        episode_length=_spread(data.episode_length),
        episode_return=_spread(data.episode_return),
        action_range=(float(data.action.min()), float(data.action.max())),
        terminated_rows=int(data.terminated.sum()),
        truncated_rows=int(data.truncated.sum()),
        rows_without_successor=len(without),
        rows_without_target=int((~data.is_learnable).sum()),
        first_rows_without_successor=without[:10].tolist(),
        fingerprint=data.fingerprint,
        problems=as_notes([*data.notes, *_lost_columns(dataset.further.partly), *_problems(data)]),
    )


def _spread(values: Array) -> Spread:
    return Spread(float(values.min()), float(np.median(values)), float(values.mean()), float(values.max()))


def _lost_columns(partly: Mapping[str, str]) -> list[str]:
    return [f"the column {name} is not carried along: {why}" for name, why in partly.items()]


def _problems(data: Transitions) -> list[str]:
    problems = []
    last_rows = np.append(data.episode_start[1:], len(data)) - 1
    open_ended = int((~(data.terminated | data.truncated)[last_rows]).sum())
    if open_ended:
        problems.append(f"{open_ended:,} episode(s) end without a flag: no true end, no time limit")
    unfinished = data.terminated.copy()
    unfinished[last_rows] = False
    if unfinished.any():
        problems.append(f"{int(unfinished.sum()):,} row(s) are terminated but not the last of their episode")
    at_once = data.terminated[data.episode_start] & (data.episode_length == 1)
    if 0 < at_once.sum() < len(at_once) and at_once[1:][data.terminated[last_rows[:-1]]].sum() > 1:
        problems.append(
            f"{int(at_once.sum()):,} episode(s) end at their first step: the flag may mark success, not an end"
        )
    returns = data.episode_return
    if len(returns) > 1 and are_equal(float(returns.min()), float(returns.max()), magnitude(data)):
        problems.append("all episodes have the same return: returns cannot tell good from bad here")
    constant = int(constant_columns(*mean_and_deviation(data.observation)).sum())
    if constant:
        problems.append(f"{constant:,} observation dimension(s) are constant")
    problems += outliers(data)
    if data.action_low is not None and data.action_high is not None:
        low, high = data.action_low - 1e-6, data.action_high + 1e-6
        actions = (data.action[rows] for rows in blocks(len(data)))
        outside = sum(int(((some < low) | (some > high)).any(axis=1).sum()) for some in actions)
        if outside:
            problems.append(f"{outside:,} row(s) have actions outside the action space")
    repeated = _repeated(data)
    if repeated > MANY_REPEATED * len(data):
        problems.append(f"{repeated:,} rows repeat the observation and action of another: each copy counts")
    return problems


def _repeated(data: Transitions) -> int:
    """Rows whose observation and action an earlier row has, too; told by hashes, which hardly ever coincide."""
    hashes = np.empty(len(data), np.uint64)
    for rows in blocks(len(data)):
        pairs = np.concatenate([data.observation[rows], data.action[rows]], axis=1)
        hashes[rows] = pl.from_numpy(pairs).hash_rows().to_numpy()
    hashes.sort()
    return int((hashes[1:] == hashes[:-1]).sum())
