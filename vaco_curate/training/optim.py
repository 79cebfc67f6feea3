"""Adam over whole stacks of networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim.adam import adam

from vaco_curate.stacked import StackedMLP


class Adam:
    """torch's fused Adam on the parameter vectors of stacks: one kernel whatever the members and layers.

    Attributes:
        gradients: one for each stack, to be filled before ``step``.
        first, second, steps: the moments and the number of steps, which a checkpoint keeps.
    """

    def __init__(self, networks: Sequence[StackedMLP], learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.parameters = [network.flat for network in networks]
        self.gradients = [network.like() for network in networks]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [parameter.new_zeros((), dtype=torch.float32) for parameter in self.parameters]

    def step(self) -> None:
        """One step on the gradients; torch's defaults for all but the learning rate."""
        adam(
            self.parameters,
            [gradient.flat for gradient in self.gradients],
            self.first,
            self.second,
            [],
            self.steps,
            fused=True,
            capturable=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
