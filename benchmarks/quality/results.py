"""What the table of results holds, by what it is asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import polars as pl

from vaco_curate.evaluation import bootstrap_interval

WANTED_SEEDS = 3
"""Of a policy; with fewer it is shown, and counts for no goal and no verdict."""


class Results:
    """What the table holds, by what it is asked for."""

    def __init__(self, table: pl.DataFrame, datasets: list[str]) -> None:
        self.datasets = datasets
        self.figures = table.filter(pl.col("episode") < 0)
        self.returns = table.filter(pl.col("figure") == "return")
        self.seconds = float(table.filter(pl.col("figure") == "seconds")["value"].sum())

    def values(self, dataset: str, score: str, figure: str) -> list[float]:
        """A figure of every seed."""
        rows = self.figures.filter(
            (pl.col("dataset") == dataset) & (pl.col("score") == score) & (pl.col("figure") == figure)
        )
        return rows.sort("seed")["value"].to_list()

    def median(self, dataset: str, score: str, figure: str) -> float:
        """Over the seeds; nan where it was not measured."""
        values = self.values(dataset, score, figure)
        return float(np.median(values)) if values else math.nan

    def policy(self, dataset: str, score: str, selection: str, learner: str = "BC") -> Policy | None:
        """What policies learned from a selection earn."""
        rows = self.returns.filter(
            (pl.col("dataset") == dataset)
            & (pl.col("score") == score)
            & (pl.col("selection") == selection)
            & (pl.col("learner") == learner)
        )
        by_seed = [
            part["value"].to_numpy()
            for _, part in rows.sort("policy_seed").group_by("policy_seed", maintain_order=True)
        ]
        if not by_seed:
            return None
        returns = np.stack(by_seed)
        median = float(np.median(returns.mean(axis=1)))
        return Policy(float(returns.mean()), *bootstrap_interval(returns), median, len(returns))

    def everything(self, dataset: str, learner: str = "BC") -> Policy | None:
        """What policies learned from all rows alike earn."""
        return self.policy(dataset, "", "all", learner)


@dataclass(frozen=True)
class Policy:
    """Mean over seeds and episodes, its interval, the median of the seeds' means, and how many seeds."""

    mean: float
    low: float
    high: float
    median: float
    seeds: int

    def __str__(self) -> str:
        digits = 0 if abs(self.mean) >= 10 else 1 if self.high - self.low >= 0.5 else 2
        partly = "" if self.seeds >= WANTED_SEEDS else f", {self.seeds} seed{'s' * (self.seeds > 1)}"
        return f"{self.mean:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f}{partly})"


def complete(policy: Policy | None) -> TypeGuard[Policy]:
    """Whether it was measured with all seeds."""
    return policy is not None and policy.seeds >= WANTED_SEEDS
