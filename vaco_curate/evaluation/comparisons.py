"""What a curated dataset is compared against: named row weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from vaco_curate.core.losses import advantage_weight
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.curation import EPISODE, Candidates, Cut, select
from vaco_curate.data.scores import ScoreTable


@dataclass(frozen=True)
class ComparisonInputs:
    """What a comparison may use.

    Attributes:
        budget: rows that the curated data stands for: kept rows, or their effective sample size.
        seed: for comparisons that draw.
    """

    data: Transitions
    scores: ScoreTable
    budget: int
    seed: int


def uniform(inputs: ComparisonInputs) -> Array:
    """All rows alike."""
    return np.ones(len(inputs.data))


def random_rows(inputs: ComparisonInputs) -> Array:
    """As many rows as the curated data has, drawn at random."""
    weight = np.zeros(len(inputs.data))
    rows = np.random.default_rng(inputs.seed).choice(len(weight), inputs.budget, replace=False)
    weight[rows] = 1.0
    return weight


def best_returns(inputs: ComparisonInputs) -> Array:
    """Whole episodes of the highest return, within the rows of the curated data."""
    data = inputs.data
    row_return = np.repeat(data.episode_return, data.episode_length)
    budget = max(inputs.budget, int(data.episode_length[np.argmax(data.episode_return)]))
    return select(Candidates.of(data, row_return, "return"), Cut(rows=budget), EPISODE).row_weight


def advantage_weights(inputs: ComparisonInputs) -> Array:
    """AWR's weights exp(3 (Q - V)), clipped at 100, in scaled reward units as in IQL."""
    advantage = inputs.scores.column("advantage") * inputs.scores.reward_scale
    weight = advantage_weight(torch.from_numpy(advantage))
    return weight.double().numpy()


COMPARISONS: Mapping[str, Callable[[ComparisonInputs], Array]] = {
    "uniform": uniform,
    "random": random_rows,
    "return": best_returns,
    "advantage": advantage_weights,
}
