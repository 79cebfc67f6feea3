"""Minari datasets (0.5): an id in the local store, a folder, or ``minari:`` and an id to fetch."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array
from vaco_curate.data.episodes import Columns
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.others import array_type, table_of
from vaco_curate.data.formats.parts import joined, kept_parts, leaves, recorded_parts
from vaco_curate.data.formats.recording import Recording
from vaco_curate.errors import DatasetError

QUIET = threading.RLock()
"""Held while the output is redirected, which is one for all threads: rows and infos are read by two."""

PREFIX = "minari:"
INFOS = "infos/"
CUT_LENGTH = 32_767
"""Arrow and Parquet storage silently cut longer episodes (Farama-Foundation/Minari issue 351)."""


def matches(source: str) -> bool:
    """Whether the source is a dataset folder, the id of a dataset in the local store, or an id to fetch."""
    return source.startswith(PREFIX) or _data_folder(source) is not None


def recordings(source: str, options: ReadOptions) -> tuple[Recording, ...]:
    """A Minari dataset; a row's successor is the observation after it, also at a time limit.

    Raises:
        DatasetError: not to be had, no continuous actions, observations are images, or the store is damaged.
    """
    if options.names or options.max_episode_steps is not None:
        raise DatasetError(
            f"{source}: Minari defines its columns and episode ends",
            fix="leave out --column, --success and --max-episode-steps",
        )
    folder = _fetched(source) if source.startswith(PREFIX) else _data_folder(source)
    assert folder is not None, "read is called for a source that matches"
    dataset = _opened(source, folder)
    if dataset.total_episodes == 0:
        raise DatasetError(f"{source}: the dataset has zero episodes")
    metadata, space = dataset.storage.metadata, dataset.spec.action_space
    _check_action_space(source, space)
    references = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    kept = kept_parts(source, _shapes(source, dataset), options.drop_columns)
    names = ", ".join(kept)
    return (
        Recording(
            path=folder,
            format="minari",
            rows=int(dataset.total_steps),
            batches=partial(_batches, source, dataset, kept),
            further=_infos(source, dataset),
            others=partial(_others, source, dataset),
            facts={
                **_environment_facts(dataset.env_spec),
                "action_low": space.low,
                "action_high": space.high,
                "reference_returns": None
                if None in references
                else (float(references[0]), float(references[1])),
                "observation_parts": recorded_parts(kept),
            },
            notes=(f"observation concatenates {names}",) if len(kept) > 1 else (),
        ),
    )


def _fetched(source: str) -> Path:
    """The data folder of a dataset that Minari's own client finds in the local store, or downloads."""
    import minari  # deferred: heavy, and absent on a bare training machine

    name = source.removeprefix(PREFIX)
    found = _data_folder(name)
    if found is not None:
        return found
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            minari.download_dataset(name)
    except Exception as error:  # whatever the client's transport raises
        raise DatasetError(
            f"{source}: Minari could not fetch this dataset",
            details=(f"{type(error).__name__}: {error}",),
            fix="check the id with 'minari list remote', and the connection",
        ) from error
    found = _data_folder(name)
    if found is None:
        raise DatasetError(f"{source}: Minari fetched nothing", fix="check the id with 'minari list remote'")
    return found


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
    found = (folder.absolute() for folder in candidates if (folder / "metadata.json").is_file())
    return next(found, None)


def _opened(source: str, folder: Path) -> Any:
    import minari  # deferred: heavy, and absent on a bare training machine

    with _damage_refused(source), contextlib.redirect_stdout(io.StringIO()):
        return minari.MinariDataset(folder)


@contextlib.contextmanager
def _damage_refused(source: str) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # any of h5py, pyarrow, json, gymnasium may stumble over a damaged store
        raise DatasetError(
            f"{source}: Minari cannot read this dataset",
            details=(f"{type(error).__name__}: {error}",),
            fix="download or create it again",
        ) from error


def _check_action_space(source: str, space: Any) -> None:
    from gymnasium.spaces import Box  # deferred: heavy, and absent on a bare training machine

    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise DatasetError(
            f"{source}: the action space is {space}",
            details=("vaco-curate is for continuous control: actions are real vectors",),
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


def _shapes(source: str, dataset: Any) -> dict[str, tuple[int, ...]]:
    """Shape of one step of each part of the observation, as the first episode has it.

    Of images as their space has it: some versions of Minari give the bytes of a JPEG.
    """
    with _damage_refused(source):
        episode = next(iter(dataset.iterate_episodes()))
        shapes = {name: np.shape(leaf)[1:] for name, leaf in leaves(episode.observations)}
        promised = {name: space.shape or () for name, space in leaves(_parts(dataset.observation_space))}
    return {name: promised[name] if len(promised.get(name, ())) > 1 else shapes[name] for name in shapes}


def _parts(space: Any) -> Any:
    """A space of Dicts and Tuples as dictionaries and tuples."""
    inner = getattr(space, "spaces", None)
    if isinstance(inner, Mapping):
        return {name: _parts(part) for name, part in inner.items()}
    return tuple(map(_parts, inner)) if inner is not None else space


def _batches(source: str, dataset: Any, kept: dict[str, int], rows: int) -> Iterator[Columns]:
    episodes: list[dict[str, Array]] = []
    count, total, longest = 0, 0, 0
    for columns in _episodes(source, dataset, kept):
        length = len(columns["reward"])
        episodes.append(columns)
        count, total, longest = count + length, total + length, max(longest, length)
        if count >= rows:
            yield _together(episodes)
            episodes, count = [], 0
    cut = longest == CUT_LENGTH and dataset.storage.FORMAT != "hdf5"
    if total != int(dataset.total_steps) or cut:
        raise DatasetError(
            f"{source}: {total} steps found, the metadata promises {int(dataset.total_steps)}; "
            f"longest episode {longest}",
            details=(
                f"Minari's Arrow and Parquet storage cuts episodes at {CUT_LENGTH} steps (Minari issue 351)",
            ),
            fix='create the dataset again with data_format="hdf5"',
        )
    if episodes:
        yield _together(episodes)


def _episodes(source: str, dataset: Any, kept: dict[str, int]) -> Iterator[dict[str, Array]]:
    return (_episode(source, episode, kept) for episode in _raw_episodes(source, dataset))


def _raw_episodes(source: str, dataset: Any) -> Iterator[Any]:
    """One episode after the other; Minari's own printing is held back while it reads one, and only then."""
    episodes = iter(dataset.iterate_episodes())
    while True:
        with QUIET, _damage_refused(source), contextlib.redirect_stdout(io.StringIO()):
            episode = next(episodes, None)
        if episode is None:
            return
        yield episode


def _infos(source: str, dataset: Any) -> dict[str, pa.DataType]:
    """Types by name of the values that the first episode's infos hold for each step."""
    episode = next(_raw_episodes(source, dataset))
    steps = len(episode.rewards)
    arrays = {name: np.asarray(leaf) for name, leaf in leaves(episode.infos or {})}
    types = {
        f"{INFOS}{name}": array_type(array.dtype, array.shape)
        for name, array in arrays.items()
        if array.ndim and len(array) in (steps, steps + 1)
    }
    return {name: kind for name, kind in types.items() if kind is not None}


def _others(source: str, dataset: Any, names: Sequence[str]) -> Iterator[pa.Table]:
    """Infos of the steps; with one more than steps, the first is that of the reset, as with observations."""
    for episode in _raw_episodes(source, dataset):
        steps = len(episode.rewards)
        held = dict(leaves(episode.infos or {}))
        lacking = [name for name in names if len(held.get(name.removeprefix(INFOS), ())) < steps]
        if lacking:
            raise DatasetError(
                f"{source}: episode {episode.id} has no {lacking[0]} for every step, which the first has",
                fix="name the columns to carry along with --columns",
            )
        yield table_of({name: np.asarray(held[name.removeprefix(INFOS)])[:steps] for name in names})


def _together(episodes: list[dict[str, Array]]) -> Columns:
    return {name: np.concatenate([columns[name] for columns in episodes]) for name in episodes[0]}


def _episode(source: str, episode: Any, kept: dict[str, int]) -> dict[str, Array]:
    length = len(episode.rewards)
    if length == 0:
        raise DatasetError(
            f"{source}: episode {episode.id} has zero steps",
            fix="remove empty episodes before creating the dataset",
        )
    observation = joined(dict(leaves(episode.observations)), kept)
    if len(observation) != length + 1:
        raise DatasetError(
            f"{source}: episode {episode.id} does not have one observation more than it has steps"
        )
    actions = joined(dict(leaves(episode.actions)), {name: 0 for name, _ in leaves(episode.actions)})
    return {
        "observation": observation[:-1],
        "next_observation": observation[1:],
        "action": actions,
        "reward": np.asarray(episode.rewards),
        "terminated": np.asarray(episode.terminations),
        "truncated": np.asarray(episode.truncations),
        "episode_id": np.full(length, int(episode.id)),
        "step_index": np.arange(length),
    }
