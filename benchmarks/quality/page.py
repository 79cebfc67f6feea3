"""docs/quality.md from the table of results: no number is written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
from board import UPDATES, Cell, Setup, agreement, scores_file
from columns import LEADING, OURS, POLICY_ALONE, columns_of, measured_of
from datasets import SOURCES
from learners import LEARNERS

from vaco_curate.core.advantage import Persistence
from vaco_curate.core.transitions import Array
from vaco_curate.curation.advice import Kind, kind_of
from vaco_curate.evaluation import bootstrap_interval

WANTED_SEEDS = 3
HERE = Path(__file__).parent
FIGURES = (
    "Pearson",
    "Spearman",
    "AUC",
    "best in top 10 %",
    "weight on the best",
    "effective sample size",
    "score against length",
    "scale",
    "shrinkage",
    "predicted",
)
GOAL, LARGEST = 5.0, 20.0
"""Of the mean regret, and of a cell's."""


@dataclass(frozen=True)
class Earned:
    """What the policies of a column earn: mean over seeds and episodes, its interval, and how many seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    @classmethod
    def of(cls, returns: Array) -> Earned:
        """From (seeds, episodes)."""
        return cls(float(returns.mean()), *bootstrap_interval(returns), len(returns))

    def __str__(self) -> str:
        partly = "" if self.seeds >= WANTED_SEEDS else f", {self.seeds} seed{'s' * (self.seeds > 1)}"
        return f"{self.mean:.0f} ({self.low:.0f} to {self.high:.0f}{partly})"


class Results:
    """What the table holds for the settings as they are."""

    def __init__(self, table: pl.DataFrame, datasets: list[str], setup: Setup) -> None:
        self.datasets, self.setup = datasets, setup
        self.rows: dict[tuple[str, str, str, str], dict[int, list[float]]] = {}
        for row in table.sort("seed", "episode").iter_rows(named=True):
            cell = Cell(row["dataset"], row["seed"], row["learner"], row["column"])
            if row["key"] == cell.key(setup):
                name = (row["dataset"], row["learner"], row["column"], row["figure"])
                self.rows.setdefault(name, {}).setdefault(row["seed"], []).append(row["value"])

    def earned(
        self, dataset: str, learner: str, column: str, among: Sequence[str] | None = None
    ) -> Earned | None:
        """With the seeds that all measured columns of those that are compared have; None if not measured.

        Args:
            among: the columns that are compared; None for the board's.
        """
        by_seed = self.rows.get((dataset, learner, column, "return"))
        common = self._common_seeds(dataset, learner, among or columns_of(learner))
        return Earned.of(np.array([by_seed[seed] for seed in common])) if by_seed and common else None

    def _common_seeds(self, dataset: str, learner: str, columns: Sequence[str]) -> list[int]:
        found = [self.rows.get((dataset, learner, column, "return"), {}) for column in columns]
        measured = [set(by_seed) for by_seed in found if by_seed]
        return sorted(set.intersection(*measured)) if measured else []

    def median(self, dataset: str, figure: str) -> float:
        """A figure of the default's scores, over the seeds; nan where it was not measured."""
        by_seed = self.rows.get((dataset, "", "", figure))
        return float(np.median(list(by_seed.values()))) if by_seed else math.nan

    def regret(self, dataset: str, learner: str) -> float:
        """The best column less the best of ours; nan unless all columns were measured."""
        found = {column: self.earned(dataset, learner, column) for column in columns_of(learner)}
        means = {column: earned.mean for column, earned in found.items() if earned is not None}
        if len(means) < len(found):
            return math.nan
        return max(means.values()) - max(means[column] for column in LEADING)

    def is_complete(self, cell: tuple[str, str]) -> bool:
        """Whether all columns of a dataset and a learner were measured with all seeds."""
        found = [self.earned(*cell, column) for column in columns_of(cell[1])]
        return all(earned is not None and earned.seeds >= WANTED_SEEDS for earned in found)

    def kind(self, dataset: str) -> Kind | None:
        """Over what behavior was found to persist in a dataset; None where that was not measured."""
        scale, predicted = self.median(dataset, "scale"), self.median(dataset, "predicted")
        return kind_of([Persistence(scale, 0.0, 0.0, 0.0, 0.0, predicted)])

    def harm(self, dataset: str, learner: str) -> bool:
        """Whether the weights earn less than all rows by more than the intervals."""
        weights, everything = (self.earned(dataset, learner, column) for column in ("weights", "all rows"))
        return weights is not None and everything is not None and weights.high < everything.low

    def agreement(self, dataset: str) -> float:
        """Between the scores of all seeds; nan where they are not here."""
        seeds = len(self.rows.get((dataset, "", "", "AUC"), {}))
        kept = all(scores_file(dataset, seed, self.setup).exists() for seed in range(seeds))
        return agreement(dataset, seeds, self.setup) if seeds > 1 and kept else math.nan


def number(value: float, digits: int) -> str:
    """Blank for what was not measured."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def markdown(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table."""
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows]) + "\n"


def render(table: pl.DataFrame, datasets: list[str], setup: Setup) -> str:
    """The page about the given datasets."""
    results = Results(table, datasets, setup)
    text = (HERE / "page.md").read_text()
    parts = {
        "verdict": verdict(results),
        "regrets": regrets(results),
        "boards": "\n".join(board(results, learner) for learner in LEARNERS),
        "alone": policy_alone(results),
        "advice": markdown(("behavior persists over", "learner", "datasets", *ADVISED), by_kind(results)),
        "scores": scores(results),
        "datasets": markdown(("dataset", "what it is"), ((name, SOURCES[name].made_of) for name in datasets)),
        "updates": ", ".join(f"{learner} {setup.updates(learner):,}" for learner in UPDATES),
    }
    for name, part in parts.items():
        text = text.replace("{" + name + "}", part)
    return text


def verdict(results: Results) -> str:
    """Goals and what was found."""
    found = {
        (dataset, learner): results.regret(dataset, learner)
        for dataset in results.datasets
        for learner in LEARNERS
    }
    measured = {cell: regret for cell, regret in found.items() if not math.isnan(regret)}
    if not measured:
        return "No cell of the board was measured in full.\n"
    mean, largest = np.mean(list(measured.values())), max(measured.values())
    over = [
        f"{dataset}, {learner} ({regret:.0f})"
        for (dataset, learner), regret in measured.items()
        if regret > LARGEST
    ]
    harmed = [f"{dataset}, {learner}" for dataset, learner in found if results.harm(dataset, learner)]
    lines = [
        ("cells measured", "all", f"{len(measured)} of {len(found)}"),
        (f"... with {WANTED_SEEDS} seeds in every column", "all", str(sum(map(results.is_complete, measured)))),
        ("mean regret", f"<= {GOAL:.0f}", f"{mean:.1f}"),
        (f"cells with a regret above {LARGEST:.0f}", "none", ", ".join(over) or "none"),
        ("largest regret", f"<= {LARGEST:.0f}", f"{largest:.0f}"),
        ("weights below all rows by more than the intervals", "nowhere", ", ".join(harmed) or "nowhere"),
    ]
    return markdown(("", "goal", "found"), lines)


def regrets(results: Results) -> str:
    """A cell for each dataset and learner."""
    rows = (
        (dataset, *(number(results.regret(dataset, learner), 0) for learner in LEARNERS))
        for dataset in results.datasets
    )
    return markdown(("regret", *LEARNERS), rows)


def board(results: Results, learner: str) -> str:
    """What the policies of a learner earn."""
    others = [column for column in columns_of(learner) if column not in OURS and column != "all rows"]
    columns = ["all rows", *OURS, *others]
    rows = []
    for dataset in results.datasets:
        found = [results.earned(dataset, learner, column) for column in columns]
        if not any(found):
            continue
        best = max(earned.mean for earned in found if earned is not None)
        cells = [
            "" if earned is None else f"**{earned}**" if earned.mean == best else str(earned)
            for earned in found
        ]
        rows.append((dataset, *cells))
    return f"### {learner}\n\n" + (markdown((learner, *columns), rows) if rows else "Not measured.\n")


def policy_alone(results: Results) -> str:
    """Weights on everything against weights on the policy alone, where both were measured."""
    compared, rows = ("all rows", "weights", POLICY_ALONE), []
    gains: dict[str, list[float]] = {}
    for learner in (learner for learner in LEARNERS if POLICY_ALONE in measured_of(learner)):
        for dataset in results.datasets:
            found = [results.earned(dataset, learner, column, compared) for column in compared]
            everything, weights, alone = found
            if everything is not None and weights is not None and alone is not None:
                rows.append((learner, dataset, *map(str, found)))
                gains.setdefault(learner, []).append(alone.mean - weights.mean)
    if not rows:
        return "Not measured.\n"
    lines = [
        f"- {learner}: {np.mean(gain):+.0f} on average over {len(gain)} datasets; better by more than "
        f"{TELLING:.0f} on {sum(one > TELLING for one in gain)}, worse on {sum(one < -TELLING for one in gain)}.\n"
        for learner, gain in gains.items()
    ]
    return markdown(("learner", "dataset", *compared), rows) + "\n" + "".join(lines)


TELLING = 5.0
"""Points of normalized return by which one mean is called better than another."""

ADVISED = ("all rows", *OURS, POLICY_ALONE)


def by_kind(results: Results) -> list[tuple[str, ...]]:
    """What a learner earns on average over the datasets of a kind, by what of ours it is given.

    A kind and a learner are left out unless all of its datasets were measured.
    """
    rows = []
    for kind in get_args(Kind):
        datasets = [dataset for dataset in results.datasets if results.kind(dataset) == kind]
        for learner in LEARNERS:
            means = mean_by_column(results, datasets, learner)
            if means:
                cells = (number(means.get(column, math.nan), 0) for column in ADVISED)
                rows.append((kind, learner, str(len(datasets)), *cells))
    return rows


def mean_by_column(results: Results, datasets: list[str], learner: str) -> dict[str, float]:
    """Means over datasets of what the columns of ``ADVISED`` earn that were measured on all of them.

    Empty unless these are all but the policy's alone, which a learner without a critic has not.
    """
    found = {column: [results.earned(name, learner, column) for name in datasets] for column in ADVISED}
    means = {
        column: [earned.mean for earned in column_found if earned is not None]
        for column, column_found in found.items()
    }
    measured = {
        column: float(np.mean(values)) for column, values in means.items() if 0 < len(values) == len(datasets)
    }
    return measured if measured.keys() >= set(ADVISED) - {POLICY_ALONE} else {}


def summary(table: pl.DataFrame, datasets: list[str], setup: Setup) -> str:
    """What clones earn, in short: the table of the README."""
    results, columns = Results(table, datasets, setup), ("all rows", "weights", "top 10 %", *SHOWN_BASELINES)
    rows = []
    for dataset in datasets:
        found = [results.earned(dataset, "BC", column) for column in columns]
        rows.append((dataset, *("" if earned is None else f"{earned.mean:.0f}" for earned in found)))
    return markdown(("", "all rows", "our weights", "our top 10 %", *SHOWN_BASELINES), rows)


SHOWN_BASELINES = ("return, top 10 %", "AW", "AWR", "VACO")


def scores(results: Results) -> str:
    """Figures of the default's scores, and of other signals of the same training."""
    rows = []
    for dataset in results.datasets:
        values = [results.median(dataset, figure) for figure in FIGURES]
        digits = [0 if figure in ("scale", "shrinkage") else 2 for figure in FIGURES]
        plain = [results.median(dataset, f"AUC, {signal}") for signal in ("VACO", "Q", "advantage")]
        cells = [
            number(value, digit).replace("inf", "path") for value, digit in zip(values, digits, strict=True)
        ]
        cells += [number(results.agreement(dataset), 3), *(number(value, 2) for value in plain)]
        rows.append((dataset, *cells))
    return markdown(("", *FIGURES, "seeds agree", "AUC of VACO", "AUC of Q", "AUC of Q - V"), rows)
