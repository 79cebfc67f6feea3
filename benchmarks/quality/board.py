"""The board's cells: what policies earn that are learned from each column, and what the scores are like."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from columns import COLUMNS, NEED_SCORES, POLICY_ALONE, Scored, measured_of
from datasets import Labelled, load
from figures import figures, rank_correlation
from learners import learn

from vaco_curate import PRESETS, TrainSettings
from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.scaling import fit_scaling
from vaco_curate.core.scorer import RowScores
from vaco_curate.core.training.trainer import train
from vaco_curate.core.transitions import Array
from vaco_curate.evaluation import normalized_return, reference_returns, rollout_returns

SCORE_VERSION = 7
"""Of the score itself: to be raised where a training gives other scores, which are measured again then."""

VERSION = 1
"""Of what decides a result and is not among its settings; raised when older results no longer hold."""

EPISODES = 10
UPDATES = {"BC": 20_000, "IQL": 100_000, "TD3+BC": 100_000}

Row = dict[str, Any]
SCHEMA = {
    "key": str,
    "dataset": str,
    "learner": str,
    "column": str,
    "seed": int,
    "figure": str,
    "episode": int,
    "value": float,
}


@dataclass(frozen=True)
class Setup:
    """Where and how much.

    Attributes:
        folder: of the datasets.
        work: where scores, and datasets that are recorded here, are kept.
        device: of all trainings.
        smoke: a few updates of everything.
    """

    folder: Path
    work: Path
    device: str
    smoke: bool

    @property
    def settings(self) -> TrainSettings:
        """Of the scorer: the default's."""
        settings = PRESETS["standard"]
        if not self.smoke:
            return settings
        few = {"updates": 300, "batch_size": 64, "hidden": (32, 32), "settled_at": None}
        return dataclasses.replace(
            settings,
            value=dataclasses.replace(settings.value, **few),
            bilevel=dataclasses.replace(settings.bilevel, **few | {"updates": 100}),
        )

    def updates(self, learner: str) -> int:
        """Of a policy."""
        return 60 if self.smoke else UPDATES[learner]

    def digest(self, learner: str, column: str) -> str:
        """Of all settings that a result depends on."""
        facts: list[Any] = [VERSION, learner and self.updates(learner), EPISODES]
        if column in NEED_SCORES or not column:
            facts += [SCORE_VERSION, self.settings.to_json()]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Cell:
    """One policy to learn and to roll out; without a learner, a scorer to train and to judge."""

    dataset: str
    seed: int
    learner: str = ""
    column: str = ""

    def __str__(self) -> str:
        return " | ".join(str(value) for value in dataclasses.astuple(self) if value != "")

    @property
    def together(self) -> tuple[str, str, bool]:
        """What policies share that can be learned side by side."""
        return self.learner, self.dataset, self.column == POLICY_ALONE

    def key(self, setup: Setup) -> str:
        """Its name in the table of results, with a digest of what its result depends on."""
        return f"{self} | {setup.digest(self.learner, self.column)}"


def cells(datasets: list[str], learners: list[str], seeds: int) -> Iterator[Cell]:
    """The whole board, seed by seed; the scorers of a seed before its policies."""
    for seed in range(seeds):
        yield from (Cell(dataset, seed) for dataset in datasets)
        for learner in learners:
            for dataset in datasets:
                yield from (Cell(dataset, seed, learner, column) for column in measured_of(learner))


@lru_cache(maxsize=1)
def labelled_data(dataset: str, setup: Setup) -> Labelled:
    """A dataset of the board."""
    return load(dataset, setup.folder, setup.work)


def score(cell: Cell, setup: Setup) -> list[Row]:
    """Train a scorer, keep its scores, and judge them."""
    started = time.perf_counter()
    labelled = labelled_data(cell.dataset, setup)
    scorer = train(labelled.data, setup.settings, seed=cell.seed, device=setup.device).scorer
    scores = scorer.score(labelled.data)
    arrays = {field.name: getattr(scores, field.name) for field in dataclasses.fields(scores)}
    path = scores_file(cell.dataset, cell.seed, setup)
    partial = path.with_name(f"{path.stem}-{os.getpid()}.partial.npz")
    np.savez(partial, reward_scale=scorer.scaling.reward_scale, **arrays)
    partial.replace(path)
    found = figures(labelled, scores.score) | {"seconds": time.perf_counter() - started}
    for name, signal in (("VACO", scores.vaco_score), ("Q", scores.q_value), ("advantage", scores.advantage)):
        found |= {f"{figure}, {name}": value for figure, value in figures(labelled, signal).items()}
    persistence = scorer.trajectory[0].persistence
    found |= {name: getattr(persistence, name) for name in ("scale", "shrinkage", "predicted")}
    return [row(cell, setup, figure=figure, value=value) for figure, value in found.items()]


def scores_file(dataset: str, seed: int, setup: Setup) -> Path:
    """Where scores are kept."""
    return setup.work / f"{dataset}--{seed}--{setup.digest('', '')}.npz"


def agreement(dataset: str, seeds: int, setup: Setup) -> float:
    """The smallest rank correlation of the rows' scores between two seeds."""
    scores = [_scores(dataset, seed, setup)[0].score for seed in range(seeds)]
    pairs = [(one, other) for number, one in enumerate(scores) for other in scores[:number]]
    return min(rank_correlation(*pair) for pair in pairs)


def _scores(dataset: str, seed: int, setup: Setup) -> tuple[RowScores, float]:
    with np.load(scores_file(dataset, seed, setup)) as stored:
        names = [field.name for field in dataclasses.fields(RowScores)]
        return RowScores(*(stored[name] for name in names)), float(stored["reward_scale"])


def policies(group: list[Cell], setup: Setup) -> list[TrainedPolicy]:
    """Learn the policies of cells of one ``Cell.together``, side by side."""
    torch.set_num_threads(1)
    first = group[0]
    labelled = labelled_data(first.dataset, setup)
    weights = [
        COLUMNS[cell.column](Scored(labelled.data, *_scores(cell.dataset, cell.seed, setup))) for cell in group
    ]
    value = setup.settings.value
    scaling = fit_scaling(labelled.data, reward_shift=value.reward_shift)
    return learn(
        first.learner,
        labelled.data,
        np.stack(weights),
        scaling,
        setup.updates(first.learner),
        seeds=[cell.seed for cell in group],
        device=setup.device,
        policy_alone=first.column == POLICY_ALONE,
    )


def rolled_out(cell: Cell, policy: TrainedPolicy, setup: Setup) -> list[Row]:
    """What a policy earns, episode by episode."""
    torch.set_num_threads(1)
    returns = earned(labelled_data(cell.dataset, setup), policy, cell.seed)
    return [
        row(cell, setup, figure="return", episode=episode, value=value) for episode, value in enumerate(returns)
    ]


def learn_and_roll_out(cell: Cell, setup: Setup) -> list[Row]:
    """One policy, on a CPU."""
    return rolled_out(cell, policies([cell], setup)[0], setup)


def earned(labelled: Labelled, policy: TrainedPolicy, seed: int) -> Array:
    """(episodes,) normalized returns; success in percent in a maze.

    Args:
        seed: of the policy; its episodes start like those of no other policy of the column.
    """
    returns = np.concatenate(
        [
            rollout_returns(policy, env, episodes=EPISODES, seed=1_000 * (1 + seed) + 100 * number)
            for number, env in enumerate(labelled.environments)
        ]
    )
    if labelled.is_maze:
        return np.asarray(100.0 * (returns > 0))
    reference = reference_returns(labelled.data.env_id, labelled.data.reference_returns)
    if reference is None:
        return returns
    return np.array([normalized_return(value, reference) for value in returns])


def row(cell: Cell, setup: Setup, **columns: Any) -> Row:
    """A row of the table of results."""
    blank: Row = {"key": cell.key(setup), "episode": -1, **dataclasses.asdict(cell)}
    made = blank | columns
    return made | {"value": float(made["value"])}


def end_with(parent: int) -> None:
    """End this worker when the process that it works for has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
