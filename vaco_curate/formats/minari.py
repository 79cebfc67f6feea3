"""Minari datasets (0.5): an id in the local store, or the folder of a dataset."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.columns import transitions_from_columns
from vaco_curate.errors import DatasetError
from vaco_curate.formats.environment import leaves
from vaco_curate.formats.options import ReadOptions
from vaco_curate.transitions import Array, Transitions

CUT_LENGTH = 32_767
"""Arrow and Parquet storage silently cut longer episodes (Farama-Foundation/Minari issue 351)."""


def matches(source: str) -> bool:
    """Whether the source is a dataset folder, or the id of a dataset in the local store."""
    return _data_folder(source) is not None


def read(source: str, options: ReadOptions) -> Transitions:
    """Read all episodes; a row's successor is the observation after it, also at a time limit.

    Raises:
        DatasetError: an episode is empty or cut, observations are images, or the store is damaged.
    """
    import minari  # deferred: heavy, and absent on a bare training machine

    folder = _data_folder(source)
    assert folder is not None, "read is called for a source that matches"
    if options.columns or options.max_episode_steps is not None:
        raise DatasetError(
            f"{source}: Minari names its columns and ends itself: no --column, --max-episode-steps"
        )
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            dataset = minari.MinariDataset(folder)
            episodes = list(dataset.iterate_episodes())
        except Exception as error:  # any of h5py, pyarrow, json, gymnasium may stumble over a damaged store
            raise DatasetError(
                f"{source}: Minari cannot read this dataset",
                details=(f"{type(error).__name__}: {error}",),
                fix="download or create it again",
            ) from error
    _check_lengths(source, dataset, episodes)
    metadata = dataset.storage.metadata
    space = dataset.spec.action_space
    _check_action_space(source, space)
    references = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    names = [name for name, _ in leaves(episodes[0].observations)]
    notes = (f"observation concatenates {', '.join(names)}",) if len(names) > 1 else ()
    return transitions_from_columns(
        _columns(source, episodes),
        source=source,
        format_name="minari",
        path=folder,
        **_environment_facts(dataset.env_spec),
        action_low=space.low,
        action_high=space.high,
        reference_returns=None if None in references else (float(references[0]), float(references[1])),
        notes=notes,
    )


def _data_folder(source: str) -> Path | None:
    """The folder that holds ``metadata.json``, for a folder or an id."""
    path = Path(source)
    candidates = [path, path / "data"]
    if not path.exists():
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.storage import get_dataset_path

        with contextlib.suppress(ValueError, TypeError):  # Minari raises either for what is no id
            parse_dataset_id(source)
            candidates = [get_dataset_path(source) / "data"]
    return next((folder for folder in candidates if (folder / "metadata.json").is_file()), None)


def _check_action_space(source: str, space: Any) -> None:
    from gymnasium.spaces import Box  # deferred: heavy, and absent on a bare training machine

    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise DatasetError(
            f"{source}: the action space is {space}",
            details=("VACO here is for continuous control: actions are real vectors",),
            fix="use a dataset with a Box action space",
        )


def _environment_facts(spec: Any) -> dict[str, Any]:
    """Id and arguments of the recorded environment, as far as JSON can hold them."""
    if spec is None:
        return {"env_id": None}
    arguments = dict(spec.kwargs)
    if spec.max_episode_steps is not None:
        arguments["max_episode_steps"] = spec.max_episode_steps
    return {"env_id": spec.id, "env_kwargs": json.loads(json.dumps(arguments, default=str))}


def _check_lengths(source: str, dataset: Any, episodes: list[Any]) -> None:
    if not episodes:
        raise DatasetError(f"{source}: the dataset has zero episodes")
    empty = [episode.id for episode in episodes if len(episode.rewards) == 0]
    if empty:
        raise DatasetError(
            f"{source}: episode {empty[0]} has zero steps ({len(empty)} such episode(s))",
            fix="remove empty episodes before creating the dataset",
        )
    found, promised = sum(len(episode.rewards) for episode in episodes), int(dataset.total_steps)
    longest = max(len(episode.rewards) for episode in episodes)
    if found != promised or longest == CUT_LENGTH:
        raise DatasetError(
            f"{source}: {found} steps found, the metadata promises {promised}; longest episode {longest}",
            details=(
                f"Minari's Arrow and Parquet storage cuts episodes at {CUT_LENGTH} steps (Minari issue 351)",
            ),
            fix='create the dataset again with data_format="hdf5"',
        )


def _columns(source: str, episodes: list[Any]) -> dict[str, Array]:
    observations = [_vectors(source, episode.observations, "observation") for episode in episodes]
    short = [e.id for e, o in zip(episodes, observations, strict=True) if len(o) != len(e.rewards) + 1]
    if short:
        raise DatasetError(f"{source}: episode {short[0]} does not have one observation more than it has steps")
    lengths = [len(episode.rewards) for episode in episodes]
    return {
        "observation": np.concatenate([o[:-1] for o in observations]),
        "next_observation": np.concatenate([o[1:] for o in observations]),
        "action": np.concatenate([_vectors(source, episode.actions, "action") for episode in episodes]),
        "reward": np.concatenate([np.asarray(episode.rewards) for episode in episodes]),
        "terminated": np.concatenate([np.asarray(episode.terminations) for episode in episodes]),
        "truncated": np.concatenate([np.asarray(episode.truncations) for episode in episodes]),
        "episode_id": np.repeat([int(episode.id) for episode in episodes], lengths),
        "step_index": np.concatenate([np.arange(length) for length in lengths]),
    }


def _vectors(source: str, value: Any, what: str) -> Array:
    """(steps, size) of one episode, nested spaces concatenated."""
    parts = []
    for name, leaf in leaves(value):
        array = np.asarray(leaf)
        if array.ndim > 2:
            raise DatasetError(
                f"{source}: {what} {name} has shape {array.shape[1:]} per step: images are not supported",
                fix="keep the state vector only; vaco-curate works on vectors",
            )
        parts.append(array[:, None] if array.ndim == 1 and what == "observation" else array)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
