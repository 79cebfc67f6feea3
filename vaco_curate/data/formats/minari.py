"""Minari datasets (0.5): an id in the local store, a folder, or ``minari:`` and an id to fetch."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.episodes import Columns
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.data.formats.others import array_type, stored_values, table_of
from vaco_curate.data.formats.parts import joined, kept_parts, leaves, recorded_parts
from vaco_curate.data.formats.recording import Recording
from vaco_curate.data.formats.writing import Target
from vaco_curate.errors import DatasetError
from vaco_curate.store.files import require_space

QUIET = threading.RLock()
"""Held while the output is redirected, which is one for all threads: rows and infos are read by two."""

PREFIX = "minari:"
INFOS = "infos/"
VERSIONED = re.compile(r"-v\d+$")
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


EPISODE_BYTES, SPARE_BYTES = 1 << 15, 1 << 20
"""That HDF5 takes for an episode beside its rows, at most, and that it may hold back."""


class MinariWriter:
    """``writing.RowsWriter``: one Minari dataset of whole episodes, stored as HDF5.

    Minari holds an episode's observations as one series, one longer than its steps. So an episode that goes on
    after a true end, or whose stored successors are not the next observations, becomes several, and a last row
    whose successor is unknown is left out: the row before it leads to its observation. There is no part of an
    episode in Minari: a filter of transitions cannot be written.
    """

    def __init__(self, target: Target) -> None:
        self._folder, self._facts = target.folder, dict(target.facts)
        self._id = _id_of(target.folder.resolve().parent.parent / target.names[0])
        self._storage: Any = None
        self._episodes, self._left_out = 0, 0

    def write(self, piece: Transitions, rows: Array, extra: Mapping[str, Array | pa.Array]) -> None:
        """As the protocol; further columns become ``infos`` of the steps.

        Raises:
            DatasetError: some rows of an episode, and not all.
        """
        from minari.data_collector import EpisodeBuffer  # deferred: heavy

        chosen = np.isin(np.arange(len(piece)), rows)
        _refuse_parts(piece, chosen)
        position = np.cumsum(chosen) - 1
        infos = {"index": piece.first_row + rows}
        infos |= {name.removeprefix(INFOS): stored_values(name, values) for name, values in extra.items()}
        buffers: list[Any] = []
        written = 0
        for steps, last_observation in _series(piece):
            if chosen[steps.start]:
                written += steps.stop - steps.start
                count, terminated = steps.stop - steps.start, piece.terminated[steps]
                buffer = EpisodeBuffer(
                    id=self._episodes + len(buffers),
                    observations=np.concatenate([piece.observation[steps], last_observation[None]]),
                    actions=piece.action[steps],
                    rewards=list(piece.reward[steps]),
                    terminations=list(terminated),
                    truncations=list((np.arange(count) == count - 1) & ~terminated),
                    infos={name: values[position[steps]] for name, values in infos.items()},
                )
                buffers.append(buffer)
        if self._storage is None:
            self._create(piece)
        self._episodes, self._left_out = self._episodes + len(buffers), self._left_out + len(rows) - written
        columns = piece.observation, piece.action, piece.reward, *infos.values()
        bytes_of_rows = sum(values.nbytes for values in columns)
        require_space(self._folder, 2 * bytes_of_rows + EPISODE_BYTES * len(buffers) + SPARE_BYTES)
        self._storage.update_episodes(buffers)

    @property
    def notes(self) -> tuple[str, ...]:
        """How many rows were left out."""
        if not self._left_out:
            return ()
        return (
            f"{self._left_out} row(s), the last of their episodes, are left out: Minari holds the observation "
            "after every step, and theirs is not known",
        )

    def close(self) -> None:
        """As the protocol."""
        self._storage.update_metadata({"description": json.dumps(self._facts)})

    def _create(self, piece: Transitions) -> None:
        import minari  # deferred: heavy
        from gymnasium.spaces import Box
        from minari.dataset.minari_storage import MinariStorage

        def space(values: Array, low: Array | float = -np.inf, high: Array | float = np.inf) -> Any:
            return Box(low, high, values.shape[1:], values.dtype.type)

        bounded = piece.action_low is not None and piece.action_high is not None
        ends = (piece.action_low, piece.action_high) if bounded else ()
        bounds = [np.asarray(end, piece.action.dtype) for end in ends]
        self._storage = MinariStorage.new(
            self._folder, space(piece.observation), space(piece.action, *bounds), _spec(piece), "hdf5"
        )
        references = dict(zip(("ref_min_score", "ref_max_score"), piece.reference_returns or (), strict=False))
        self._storage.update_metadata(
            {"dataset_id": self._id, "minari_version": minari.__version__, **references}
        )


def _id_of(folder: Path) -> str:
    """The id of a dataset that gets this folder: in the local store its place there, elsewhere its name.

    Raises:
        DatasetError: in the local store, without a version: Minari could then list none of its datasets.
    """
    from minari.storage import get_dataset_path  # deferred: heavy

    store = get_dataset_path("").resolve()
    if not folder.is_relative_to(store):
        plain = re.sub(r"[^\w-]+", "-", folder.name, flags=re.ASCII)
        return plain if VERSIONED.search(plain) else f"{plain}-v0"
    if re.search(r"[^\w-]", folder.name, flags=re.ASCII):
        raise DatasetError(
            f"{folder}: in Minari's local store, names are of letters, digits, - and _",
            fix="choose another --out",
        )
    if not VERSIONED.search(folder.name):
        raise DatasetError(
            f"{folder}: in Minari's local store, a name ends in a version",
            fix=f"--out {folder}-v0",
        )
    return folder.relative_to(store).as_posix()


def _refuse_parts(piece: Transitions, chosen: Array) -> None:
    counts = np.add.reduceat(chosen.astype(np.int64), piece.episode_start)
    partly = np.flatnonzero((counts > 0) & (counts < piece.episode_length))
    if partly.size:
        episode = int(partly[0])
        raise DatasetError(
            f"Minari holds whole episodes, and of episode {piece.episode_id[piece.episode_start[episode]]} "
            f"{counts[episode]} of {piece.episode_length[episode]} rows are kept",
            fix="choose episodes with --level episode, or another --format, such as parquet",
        )


def _series(piece: Transitions) -> Iterator[tuple[slice, Array]]:
    """(rows, observation after them) of each run of rows in which every successor is the next observation."""
    for run in np.split(np.arange(len(piece)), piece.path_start[1:]):
        first, last = int(run[0]), int(run[-1])
        if piece.has_successor[last]:
            yield slice(first, last + 1), piece.next_observation[last]
        elif piece.terminated[last]:
            yield slice(first, last + 1), piece.observation[last]
        elif last > first:
            yield slice(first, last), piece.observation[last]


def _spec(piece: Transitions) -> Any:
    """Gymnasium's description of the recorded environment; None where it is not known here."""
    import gymnasium  # deferred: heavy

    if piece.env_id is None:
        return None
    try:
        spec = gymnasium.spec(piece.env_id)
    except gymnasium.error.Error:
        return None
    spec.kwargs.update({k: v for k, v in piece.env_kwargs.items() if k != "max_episode_steps"})
    return spec
