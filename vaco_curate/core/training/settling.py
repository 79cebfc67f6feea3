"""When a phase may end before its last update: once it no longer changes the order of the rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GROWTH = 1.25
"""Updates at a look over updates at the last one. Values creep: at a fixed distance any order seems
settled late in a phase. That a quarter more updates change nothing says the same early and late."""

TARGET_SWEEPS = 20
"""Time constants of the target critics before the first look at values: until then they have hardly left
their start, and an order that does not move may be that of the initial networks."""

LOOKS_TO_SETTLE = 3
"""Successive looks that must find the order as it was: through about a doubling of the updates."""

SAMPLE_ROWS = 4096
"""Rows whose order is watched, of whole paths drawn at random: four of a thousand steps."""


@dataclass
class Settling:
    """How far the order of the watched rows has settled.

    Attributes:
        ranks: of the last look, (K, signals, rows); zeros before the first.
        last: updates at the last look; 0 before the first.
        settled: the last so many looks in succession found the order as it was.
    """

    ranks: Tensor
    last: int = 0
    settled: int = 0

    @classmethod
    def new(cls, members: int, signals: int, rows: int, device: torch.device) -> Settling:
        """Before the first look."""
        return cls(torch.zeros(members, signals, rows, device=device))

    def is_due(self, update: int, first_look: int) -> bool:
        """Whether to look: first at ``first_look`` updates, then whenever they have grown by ``GROWTH``."""
        return update >= max(first_look, GROWTH * self.last)

    def look(self, update: int, signals: Tensor, threshold: float) -> float:
        """Compare with the last look, and remember this one.

        Args:
            signals: (K, signals, rows); larger is better.
            threshold: the rank correlation that counts as settled.

        Returns:
            The smallest rank correlation of any member's signal; nan at the first look.
        """
        ranks = signals.argsort(dim=-1, stable=True).argsort(dim=-1).to(self.ranks.dtype)
        correlation = rank_correlation(ranks, self.ranks).min().item() if self.last else math.nan
        self.ranks.copy_(ranks)
        self.last = update
        self.settled = self.settled + 1 if correlation >= threshold else 0
        return correlation


def rank_correlation(left: Tensor, right: Tensor) -> Tensor:
    """Spearman's correlation from ranks without ties, (..., rows) -> (...)."""
    left = left - left.mean(dim=-1, keepdim=True)
    right = right - right.mean(dim=-1, keepdim=True)
    covariance = (left * right).sum(dim=-1)
    return covariance / (left.square().sum(dim=-1) * right.square().sum(dim=-1)).sqrt()
