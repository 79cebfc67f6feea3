"""Datasets as tensors on the training device, and minibatches drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class _Rows:
    """Tensors whose first dimension is the row; a minibatch has the same type as the dataset."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def take(self, rows: Tensor) -> Self:
        """The given rows, (batch,) int64, of every column."""
        return type(self)(*(getattr(self, field.name).index_select(0, rows) for field in fields(self)))

    def sample(self, batch_size: int, generator: torch.Generator) -> Self:
        """Rows drawn uniformly with replacement, on the device of the data."""
        rows = torch.randint(len(self), (batch_size,), generator=generator, device=generator.device)
        return self.take(rows)


@dataclass(frozen=True)
class ValueBatch(_Rows):
    """What a TD update needs; observations normalized, actions in [-1, 1], rewards scaled."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_observation: Tensor


@dataclass(frozen=True)
class ScoringBatch(_Rows):
    """What the bi-level update needs: the scorer's inputs and the log prior of each row."""

    observation: Tensor
    action: Tensor
    q_value: Tensor
    log_prior: Tensor
