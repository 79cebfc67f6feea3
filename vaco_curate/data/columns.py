"""From the columns that a source has to ``Transitions``: types, flags, episodes and successors.

A source is read some rows at a time. ``checked_columns`` gives a batch the types of ``Transitions``, the module
``episodes`` tells its episodes apart and holds back what is not complete yet, and ``transitions_of_episodes``
derives steps and successors of what is.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array, Transitions, check_same_length
from vaco_curate.data.episodes import Columns, EpisodeNumbers
from vaco_curate.data.successors import SAMPLE_ROWS, Continuity, Findings
from vaco_curate.errors import DatasetError


def transitions_from_columns(
    columns: Columns, *, source: str, format_name: str, max_episode_steps: int | None = None, **facts: Any
) -> Transitions:
    """Build ``Transitions`` from what a source has, deriving what it lacks.

    Args:
        columns: ``observation``, ``action`` and ``reward``; the other columns of ``Transitions``
            are optional. Missing flags are false; missing episode ids follow from the flags, and from stored
            next observations that are not those of the next row; without ``next_observation`` a row's
            successor is the next row of the same path.
        max_episode_steps: with neither episode ids, ``truncated`` nor ``next_observation``, an episode also
            ends after this many steps.
        facts: the remaining fields of ``Transitions`` (``env_id``, ``notes`` and so on).

    Raises:
        DatasetError: a column is missing, of the wrong length or type, or holds NaN or infinity.
    """
    facts["notes"] = (*facts.get("notes", ()), *notes_on_episodes(columns, max_episode_steps))
    checked = checked_columns(columns, source)
    if not len(checked["reward"]):
        raise DatasetError(f"{source}: the dataset has zero rows")
    findings = Findings()
    continuity = continuity_of(checked, source)
    numbered = EpisodeNumbers(0, step_limit(columns, max_episode_steps), continuity, findings).of(checked)
    facts["notes"] = (*facts["notes"], *findings.notes())
    return transitions_of_episodes(numbered, source=source, format_name=format_name, **facts)


def continuity_of(checked: Columns, source: str) -> Continuity | None:
    """What the first of some checked rows say of their stored successors; None where none are stored.

    Raises:
        DatasetError: rows of several environments alternate.
    """
    if "next_observation" not in checked or not len(checked["reward"]):
        return None
    return Continuity.of({name: values[:SAMPLE_ROWS] for name, values in checked.items()}, source)


TELLS_ENDS = ("episode_id", "truncated", "next_observation")
"""Columns of which any tells where episodes end, beside true ends."""


def step_limit(columns: Container[str], max_episode_steps: int | None) -> int | None:
    """The step limit, for a source of whose columns none tells where episodes end; None for any other."""
    return None if any(name in columns for name in TELLS_ENDS) else max_episode_steps


def notes_on_episodes(columns: Container[str], max_episode_steps: int | None) -> list[str]:
    """What has to be assumed about the episodes of a source that has these columns, in plain words."""
    if any(name in columns for name in TELLS_ENDS):
        told = "the source tells where its episodes end: the given step limit is not used"
        notes = [told] if max_episode_steps is not None else []
        if "episode_id" not in columns and "truncated" not in columns:
            notes.append(
                "no time-limit flags: episodes end at terminals, and where the stored next observation is not "
                "that of the next row"
            )
        return notes
    if max_episode_steps is None:
        return [
            "no time-limit flags: episodes end at terminals only; "
            "name the environment's step limit with --max-episode-steps if it has one"
        ]
    return [f"no time-limit flags: episodes end at terminals or after {max_episode_steps} steps"]


def checked_columns(columns: Columns, source: str, first_row: int = 0) -> dict[str, Array]:
    """Columns in the types of ``Transitions``, and all flags.

    Args:
        first_row: number of the first row in the source, for messages.

    Raises:
        DatasetError: a column is missing, or of the wrong length or type.
    """
    for name in ("observation", "action", "reward"):
        if name not in columns:
            raise DatasetError(f"{source}: no column for {name}", details=(f"found: {', '.join(columns)}",))
    checked = {
        "observation": _float_column(columns["observation"], "observation", source, ndim=2),
        "action": _action_column(columns["action"], source),
        "reward": _float_column(columns["reward"], "reward", source, ndim=1),
    }
    count = len(checked["reward"])
    for name in ("terminated", "truncated"):
        checked[name] = flag_column(columns.get(name), name, count, source, first_row)
    for name in ("episode_id", "step_index"):
        if name in columns:
            checked[name] = _whole_numbers(columns[name], name, source, first_row)
    if "next_observation" in columns:
        checked["next_observation"] = _float_column(
            columns["next_observation"], "next_observation", source, ndim=2
        )
        if checked["next_observation"].shape[1:] != checked["observation"].shape[1:]:
            raise DatasetError(
                f"{source}: next_observation has {checked['next_observation'].shape[1]} numbers a row, "
                f"observation {checked['observation'].shape[1]}"
            )
        known = columns.get("has_successor", np.ones(count, bool))
        checked["has_successor"] = flag_column(known, "has_successor", count, source, first_row)
        if not checked["has_successor"].all():  # what stands there in its place says nothing
            stored = checked["next_observation"]
            checked["next_observation"] = np.where(
                checked["has_successor"][:, None], stored, stored.dtype.type(0)
            )
    check_same_length(source, **checked)
    return checked


def transitions_of_episodes(columns: Columns, *, source: str, format_name: str, **facts: Any) -> Transitions:
    """Build ``Transitions`` from checked columns of whole episodes.

    Args:
        facts: as for ``transitions_from_columns``.

    Raises:
        DatasetError: contents that ``Transitions`` refuses.
    """
    fields: dict[str, Any] = dict(columns) | facts
    if "step_index" not in fields:
        fields["step_index"] = _steps(fields["episode_id"])
    if "next_observation" not in fields:
        fields["next_observation"], fields["has_successor"] = _next_rows(
            fields["observation"],
            fields["terminated"] | fields["truncated"],
            fields["episode_id"],
            fields["step_index"],
        )
        fields["followed"] = fields["has_successor"]
    fields.setdefault("is_reset", np.zeros(len(fields["reward"]), bool))
    _drop_bounds_of_another_size(fields)
    return Transitions(source=source, format=format_name, **fields)


def _float_column(values: Array, name: str, source: str, *, ndim: int) -> Array:
    """The column as a float array of the given rank; ``(n, 1)`` and ``(n,)`` stand for each other."""
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{source}: {name} holds {values.dtype}, not numbers")
    if values.ndim > 2:
        raise DatasetError(
            f"{source}: {name} has shape {values.shape}: images and stacked observations are not supported",
            fix="keep the state vector only; vaco-curate works on (rows, size) arrays",
        )
    if ndim == 1 and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if ndim == 2 and values.ndim == 1:
        values = values[:, None]
    if values.ndim != ndim:
        raise DatasetError(f"{source}: {name} has shape {values.shape}, expected {ndim} dimension(s)")
    if values.dtype in (np.float32, np.float64):
        return values
    wide = values.dtype.kind in "iu" or values.dtype.itemsize > 4
    return values.astype(np.float64 if wide and values.dtype.itemsize >= 4 else np.float32)


def _action_column(values: Array, source: str) -> Array:
    if values.dtype.kind in "iub":
        raise DatasetError(
            f"{source}: action holds integers ({values.dtype})",
            details=("vaco-curate is for continuous control: actions are real vectors",),
            fix="use a dataset with continuous actions, or store real-valued actions as floats",
        )
    return _float_column(values, "action", source, ndim=2)


def flag_column(values: Array | None, name: str, count: int, source: str, first_row: int = 0) -> Array:
    """A bool column from bools, 0/1 integers or 0.0/1.0 floats, (n,) or (n, 1); all false for None.

    Args:
        first_row: number of the first row in the source, for messages.

    Raises:
        DatasetError: of another shape, or other numbers.
    """
    if values is None:
        return np.zeros(count, dtype=bool)
    flat = values.reshape(len(values)) if values.ndim == 2 and values.shape[1] == 1 else values
    if flat.ndim != 1:
        raise DatasetError(f"{source}: {name} has shape {values.shape}, expected (rows,) or (rows, 1)")
    odd = np.flatnonzero((flat != 0) & (flat != 1))
    if odd.size:
        raise DatasetError(
            f"{source}: {name} is {flat[odd[0]]} in row {first_row + odd[0]}; flags must be 0 or 1"
        )
    return flat.astype(bool)


def _whole_numbers(values: Array, name: str, source: str, first_row: int) -> Array:
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        row = int(np.flatnonzero(~np.isfinite(values) | (values != np.round(values)))[0])
        raise DatasetError(f"{source}: {name} is {values[row]} in row {first_row + row}, not a whole number")
    if values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any():
        raise DatasetError(f"{source}: {name} exceeds 2**63 - 1")
    return values.astype(np.int64)


def _drop_bounds_of_another_size(fields: dict[str, Any]) -> None:
    low, high, shape = fields.get("action_low"), fields.get("action_high"), fields["action"].shape[1:]
    if low is not None and high is not None and (np.shape(low) == np.shape(high) == shape):
        return
    if low is not None and high is not None:
        note = f"the action space of {fields.get('env_id')} has another size than the actions: not used"
        fields["notes"] = (*fields.get("notes", ()), note)
    fields["action_low"] = fields["action_high"] = None


def _steps(episode_id: Array) -> Array:
    starts = np.concatenate([[0], np.flatnonzero(np.diff(episode_id)) + 1])
    lengths = np.diff(np.append(starts, len(episode_id)))
    return np.asarray(np.arange(len(episode_id)) - np.repeat(starts, lengths))


def _next_rows(observation: Array, ends: Array, episode_id: Array, step_index: Array) -> tuple[Array, Array]:
    """Successors taken from the next row, where it belongs to the same path."""
    has_successor = np.zeros(len(observation), dtype=bool)
    has_successor[:-1] = ~ends[:-1] & (episode_id[1:] == episode_id[:-1]) & (np.diff(step_index) == 1)
    next_observation = np.zeros_like(observation)
    rows = np.flatnonzero(has_successor)
    next_observation[rows] = observation[rows + 1]
    return next_observation, has_successor
