"""The two parameter updates that every phase shares."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer


def adam(network: nn.Module, learning_rate: float) -> Adam:
    """Adam over all parameters, in its fused form (one kernel for all tensors, CPU and CUDA)."""
    return Adam(network.parameters(), lr=learning_rate, fused=True)


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """One optimizer step on ``loss``."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, share: float) -> None:
    """target <- (1 - share) * target + share * source, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), share)
