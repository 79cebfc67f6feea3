"""The lower level: one step of weighted behavior cloning, for all members at once."""

from __future__ import annotations

import torch
from torch import Tensor

from vaco_curate.core.fast.passes import new_pass
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.losses import cloning_errors_gradient, tanh_gradient
from vaco_curate.core.training.optim import Adam

SMALLEST_SHARE = 1e-30
"""Of a row in the loss; below it, a float32 derivative would lose the row's alignment."""


class CloningUpdate:
    """phi descends the weighted cloning loss by one step of Adam; buffers are made once.

    After a call, ``policy`` and ``share`` hold what the pass at the old phi computed, off which the
    bi-level update reads the alignments: the derivatives are those of share * error, row by row.

    Source: VACO, Eq. 7 (``losses.weighted_cloning_loss``).
    """

    def __init__(self, policy: StackedMLP, optimizer: Adam, batch_size: int) -> None:
        self.optimizer = optimizer
        self.policy = new_pass(policy, batch_size)
        self.share = policy.flat.new_zeros(policy.members, batch_size)

    def __call__(self, observation: Tensor, action: Tensor, weight: Tensor) -> Tensor:
        """Step, and return the policy's actions at the old phi, (K, batch, k).

        Args:
            observation, action: (K, batch, d) and (K, batch, k).
            weight: (K, batch).
        """
        predicted = torch.tanh(self.policy.forward(observation))
        torch.div(weight, weight.shape[-1], out=self.share).clamp_min_(SMALLEST_SHARE)
        derivative = cloning_errors_gradient(predicted, action).mul_(tanh_gradient(predicted))
        torch.mul(derivative, self.share.unsqueeze(-1), out=self.policy.derivatives[-1])
        self.policy.backward(self.optimizer.gradients[0])
        self.optimizer.step()
        return predicted
