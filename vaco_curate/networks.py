"""The four networks of VACO: value, twin critic, policy and meta-scorer. Nothing here but modules."""

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


SCORER_INPUTS = ("state", "action", "q", "value")
"""What a meta-scoring network may see: s, a, Q(s, a) and V(s)."""

PAPER_INPUTS = ("state", "action", "q")


def scorer_inputs(
    inputs: Sequence[str], observation: Tensor, action: Tensor, q_value: Tensor, value: Tensor | None
) -> list[Tensor]:
    """The named inputs of a meta-scoring network in their order, (..., batch, width) each.

    Args:
        inputs: of ``SCORER_INPUTS``.
        q_value, value: standardized, (..., batch); the latter only where it is named.
    """
    columns = {"q": q_value, "value": value}
    parts = {"state": observation, "action": action}
    for name in inputs:
        if name in columns:
            column = columns[name]
            assert column is not None, f"{name} is an input and was not given"
            parts[name] = column.unsqueeze(-1)
    return [parts[name] for name in inputs]


class ScorerNetwork(nn.Module):
    """Meta-scoring network on (s, a, Q(s, a)); its output is the score.

    The weight is an increasing function of the score (see ``losses.LOG_WEIGHT``), so both order the
    data alike. The score is kept within ``+-bound`` by a scaled tanh: a weight can then be neither
    zero nor arbitrarily large, which is the first of the guards against a collapsed scorer.

    Args:
        bound: largest absolute score; ``None`` leaves the output linear, as the paper does.
        inputs: what it sees, of ``SCORER_INPUTS``.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        bound: float | None,
        inputs: Sequence[str] = PAPER_INPUTS,
    ) -> None:
        super().__init__()
        widths = {"state": observation_size, "action": action_size, "q": 1, "value": 1}
        self.layers = mlp(sum(widths[name] for name in inputs), hidden, 1)
        self.bound = bound
        self.inputs = tuple(inputs)

    def forward(
        self, observation: Tensor, action: Tensor, q_value: Tensor, value: Tensor | None = None
    ) -> Tensor:
        """Score of each row.

        Args:
            observation: normalized, (batch, d).
            action: scaled to [-1, 1], (batch, k).
            q_value: Q(s, a) of the frozen critics, standardized over the training data, (batch,).
            value: V(s), likewise, where it is among the inputs.

        Returns:
            Score, (batch,), unitless.
        """
        features = torch.cat(scorer_inputs(self.inputs, observation, action, q_value, value), dim=-1)
        return bounded(self.layers(features).squeeze(-1), self.bound)


def bounded(output: Tensor, bound: float | None) -> Tensor:
    """The score of the scorer's linear output: kept within +-bound, or as it is."""
    return output if bound is None else bound * torch.tanh(output / bound)
