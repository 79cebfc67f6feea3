"""Value, twin critic, policy and meta-scoring network. Nothing here but modules."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def mlp(input_size: int, hidden: Sequence[int], output_size: int) -> nn.Sequential:
    """Linear layers with ReLU between them; the last one is linear."""
    sizes = [input_size, *hidden]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], output_size))


class ValueNetwork(nn.Module):
    """V(s): normalized observation (batch, d) -> value (batch,), in scaled reward units."""

    def __init__(self, observation_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = mlp(observation_size, hidden, 1)

    def forward(self, observation: Tensor) -> Tensor:
        """V(s), (batch,)."""
        value: Tensor = self.layers(observation).squeeze(-1)
        return value


class TwinCritic(nn.Module):
    """Two independent Q(s, a): (batch, d), (batch, k) -> (2, batch), in scaled reward units."""

    def __init__(self, observation_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.first = mlp(observation_size + action_size, hidden, 1)
        self.second = mlp(observation_size + action_size, hidden, 1)

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Both Q(s, a), (2, batch)."""
        pair = torch.cat([observation, action], dim=-1)
        return torch.stack([self.first(pair).squeeze(-1), self.second(pair).squeeze(-1)])


class Policy(nn.Module):
    """Deterministic policy: normalized observation (batch, d) -> action in (-1, 1), (batch, k)."""

    def __init__(self, observation_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = mlp(observation_size, hidden, action_size)

    def forward(self, observation: Tensor) -> Tensor:
        """pi(s), (batch, k)."""
        return torch.tanh(self.layers(observation))


class ScorerNetwork(nn.Module):
    """Meta-scoring network on (s, a, Q(s, a)). Its output is a score whose sigmoid is the row's weight."""

    def __init__(self, observation_size: int, action_size: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.layers = mlp(observation_size + action_size + 1, hidden, 1)

    def forward(self, observation: Tensor, action: Tensor, q_value: Tensor) -> Tensor:
        """Score of each row.

        Args:
            observation: normalized, (batch, d).
            action: scaled to [-1, 1], (batch, k).
            q_value: Q(s, a) of the frozen critics, standardized over the training data, (batch,).

        Returns:
            Score, (batch,), unitless.
        """
        features = torch.cat([observation, action, q_value.unsqueeze(-1)], dim=-1)
        score: Tensor = self.layers(features).squeeze(-1)
        return score
