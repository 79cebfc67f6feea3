"""The lower level: one step of weighted behavior cloning, for all members at once."""

from __future__ import annotations

import torch
from torch import Tensor

from vaco_curate.gradients import cloning_errors_gradient, tanh_gradient
from vaco_curate.losses import cloning_errors
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.optim import Adam


class CloningUpdate:
    """phi descends the weighted cloning loss by one step of Adam; buffers are made once.

    After a call, ``activations`` and ``derivatives`` hold what the pass at the old phi computed: the
    derivatives are those of every row's own error, without its weight, so that the bi-level update can
    read alignments off them.

    Source: VACO, Eq. 7 (``losses.weighted_cloning_loss``).
    """

    def __init__(self, policy: StackedMLP, optimizer: Adam, batch_size: int) -> None:
        self.policy, self.optimizer = policy, optimizer
        self.activations = policy.buffers(batch_size)
        self.derivatives = policy.buffers(batch_size)
        self.weighted = policy.buffers(batch_size)

    def __call__(self, observation: Tensor, action: Tensor, weight: Tensor) -> Tensor:
        """Step, and return the cloning errors at the old phi, (K, batch).

        Args:
            observation, action: (K, batch, d) and (K, batch, k).
            weight: (K, batch).
        """
        predicted = torch.tanh(self.policy.forward(observation, self.activations))
        gradient = cloning_errors_gradient(predicted, action)
        torch.mul(gradient, tanh_gradient(predicted), out=self.derivatives[-1])
        self.policy.backpropagate(self.activations, self.derivatives)
        share = (weight / weight.shape[-1]).unsqueeze(-1)
        for derivative, weighted in zip(self.derivatives, self.weighted, strict=True):
            torch.mul(derivative, share, out=weighted)
        self.policy.parameter_gradient(
            observation, self.activations, self.weighted, self.optimizer.gradients[0]
        )
        self.optimizer.step()
        return cloning_errors(predicted, action)
