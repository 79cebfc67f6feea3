"""Datasets as one tensor, and the rows of a minibatch taken from it to the training device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Transitions side by side in one tensor, so that minibatches are one gather.

    Attributes:
        values: (..., rows, 2 d + k + 2): observation, action, next observation, reward, terminated; on the
            training device, or in a mapped file.
        observation_size, action_size: d and k.
        device: where minibatches are wanted.
    """

    values: Tensor
    observation_size: int
    action_size: int
    device: torch.device

    @classmethod
    def of(
        cls, observation: Tensor, action: Tensor, next_observation: Tensor, reward: Tensor, terminated: Tensor
    ) -> Rows:
        """Pack columns; observations normalized, actions in [-1, 1], rewards scaled, terminated bool."""
        ends = torch.stack([reward, terminated.to(reward.dtype)], dim=-1)
        values = torch.cat([observation, action, next_observation, ends], dim=-1)
        return cls(values, observation.shape[-1], action.shape[-1], values.device)

    def take(self, rows: Tensor) -> Rows:
        """The given rows of a dataset, (..., batch) int64, on the training device."""
        taken = self.values.index_select(0, rows.flatten().to(self.values.device)).view(*rows.shape, -1)
        return self.like(taken.to(self.device))

    def like(self, values: Tensor) -> Rows:
        """Other rows of the same columns."""
        return Rows(values, self.observation_size, self.action_size, self.device)

    @cached_property
    def observation(self) -> Tensor:
        """(..., rows, d)."""
        return self.values[..., : self.observation_size]

    @cached_property
    def action(self) -> Tensor:
        """(..., rows, k)."""
        return self.values[..., self.observation_size : self.observation_size + self.action_size]

    @cached_property
    def pair(self) -> Tensor:
        """Observation and action, the input of a critic, (..., rows, d + k)."""
        return self.values[..., : self.observation_size + self.action_size]

    @cached_property
    def next_observation(self) -> Tensor:
        """(..., rows, d)."""
        return self.values[..., self.observation_size + self.action_size : -2]

    @cached_property
    def reward(self) -> Tensor:
        """(..., rows)."""
        return self.values[..., -2]

    @property
    def terminated(self) -> Tensor:
        """(..., rows) bool."""
        return self.values[..., -1] > 0.5
