"""From the columns that a source has to ``Transitions``: types, flags, episodes and successors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vaco_curate.errors import DatasetError
from vaco_curate.transitions import Array, Transitions, check_same_length


def transitions_from_columns(
    columns: Mapping[str, Array],
    *,
    source: str,
    format_name: str,
    max_episode_steps: int | None = None,
    **facts: Any,
) -> Transitions:
    """Build ``Transitions`` from what a source has, deriving what it lacks.

    Args:
        columns: ``observation``, ``action`` and ``reward``; the other columns of ``Transitions``
            are optional. Missing flags are false; missing episode ids follow from the flags; without
            ``next_observation`` a row's successor is the next row of the same path.
        max_episode_steps: with neither episode ids nor ``truncated``, an episode also ends after
            this many steps.
        facts: the remaining fields of ``Transitions`` (``env_id``, ``notes`` and so on).

    Raises:
        DatasetError: a column is missing, of the wrong length or type, or holds NaN or infinity.
    """
    for name in ("observation", "action", "reward"):
        if name not in columns:
            raise DatasetError(f"{source}: no column for {name}", details=(f"found: {', '.join(columns)}",))
    reward = _float_column(columns["reward"], "reward", source, ndim=1)
    count = len(reward)
    if count == 0:
        raise DatasetError(f"{source}: the dataset has zero rows")
    observation = _float_column(columns["observation"], "observation", source, ndim=2)
    action = _action_column(columns["action"], source)
    notes = list(facts.pop("notes", ()))
    terminated = _flag_column(columns.get("terminated"), "terminated", count, source)
    truncated = _flag_column(columns.get("truncated"), "truncated", count, source)
    check_same_length(
        source,
        observation=observation,
        action=action,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
    )

    if "episode_id" in columns:
        episode_id = _whole_numbers(columns["episode_id"], "episode_id", source)
    else:
        if "truncated" not in columns:
            truncated = _step_limit(terminated, max_episode_steps)
            notes.append(_note_on_missing_time_limits(max_episode_steps))
        ends = terminated | truncated
        episode_id = np.concatenate([[0], np.cumsum(ends[:-1])]).astype(np.int64)
    check_same_length(source, reward=reward, episode_id=episode_id)
    if "step_index" in columns:
        step_index = _whole_numbers(columns["step_index"], "step_index", source)
    else:
        step_index = _steps(episode_id)
    check_same_length(source, reward=reward, step_index=step_index)

    if "next_observation" in columns:
        next_observation = _float_column(columns["next_observation"], "next_observation", source, ndim=2)
        has_successor = _flag_column(
            columns.get("has_successor", np.ones(count, bool)), "has_successor", count, source
        )
        check_same_length(source, reward=reward, next_observation=next_observation, has_successor=has_successor)
    else:
        next_observation, has_successor = _next_rows(
            observation, terminated | truncated, episode_id, step_index
        )
    if _ends_in_a_row(terminated, episode_id):
        notes.append(
            "terminated rows follow one another: the flag may mark success rather than an end, "
            "as in AntMaze; every one of them ends an episode here"
        )
    _drop_bounds_of_another_size(facts, action.shape[1], notes)
    return Transitions(
        observation=observation,
        action=action,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        next_observation=next_observation,
        has_successor=has_successor,
        episode_id=episode_id,
        step_index=step_index,
        source=source,
        format=format_name,
        notes=tuple(notes),
        **facts,
    )


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
            details=("VACO here is for continuous control: actions are real vectors",),
            fix="use a dataset with continuous actions, or store real-valued actions as floats",
        )
    return _float_column(values, "action", source, ndim=2)


def _flag_column(values: Array | None, name: str, count: int, source: str) -> Array:
    """A bool column from bools, 0/1 integers or 0.0/1.0 floats, (n,) or (n, 1)."""
    if values is None:
        return np.zeros(count, dtype=bool)
    flat = values.reshape(len(values)) if values.ndim == 2 and values.shape[1] == 1 else values
    if flat.ndim != 1:
        raise DatasetError(f"{source}: {name} has shape {values.shape}, expected (rows,) or (rows, 1)")
    odd = np.flatnonzero((flat != 0) & (flat != 1))
    if odd.size:
        raise DatasetError(f"{source}: {name} is {flat[odd[0]]} in row {odd[0]}; only 0 and 1 are flags")
    return flat.astype(bool)


def _whole_numbers(values: Array, name: str, source: str) -> Array:
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        row = int(np.flatnonzero(~np.isfinite(values) | (values != np.round(values)))[0])
        raise DatasetError(f"{source}: {name} is {values[row]} in row {row}, not a whole number")
    if values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any():
        raise DatasetError(f"{source}: {name} exceeds 2**63 - 1")
    return values.astype(np.int64)


def _ends_in_a_row(terminated: Array, episode_id: Array) -> bool:
    """Whether some true end directly follows another, as no simulator that resets would record often."""
    one_step = terminated[1:] & terminated[:-1]
    return bool(one_step.sum() > 0.01 * len(np.unique(episode_id)) + 1)


def _drop_bounds_of_another_size(facts: dict[str, Any], action_size: int, notes: list[str]) -> None:
    low, high = facts.get("action_low"), facts.get("action_high")
    if low is None or high is None:
        facts["action_low"] = facts["action_high"] = None
    elif np.shape(low) != (action_size,) or np.shape(high) != (action_size,):
        notes.append(f"the action space of {facts.get('env_id')} has another size than the actions: not used")
        facts["action_low"] = facts["action_high"] = None


def _step_limit(terminated: Array, limit: int | None) -> Array:
    """Time-limit flags for a file without them: every ``limit`` steps since the last end."""
    truncated = np.zeros_like(terminated)
    if limit is None:
        return truncated
    start = 0
    for end in [*np.flatnonzero(terminated).tolist(), len(terminated) - 1]:
        truncated[start + limit - 1 : end + 1 : limit] = True
        start = end + 1
    return truncated & ~terminated


def _note_on_missing_time_limits(limit: int | None) -> str:
    if limit is None:
        return (
            "no time-limit flags: episodes end at terminals only; "
            "name the environment's step limit with --max-episode-steps if it has one"
        )
    return f"no time-limit flags: episodes end at terminals or after {limit} steps"


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
