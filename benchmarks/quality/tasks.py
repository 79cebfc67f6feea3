"""The tasks of the protocol: each is one row group of the results, done once, in a process of its own kind."""

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
from datasets import RARE, STITCH, Labelled, half, is_scripted, load
from figures import figures, rank_correlation, sizes
from policies import EPISODES, LEARNERS, earned, policy_facts, selection_weight
from signals import (
    ABLATIONS,
    ATTEMPTS,
    DEFAULT,
    LITERAL,
    MEMBERS,
    VARIANTS,
    Signal,
    altered,
    alters_plateau,
    alters_prior,
    free_signals,
    scaling_of,
    train_signals,
    values_of,
)

from vaco_curate import TrainSettings
from vaco_curate.training import train

Row = dict[str, Any]
SCHEMA = {
    "task": str,
    "dataset": str,
    "score": str,
    "seed": int,
    "figure": str,
    "selection": str,
    "learner": str,
    "policy_seed": int,
    "episode": int,
    "value": float,
}


RESULTS_VERSION = 1
"""Raised where the code makes other numbers of the same settings: the rule for the prior, what is recorded,
how policies are trained or rolled out."""


@dataclass(frozen=True)
class Task:
    """Something to measure.

    Attributes:
        kind: "score" trains and judges a scorer; "halves" compares scorers of two halves; "agreement" compares
            seeds; "policy" learns from a selection and rolls out.
        score: a variant of ``VARIANTS`` or ``ABLATIONS``, or "free" for signals that need no training; for
            policies any score.
        seed: of the scorer, and of the policy.
    """

    kind: str
    dataset: str
    score: str = ""
    seed: int = 0
    selection: str = ""
    level: str = "transition"
    learner: str = ""

    def __str__(self) -> str:
        return " | ".join(str(value) for value in dataclasses.astuple(self) if value != "")


@dataclass(frozen=True)
class Setup:
    """Where and how much.

    Attributes:
        folder: of the datasets.
        work: where scores are kept for the policies that are learned from them, and values for the variants
            that share them.
        smoke: a few updates of everything.
    """

    folder: Path
    work: Path
    smoke: bool

    def settings(self, name: str) -> TrainSettings:
        """Of a variant."""
        settings = (VARIANTS | ABLATIONS)[name]
        if not self.smoke:
            return settings
        few = {"updates": 600, "batch_size": 64, "hidden": (32, 32), "settled_at": None}
        return altered(settings, few, few | {"updates": 200})

    def key(self, task: Task) -> str:
        """A task's name in the results, with a hash of the settings that its result depends on."""
        makers = needs(task) or ([task] if task.kind in ("score", "halves") else [])
        used = [self.settings(made.score).to_json() for made in makers if made.score != "free"]
        if task.learner:
            scaling = self.settings(DEFAULT).value
            used.append(
                {
                    "updates": self.policy_updates(task.learner),
                    "episodes": EPISODES,
                    "settings": policy_facts(task.learner),
                    "scaling": [scaling.reward_shift, scaling.reward_horizon],
                }
            )
        used.append(RESULTS_VERSION)
        return f"{task} | {_digest(used)}"

    def file(self, dataset: str, score: str, seed: int) -> Path:
        """Where a score is kept, by the settings that made it."""
        made = maker(dataset, score, seed)
        used = [] if made.score == "free" else [self.settings(made.score).to_json()]
        name = score.replace("/", "over").replace(" ", "_")
        return self.work / f"{dataset}--{name}--{seed}--{_digest(used)}.npz"

    def values_file(self, task: Task) -> Path | None:
        """Where the end of the default's value phase is kept; None for what has values of its own."""
        values = values_of(self.settings(task.score), MEMBERS.get(task.score, 1))
        if values != values_of(self.settings(DEFAULT), 1):
            return None
        used = [values, RESULTS_VERSION]
        return self.work / f"{task.dataset}--values--{task.seed}--{_digest(used)}.safetensors"

    def policy_updates(self, learner: str) -> int:
        """Of a learner."""
        if self.smoke:
            return 300 if learner == "BC" else 30
        return {"BC": 20_000, "IQL": 30_000, "TD3+BC": 10_000}[learner]


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def run(task: Task, setup: Setup) -> list[Row]:
    """Do a task; its rows of the results."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows = {"score": _score, "halves": _halves, "agreement": _agreement, "policy": _policy}[task.kind](
        task, setup
    )
    rows.append(_row(task, figure="seconds", value=time.perf_counter() - started))
    return [row | {"task": setup.key(task)} for row in rows]


def end_with(parent: int) -> None:
    """End this worker when the process that it works for has ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@lru_cache(maxsize=2)
def _labelled(dataset: str, setup: Setup) -> Labelled:
    return load(dataset, setup.folder, setup.work)


def _score(task: Task, setup: Setup) -> list[Row]:
    labelled = _labelled(task.dataset, setup)
    if task.score == "free":
        signals = free_signals(labelled.data, task.seed)
    else:
        signals = train_signals(
            labelled.data, task.score, setup.settings(task.score), task.seed, setup.values_file(task)
        )
    for name, signal in signals.items():
        _keep(task, setup, name, signal)
    rows = [
        _row(task, score=name, figure=figure, value=value)
        for name, signal in signals.items()
        for figure, value in figures(labelled, signal).items()
    ]
    if task.score == "free":
        rows += [
            _row(task, score="return", figure=name, value=value) for name, value in sizes(labelled).items()
        ]
    return rows


def _halves(task: Task, setup: Setup) -> list[Row]:
    """Scorers of two halves of the episodes: do they agree, and do they judge what they have not seen?"""
    labelled = _labelled(task.dataset, setup)
    scores = []
    for which in (0, 1):
        data = half(labelled, which, task.seed).data
        scores.append(train(data, setup.settings(task.score), seed=task.seed).scorer.score(labelled.data).score)
    found = {"rank correlation between halves": rank_correlation(*scores)}
    unseen = half(labelled, 1, task.seed)
    rows = np.isin(labelled.data.episode_id, unseen.data.episode_id)
    found |= {f"{name}, unseen half": value for name, value in figures(unseen, Signal(scores[0][rows])).items()}
    return [_row(task, figure=name, value=value) for name, value in found.items()]


def _agreement(task: Task, setup: Setup) -> list[Row]:
    """Rank correlation of the rows' scores between the first seeds; ``seed`` is how many."""
    scores = [_kept(task.dataset, setup, task.score, seed).score for seed in range(task.seed)]
    pairs = [rank_correlation(scores[one], scores[other]) for one in range(task.seed) for other in range(one)]
    return [_row(task, figure="rank correlation between seeds", value=min(pairs))]


def _policy(task: Task, setup: Setup) -> list[Row]:
    labelled = _labelled(task.dataset, setup)
    signal = None if task.selection == "all" else _kept(task.dataset, setup, task.score, task.seed)
    weight = selection_weight(labelled.data, signal, task.selection, task.level)
    scaling = scaling_of(labelled.data, setup.settings(DEFAULT))
    updates = setup.policy_updates(task.learner)
    policy = LEARNERS[task.learner](labelled.data, weight, scaling, updates, task.seed)
    values = earned(labelled, policy, task.seed)
    selection = f"{task.selection} of episodes" if task.level == "episode" else task.selection
    return [
        _row(
            task,
            figure="return",
            selection=selection,
            learner=task.learner,
            policy_seed=task.seed,
            episode=episode,
            value=value,
        )
        for episode, value in enumerate(values)
    ]


def _row(task: Task, **columns: Any) -> Row:
    blank: Row = {
        "task": "",
        "dataset": task.dataset,
        "score": task.score,
        "seed": task.seed,
        "figure": "",
        "selection": "",
        "learner": "",
        "policy_seed": -1,
        "episode": -1,
        "value": float("nan"),
    }
    row = blank | columns
    return row | {"value": float(row["value"])}


def _keep(task: Task, setup: Setup, name: str, signal: Signal) -> None:
    arrays = {key: array for key in ("score", "weight") if (array := getattr(signal, key)) is not None}
    path = setup.file(task.dataset, name, task.seed)
    partial = path.with_name(f"{path.stem}-{os.getpid()}.partial.npz")
    np.savez(partial, **arrays)
    partial.replace(path)


def is_kept(task: Task, setup: Setup) -> bool:
    """Whether the scores of a finished task are still there."""
    names = ("return",) if task.score == "free" else (task.score,)
    return all(setup.file(task.dataset, name, task.seed).exists() for name in names)


def _kept(dataset: str, setup: Setup, score: str, seed: int) -> Signal:
    """Scores of a finished task."""
    with np.load(setup.file(dataset, score, seed)) as stored:
        return Signal(stored["score"], stored.get("weight"))


def needs(task: Task) -> list[Task]:
    """The tasks whose scores a task reads."""
    if task.kind == "agreement":
        return [maker(task.dataset, task.score, seed) for seed in range(task.seed)]
    if task.kind == "policy" and task.selection != "all":
        return [maker(task.dataset, task.score, task.seed)]
    return []


def maker(dataset: str, score: str, seed: int) -> Task:
    """The task that makes a score."""
    if score in ("return", "random"):
        return Task("score", dataset, "free", seed)
    return Task("score", dataset, score if score in VARIANTS | ABLATIONS else DEFAULT, seed)


CURATED = ("top 10 %", "top 25 %", "top 50 %")


def protocol(datasets: list[str], seeds: int) -> Iterator[Task]:
    """All tasks, the most telling first; of what was recorded here only what judges the default."""
    for dataset in datasets:
        for seed in range(seeds):
            yield Task("score", dataset, DEFAULT, seed)
            yield Task("score", dataset, "free", seed)
        for score in (DEFAULT, "Q", "V", "advantage", "AWR weight"):
            yield Task("agreement", dataset, score, seeds)
        for seed in range(seeds):
            yield Task("policy", dataset, "", seed, "all", learner="BC")
            for selection in (*CURATED, "weights"):
                yield Task("policy", dataset, DEFAULT, seed, selection, learner="BC")
    datasets = [dataset for dataset in datasets if not is_scripted(dataset)]
    for dataset in datasets:
        for seed in range(seeds):
            yield Task("halves", dataset, DEFAULT, seed)
    for dataset in datasets:
        for seed in range(seeds):
            yield Task("policy", dataset, "return", seed, "top 10 %", "episode", "BC")
            yield Task("policy", dataset, "Q", seed, "top 10 %", learner="BC")
            yield Task("policy", dataset, "AWR weight", seed, "weights", learner="BC")
    for dataset in (dataset for dataset in datasets if dataset in MIXING and dataset != RARE):
        for seed in range(seeds):
            yield Task("score", dataset, LITERAL, seed)
            yield Task("policy", dataset, LITERAL, seed, "weights", learner="BC")
        yield Task("agreement", dataset, LITERAL, seeds)
    for dataset in (dataset for dataset in datasets if dataset in MIXING or "percent" not in dataset):
        for seed in range(seeds):
            for selection in ("top 25 %", "top 50 %"):
                yield Task("policy", dataset, "return", seed, selection, "episode", "BC")
                yield Task("policy", dataset, "Q", seed, selection, learner="BC")
    for dataset in (dataset for dataset in datasets if dataset in MIXING):
        for seed in range(seeds):
            yield Task("policy", dataset, "advantage", seed, "top 10 %", learner="BC")
            yield Task("policy", dataset, "1 / Q", seed, "weights", learner="BC")


MIXING = (
    "hopper-mixed",
    "halfcheetah-mixed",
    STITCH,
    RARE,
    "pendulum",
)
"""Datasets of what is too long to measure everywhere: where random and good behavior mix."""


def bootstrapping(datasets: list[str], seeds: int) -> Iterator[Task]:
    """d3rlpy's learners of values, the slowest of all; of the mixture with few of the best TD3+BC alone."""
    for dataset in (name for name in MIXING if name in datasets):
        learners = [*(["IQL"] if dataset != RARE else []), *(["TD3+BC"] if dataset != STITCH else [])]
        for selection in ("all", "top 50 %", "weights", "top 25 %", "top 10 %"):
            for learner in learners:
                for seed in range(seeds):
                    score = "" if selection == "all" else DEFAULT
                    yield Task("policy", dataset, score, seed, selection, learner=learner)


def ablations(datasets: list[str], seeds: int) -> Iterator[Task]:
    """One switch at a time.

    What alters the network alone, whose say is small, is tried on hopper-mixed, where clones of the same data
    are more alike than on halfcheetah-mixed, and in the maze. There nothing is cloned: cloning by the weights
    of the default earns nothing that could be lost.
    """
    for name in ABLATIONS:
        for dataset in (dataset for dataset in MIXING if dataset in datasets):
            if dataset in (RARE, "halfcheetah-mixed") and not alters_prior(name):
                continue
            tried = any(attempt.dataset == dataset and name in attempt.variants for attempt in ATTEMPTS)
            if alters_plateau(name) and not tried:
                continue
            for seed in range(seeds):
                yield Task("score", dataset, name, seed)
                if dataset != STITCH:
                    yield Task("policy", dataset, name, seed, "weights", learner="BC")
            yield Task("agreement", dataset, name, seeds)


def attempts(datasets: list[str], seeds: int) -> Iterator[Task]:
    """Other settings where a goal is missed."""
    for attempt in ATTEMPTS:
        dataset = attempt.dataset
        if dataset not in datasets:
            continue
        for name in attempt.variants:
            yield from (Task("score", dataset, name, seed) for seed in range(seeds))
            yield Task("agreement", dataset, name, seeds)
            for selection, learner in (("weights", "BC"), *attempt.policies):
                for seed in range(seeds):
                    yield Task("policy", dataset, name, seed, selection, learner=learner)


PARTS = {"protocol": protocol, "bootstrapping": bootstrapping, "attempts": attempts, "ablations": ablations}
