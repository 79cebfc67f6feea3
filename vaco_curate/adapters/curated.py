"""``load_curated``: what ``filter`` and ``reweight`` wrote, ready for other learners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.random import Generator
from torch.utils.data import DataLoader, Dataset

from vaco_curate.arguments import whole_number
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.formats import Dataset as RowsOnDisk
from vaco_curate.data.formats import open_dataset, opened_once
from vaco_curate.data.formats.cache import loaded
from vaco_curate.data.formats.others import plain_values
from vaco_curate.errors import CurateError, DatasetError, RunError
from vaco_curate.store.files import FolderLike, place
from vaco_curate.store.folders import CURATED
from vaco_curate.store.manifest import read_manifest

if TYPE_CHECKING:
    from d3rlpy.dataset import ReplayBuffer


DRAWN_ROWS = 1 << 14
"""Rows that are drawn at once, for many batches: a draw of few costs about as much as gathering them."""


@dataclass(frozen=True)
class CuratedDataset(Dataset[dict[str, torch.Tensor]]):
    """Curated rows as a torch ``Dataset``; an item is one transition.

    Attributes:
        transitions: the rows, unscaled, as they were in the source.
        weight: (n,) float32 of mean 1 for reweighted data; ones for filtered data.
        index: (n,) raw row number of each row in the source.
        score, rank: (n,) as in the score table of the run.
        return_range: lowest and highest return of an episode of the source. A learner that scales rewards by
            the range of returns needs this one: that of the kept episodes is smaller, and would scale them up.
        rows: what the folder holds, opened; for ``column``.
    """

    transitions: Transitions
    weight: Array
    index: Array
    score: Array
    rank: Array
    return_range: tuple[float, float]
    rows: RowsOnDisk

    def __repr__(self) -> str:
        data = self.transitions
        alike = "" if (self.weight == 1).all() else f", weights up to {self.weight.max():.4g}"
        return f"<CuratedDataset {data.source}: {data.sizes}{alike}>"

    def __len__(self) -> int:
        return len(self.transitions)

    def __getitem__(self, row: int | Array) -> dict[str, torch.Tensor]:
        """One transition as tensors by column name, or a batch of those whose numbers are given.

        ``next_observation`` is zero where ``has_successor`` is false; do not bootstrap from it.
        """
        data = self.transitions
        return {
            "observation": torch.as_tensor(data.observation[row]),
            "action": torch.as_tensor(data.action[row]),
            "reward": torch.as_tensor(data.reward[row]),
            "next_observation": torch.as_tensor(data.next_observation[row]),
            "terminated": torch.as_tensor(data.terminated[row]),
            "has_successor": torch.as_tensor(data.has_successor[row]),
            "weight": torch.as_tensor(self.weight[row]),
        }

    def column(self, name: str) -> Array:
        """A column that was carried along from the source, (n,) or (n, k).

        Raises:
            DatasetError: there is none of this name, or it holds more than numbers and words.
        """
        known = self.rows.further.types
        own = name if name in known else f"infos/{name}"
        if own not in known:
            raise DatasetError(f"{self.rows.source}: no column {name}", details=(f"found: {', '.join(known)}",))
        return plain_values(name, self.rows.further.rows([own]).read(len(self)).column(own).combine_chunks())

    @cached_property
    def learnable(self) -> Array:
        """(m,) numbers of the rows that have a Bellman target: a true end, or a successor that followed."""
        return np.flatnonzero(self.transitions.is_learnable)

    def draw(self, count: int, generator: Generator | int = 0, *, weighted: bool = True) -> Array:
        """(count,) numbers of rows that have a Bellman target, drawn with replacement.

        Args:
            generator: of numpy, or a seed.
            weighted: in proportion to their weight; else all alike, as for a critic where the weights are meant
                for the policy alone.

        Raises:
            CurateError: no row has a target.
        """
        rows = self.learnable
        if not len(rows):
            raise CurateError("no row has a successor or a true end: there is nothing to draw")
        draws = np.random.default_rng(generator)
        if not weighted or self._shares is None:
            return rows[draws.integers(len(rows), size=count)]
        # Sorted, they are found several times as fast; their order is made by chance again.
        found = np.searchsorted(self._shares, np.sort(draws.random(count)), side="right")
        return np.asarray(rows[draws.permutation(found)])

    @cached_property
    def _shares(self) -> Array | None:
        """(m,) cumulative shares of the draws; None where all are alike."""
        weight = self.weight[self.learnable].astype(np.float64)
        shares = np.cumsum(weight) / weight.sum()
        return None if (weight == weight[0]).all() else shares / shares[-1]

    def batches(
        self, batch_size: int, steps: int, generator: Generator | int = 0, *, weighted: bool = True
    ) -> Iterator[dict[str, torch.Tensor]]:
        """So many batches of drawn transitions.

        Args:
            generator: as for ``draw``.
            weighted: as for ``draw``.
        """
        for rows in _Draws(self, batch_size, steps, generator, weighted):
            yield self[rows]

    def loader(
        self,
        batch_size: int,
        steps: int,
        generator: Generator | int = 0,
        *,
        weighted: bool = True,
        **options: Any,
    ) -> DataLoader[dict[str, torch.Tensor]]:
        """The same as ``batches`` by torch's ``DataLoader``, whose workers can gather ahead.

        Args:
            options: of ``DataLoader``, such as ``num_workers`` and ``pin_memory``.
        """
        draws: Any = _Draws(self, batch_size, steps, generator, weighted)
        return DataLoader(self, sampler=draws, batch_size=None, **options)

    def qlearning_dict(self) -> dict[str, Array]:
        """Arrays as D4RL's ``qlearning_dataset`` gives them, and ``weights``.

        Only rows with a Bellman target are in it: rows whose successor is unknown and that are no true
        end are left out. Next observations of true ends without one repeat the observation.
        """
        data, rows = self.transitions, self.transitions.is_learnable
        known = data.has_successor[:, None]
        return {
            "observations": data.observation[rows],
            "actions": data.action[rows],
            "next_observations": np.where(known, data.next_observation, data.observation)[rows],
            "rewards": data.reward[rows],
            "terminals": data.terminated[rows],
            "weights": self.weight[rows],
        }

    def d3rlpy_replay_buffer(self, *, weighted: bool = True) -> ReplayBuffer:
        """A d3rlpy replay buffer over the rows that have a Bellman target.

        Args:
            weighted: draw rows in proportion to their weight; else uniformly. Filtered data has
                equal weights, so there it makes no difference.

        Raises:
            CurateError: d3rlpy is not installed.
        """
        try:
            from vaco_curate.adapters.d3rlpy_buffer import replay_buffer
        except ImportError as error:
            raise CurateError("d3rlpy is not installed", fix="pip install 'd3rlpy!=2.8.1'") from error
        return replay_buffer(self.transitions, self.weight if weighted else np.ones(len(self), np.float32))


@dataclass(frozen=True)
class _Draws:
    """Row numbers of batches, for torch in place of a sampler of single rows."""

    source: CuratedDataset
    batch_size: int
    steps: int
    generator: Generator | int
    weighted: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "batch_size", whole_number(self.batch_size, "batch_size", least=1))
        object.__setattr__(self, "steps", whole_number(self.steps, "steps"))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Array]:
        draws, block = np.random.default_rng(self.generator), max(1, DRAWN_ROWS // self.batch_size)
        for first in range(0, self.steps, block):
            count = min(block, self.steps - first)
            drawn = self.source.draw(count * self.batch_size, draws, weighted=self.weighted)
            yield from drawn.reshape(count, self.batch_size)


@opened_once()
def load_curated(path: FolderLike) -> CuratedDataset:
    """Load a folder that ``filter`` or ``reweight`` wrote; what would fill memory stays in mapped files.

    Raises:
        RunError: it is no such folder, holds no rows, or has changed since it was written.
        DatasetError: its files are damaged.
    """
    folder = place(path)
    manifest = read_manifest(folder)
    if manifest.get("kind") != CURATED:
        raise RunError(
            f"{folder}: holds {manifest.get('kind')!r}, not curated data", fix="vaco-curate filter RUN"
        )
    if manifest["part"] in ("weights", "selection"):
        raise RunError(
            f"{folder}: holds {manifest['part']} only, no rows",
            fix="vaco-curate reweight RUN --format parquet",
        )
    if manifest["part"] == "excluded":
        raise RunError(
            f"{folder}: holds the rows that a filter dropped",
            fix="name the folder of kept rows; for the dropped ones, vaco_curate.read_dataset(FOLDER)",
        )
    dataset = open_dataset(str(folder))
    labels = {name.removeprefix("infos/"): name for name in reversed(dataset.further.labels)}
    labels |= {name: name for name in dataset.further.labels}
    if "index" not in labels:
        raise RunError(
            f"{folder}: holds {dataset.format}, which does not say which rows of the source it is made of",
            fix="open it with that format's own library, or filter with --format parquet",
        )
    weight = labels.get("weight", labels.get("weights"))
    transitions, _ = loaded(dataset)
    return CuratedDataset(
        transitions=transitions,
        weight=np.ones(len(dataset), np.float32) if weight is None else dataset.further.label(weight),
        index=dataset.further.label(labels["index"]),
        score=dataset.further.label(labels["score"]),
        rank=dataset.further.label(labels["rank"]),
        return_range=tuple(manifest["return_range"]),
        rows=dataset,
    )
