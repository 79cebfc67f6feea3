"""What the board compares: the default's weights and filters, and weights and filters from the literature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from vaco_curate import PRESETS
from vaco_curate.core.losses import advantage_weight
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.scorer import RowScores
from vaco_curate.core.trajectory_score import Temperature
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.curation import Candidates, Cut, Level, select
from vaco_curate.curation.weights import weights_from_scores

TRAJECTORY_TEMPERATURE = 0.1
"""Of RW and AW, on returns scaled to [0, 1]: the published one."""


@dataclass(frozen=True)
class Scored:
    """A dataset and what a training of the default makes of it.

    Attributes:
        data: the dataset.
        scores: of its rows.
        reward_scale: scaled reward units per reward unit in the value phase.
    """

    data: Transitions
    scores: RowScores
    reward_scale: float


def _top(scored: Scored, score: Array, percent: int, level: str = "transition") -> Array:
    cut = Cut(share=Fraction(percent, 100))
    return select(Candidates.of(scored.data, score.astype(np.float64)), cut, Level(level)).row_weight


def _of_rows(data: Transitions, values: Array) -> Array:
    """Values of episodes -> of their rows."""
    return np.repeat(values, data.episode_length)


def _scaled(returns: Array) -> Array:
    """To [0, 1]."""
    return (returns - returns.min()) / (np.ptp(returns) or 1.0)


def return_advantage(data: Transitions) -> Array:
    """(episodes,) scaled return less what the first state predicts of it, by linear regression.

    Source: AW (Hong, Agrawal, Tachet des Combes, Laroche, ICLR 2023, arXiv:2306.13085), section 4.
    """
    first = data.observation[data.episode_start].astype(np.float64)
    inputs = np.concatenate([first, np.ones((len(first), 1))], axis=1)
    returns = _scaled(data.episode_return)
    solution, *_ = np.linalg.lstsq(inputs, returns, rcond=None)
    return np.asarray(returns - inputs @ solution)


def _trajectory_weights(data: Transitions, signal: Array) -> Array:
    return _of_rows(data, np.exp((signal - signal.max()) / TRAJECTORY_TEMPERATURE))


def _by_our_rule(scored: Scored) -> Array:
    data = scored.data
    signal = _of_rows(data, return_advantage(data))
    paths = Paths.of(data, LONGEST_PATH)
    return weights_from_scores(
        Temperature.fit(paths, signal, PRESETS["standard"].sample_size, plateau=True)(signal), 1.0
    )


def _awr(scored: Scored) -> Array:
    advantage = torch.from_numpy(scored.scores.advantage.astype(np.float64) * scored.reward_scale)
    return advantage_weight(advantage).numpy()


COLUMNS: dict[str, Callable[[Scored], Array]] = {
    "all rows": lambda scored: np.ones(len(scored.data)),
    "weights": lambda scored: weights_from_scores(scored.scores.score, 1.0),
    "top 10 %": lambda scored: _top(scored, scored.scores.score, 10),
    "top 25 %": lambda scored: _top(scored, scored.scores.score, 25),
    "return, top 10 %": lambda scored: _top(
        scored, _of_rows(scored.data, scored.data.episode_return), 10, "episode"
    ),
    "RW": lambda scored: _trajectory_weights(scored.data, _scaled(scored.data.episode_return)),
    "AW": lambda scored: _trajectory_weights(scored.data, return_advantage(scored.data)),
    "AW, our temperature": _by_our_rule,
    "AWR": _awr,
    "VACO": lambda scored: weights_from_scores(scored.scores.vaco_score, 1.0),
    "weights, policy alone": lambda scored: weights_from_scores(scored.scores.score, 1.0),
}
"""(n,) weights of the rows, by the name of what gives them."""

OURS = ("weights", "top 10 %", "top 25 %")
LEADING = OURS[:2]
"""The columns that regret is measured of."""
WITH_VALUES = ("all rows", *OURS, "return, top 10 %", "AW")
"""What learners of values get: their policies take ten times as long, so that of the baselines there are the
one that ours is to beat on whole episodes, and AW."""
POLICY_ALONE = "weights, policy alone"
"""What learners of values are given besides the board: policies draw by weight, critics draw all rows alike."""
NEED_SCORES = (*OURS, POLICY_ALONE, "AWR", "VACO")
"""Columns that differ from seed to seed of the scorer."""


def columns_of(learner: str) -> tuple[str, ...]:
    """What a learner is given on the board."""
    return tuple(name for name in COLUMNS if name != POLICY_ALONE) if learner == "BC" else WITH_VALUES


def measured_of(learner: str) -> tuple[str, ...]:
    """The board's columns of a learner and what is measured besides them."""
    return columns_of(learner) if learner == "BC" else (*columns_of(learner), POLICY_ALONE)
