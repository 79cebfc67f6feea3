"""``load_curated``: what ``filter`` and ``reweight`` wrote, ready for other learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset, WeightedRandomSampler

from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.data.formats import open_dataset, opened_once
from vaco_curate.data.formats.cache import loaded
from vaco_curate.errors import CurateError, RunError
from vaco_curate.store.files import place
from vaco_curate.store.folders import CURATED
from vaco_curate.store.manifest import read_manifest

if TYPE_CHECKING:
    from d3rlpy.dataset import ReplayBuffer

LARGEST_TORCH_SAMPLER = 2**24
"""``torch.multinomial``, and with it ``WeightedRandomSampler``, takes no more categories."""


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
    """

    transitions: Transitions
    weight: Array
    index: Array
    score: Array
    rank: Array
    return_range: tuple[float, float]

    def __len__(self) -> int:
        return len(self.transitions)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        """One transition as tensors, by column name.

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

    def sampler(self, samples: int | None = None, seed: int = 0) -> WeightedRandomSampler:
        """A sampler that draws rows in proportion to their weight, for ``DataLoader(sampler=...)``.

        Args:
            samples: draws per epoch; None for as many as there are rows.

        Raises:
            CurateError: more rows than torch's sampler can draw from.
        """
        if len(self) > LARGEST_TORCH_SAMPLER:
            raise CurateError(
                f"torch's sampler takes at most {LARGEST_TORCH_SAMPLER:,} rows, here are {len(self):,}",
                fix="draw rows by numpy.searchsorted on the cumulative weights",
            )
        generator = torch.Generator().manual_seed(seed)
        weights: Sequence[float] = torch.from_numpy(self.weight).double()  # type: ignore[assignment]
        return WeightedRandomSampler(weights, samples or len(self), generator=generator)

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
            raise CurateError("d3rlpy is not installed", fix="pip install 'vaco-curate[d3rlpy]'") from error
        return replay_buffer(self.transitions, self.weight if weighted else np.ones(len(self), np.float32))


@opened_once()
def load_curated(path: str | Path) -> CuratedDataset:
    """Load a folder that ``filter`` or ``reweight`` wrote; what would fill memory stays in mapped files.

    Raises:
        RunError: it is no such folder, holds no rows, or has changed since it was written.
        DatasetError: its files are damaged.
    """
    folder = place(path)
    manifest = read_manifest(folder)
    if manifest.get("kind") != CURATED:
        raise RunError(f"{folder}: holds {manifest.get('kind')!r}, not curated data", fix="vaco-curate filter")
    if manifest["part"] in ("weights", "selection"):
        raise RunError(
            f"{folder}: holds {manifest['part']} only, no rows",
            fix="vaco-curate reweight with --format parquet",
        )
    if manifest["part"] == "excluded":
        raise RunError(
            f"{folder}: holds the rows that a filter dropped",
            fix="name the folder of kept rows; for the dropped ones, vaco_curate.read_dataset(FOLDER)",
        )
    dataset = open_dataset(str(folder))
    labels = {name.removeprefix("infos/"): name for name in dataset.labels}
    if "index" not in labels:
        raise RunError(
            f"{folder}: holds {dataset.format}, which does not say which rows of the source it is made of",
            fix="open it with that format's own library, or filter with --format parquet",
        )
    weighted = "weight" in labels
    transitions, _ = loaded(dataset)
    return CuratedDataset(
        transitions=transitions,
        weight=dataset.label(labels["weight"]) if weighted else np.ones(len(dataset), np.float32),
        index=dataset.label(labels["index"]),
        score=dataset.label(labels["score"]),
        rank=dataset.label(labels["rank"]),
        return_range=tuple(manifest["return_range"]),
    )
