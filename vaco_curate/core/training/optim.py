"""Adam over whole stacks of networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.optim.adam import adam

from vaco_curate.core.fast import native
from vaco_curate.core.fast.stacked import StackedMLP

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """Adam on the parameter vectors of stacks: one pass over memory, whatever the members and layers.

    Torch's defaults for all but the learning rate.

    Attributes:
        learning_rate: of the steps from now on; a tensor on the device, which a captured CUDA graph reads.
        gradients: one for each stack, to be filled before ``step``.
        first, second, steps: the moments of each and the number of steps, which a checkpoint keeps.
    """

    def __init__(self, networks: Sequence[StackedMLP], learning_rate: float) -> None:
        self.parameters = [network.flat for network in networks]
        device = self.parameters[0].device  # where the fused kernel reads the rate as float32, on CUDA
        kind = torch.float32 if device.type == "cuda" else torch.float64
        self.learning_rate = torch.tensor(learning_rate, dtype=kind, device=device)
        self.gradients = [network.like() for network in networks]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        # The fused kernel for CUDA reads the number of steps as float32, whatever the parameters are.
        self.steps = torch.zeros((), dtype=torch.float32, device=self.parameters[0].device)

    def step(self) -> None:
        """One step on the gradients."""
        if all(native.usable(parameter) for parameter in self.parameters):
            self.steps += 1
            step, learning_rate = self.steps.item(), self.learning_rate.item()
            for parameter, gradient, first, second in zip(
                self.parameters, self.gradients, self.first, self.second, strict=True
            ):
                native.adam(
                    parameter,
                    gradient.flat,
                    first,
                    second,
                    learning_rate=learning_rate,
                    betas=BETAS,
                    epsilon=EPSILON,
                    step=step,
                )
            return
        adam(
            self.parameters,
            [gradient.flat for gradient in self.gradients],
            self.first,
            self.second,
            [],
            [self.steps.clone() for _ in self.parameters],
            fused=True,
            capturable=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        self.steps += 1
