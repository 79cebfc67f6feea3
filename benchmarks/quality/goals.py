"""What the default is measured by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from datasets import STITCH
from results import WANTED_SEEDS, Policy, Results, complete
from signals import DEFAULT

MIXED = ("hopper-mixed", "halfcheetah-mixed")
CURATED = ("top 10 %", "top 25 %", "top 50 %", "weights")
LEARNERS = ("BC", "IQL", "TD3+BC")


@dataclass(frozen=True)
class Goal:
    """What the default is measured by; ``found`` by dataset, shown with so many ``digits``."""

    text: str
    wanted: str
    found: Callable[[Results], dict[str, float]]
    holds: Callable[[float], bool]
    digits: int = 3


def _medians(figure: str, *datasets: str, seeds: int = WANTED_SEEDS) -> Callable[[Results], dict[str, float]]:
    """Of the named datasets, or of all, where that many seeds were measured."""

    def found(results: Results) -> dict[str, float]:
        values = {dataset: results.values(dataset, DEFAULT, figure) for dataset in datasets or results.datasets}
        return {
            dataset: float(np.median(measured)) if len(measured) >= seeds else math.nan
            for dataset, measured in values.items()
        }

    return found


def _best_cloned(results: Results) -> dict[str, float]:
    found = [results.policy(MIXED[0], DEFAULT, selection) for selection in CURATED[:3]]
    return {MIXED[0]: max((policy.median for policy in found if complete(policy)), default=math.nan)}


def _by_weight(results: Results) -> dict[str, float]:
    found = results.policy(MIXED[0], DEFAULT, "weights")
    return {MIXED[0]: found.median if complete(found) else math.nan}


def _success(results: Results) -> dict[str, float]:
    """The best of the learners that do no worse than on all rows; 0 where every one does worse."""
    pairs = (
        (results.policy(STITCH, DEFAULT, "top 50 %", learner), results.everything(STITCH, learner))
        for learner in LEARNERS
    )
    found = [
        kept.median if kept.median >= everything.median else 0.0
        for kept, everything in pairs
        if complete(kept) and complete(everything)
    ]
    return {STITCH: max(found, default=math.nan)}


@dataclass(frozen=True)
class Comparison:
    """What policies earn that a learner made of a selection, and of all rows alike."""

    learner: str
    dataset: str
    selection: str
    everything: Policy
    curated: Policy

    @property
    def is_better(self) -> bool:
        """By more than the intervals."""
        return self.curated.low > self.everything.high

    @property
    def is_worse(self) -> bool:
        """By more than the intervals."""
        return self.curated.high < self.everything.low


def comparisons(results: Results) -> Iterator[Comparison]:
    """All that were measured with all seeds."""
    for learner in LEARNERS:
        for dataset in results.datasets:
            everything = results.everything(dataset, learner)
            for selection in CURATED:
                curated = results.policy(dataset, DEFAULT, selection, learner)
                if complete(curated) and complete(everything):
                    yield Comparison(learner, dataset, selection, everything, curated)


def gains(results: Results) -> dict[str, Comparison]:
    """Of the weights with all rows, by the learner that makes most of all rows; by dataset."""
    chosen: dict[str, Comparison] = {}
    for found in comparisons(results):
        if found.selection != "weights":
            continue
        other = chosen.get(found.dataset)
        if other is None or found.everything.mean > other.everything.mean:
            chosen[found.dataset] = found
    return chosen


def _gain(results: Results) -> dict[str, float]:
    gained = {name: found.curated.mean - found.everything.mean for name, found in gains(results).items()}
    return {dataset: gained.get(dataset, math.nan) for dataset in results.datasets}


def _harm(results: Results) -> dict[str, float]:
    """Selections that are worse than all rows by more than the intervals, over the learners."""
    measured = list(comparisons(results))
    return {
        dataset: float(sum(one.is_worse for one in of_dataset)) if of_dataset else math.nan
        for dataset in results.datasets
        for of_dataset in [[one for one in measured if one.dataset == dataset]]
    }


GOALS = (
    Goal("Pearson, halfcheetah-mixed", ">= 0.98", _medians("Pearson", MIXED[1]), lambda x: x >= 0.98),
    Goal("Pearson, hopper-mixed", ">= 0.90", _medians("Pearson", MIXED[0]), lambda x: x >= 0.90),
    Goal("Spearman, hopper-mixed", ">= 0.95", _medians("Spearman", MIXED[0]), lambda x: x >= 0.95),
    Goal(
        "best two behaviors in the top 10 % of episodes, both mixed sets",
        ">= 0.9",
        _medians("best in top 10 %, episodes", *MIXED),
        lambda x: x >= 0.9,
    ),
    Goal(
        "maze: AUC of the directed rows against the random ones",
        ">= 0.85",
        _medians("AUC, directed against random", STITCH),
        lambda x: x >= 0.85,
    ),
    Goal(
        "maze: AUC between the two directed behaviors",
        "0.35 to 0.65",
        _medians("AUC, second against first", STITCH),
        lambda x: 0.35 <= x <= 0.65,
    ),
    Goal(
        "maze: success in % from the start cells on the top 50 %, the best learner "
        "(a learner that does better on all rows counts as 0)",
        ">= 80",
        _success,
        lambda x: x >= 80,
        0,
    ),
    Goal("hopper-mixed: BC on the best of the top 10, 25, 50 %", ">= 95", _best_cloned, lambda x: x >= 95, 0),
    Goal("hopper-mixed: BC by the weights", ">= 60", _by_weight, lambda x: x >= 60, 0),
    Goal(
        "gain of the weights over all rows (means), every dataset, by the learner that makes most of all rows",
        "> 0",
        _gain,
        lambda x: x > 0,
        2,
    ),
    Goal(
        "number of selections worse than all rows by more than the intervals, every dataset, all learners",
        "0",
        _harm,
        lambda x: x == 0,
        0,
    ),
    Goal(
        "effective sample size of the weights, every dataset",
        "0.1 to 0.9",
        _medians("effective sample size"),
        lambda x: 0.1 <= x <= 0.9,
        4,
    ),
    Goal(
        "rank correlation between seeds, of the pair that agrees least, every dataset",
        ">= 0.9",
        _medians("rank correlation between seeds", seeds=1),
        lambda x: x >= 0.9,
    ),
)
