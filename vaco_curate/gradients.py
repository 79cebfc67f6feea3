"""The gradients of ``losses.py`` by what the networks put out, in closed form.

The trainer uses these in place of autograd. Each is compared with autograd of its loss in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def expectile_loss_gradient(error: Tensor, expectile: float) -> Tensor:
    """Of ``expectile_loss`` by the prediction, (..., batch); ``error`` is target minus prediction."""
    weight = torch.where(error > 0, expectile, 1.0 - expectile)
    return weight.mul_(error).mul_(-2.0 / error.shape[-1])


def cloning_errors_gradient(predicted_action: Tensor, action: Tensor) -> Tensor:
    """Of each row's ``cloning_errors`` by its predicted action, (..., batch, k)."""
    return (predicted_action - action).mul_(2.0)


def policy_objective_gradient(q_values: Tensor, row_weight: Tensor | float = 1.0) -> Tensor:
    """Of ``policy_objective`` by both critics' values, (2, ..., batch).

    Only the smaller critic of a row has one; between equal critics, the first.
    """
    first = (q_values[0] <= q_values[1]).to(q_values.dtype).div_(-q_values.shape[-1])
    return row_weight * torch.stack([first, -1.0 / q_values.shape[-1] - first])


def tanh_gradient(value: Tensor) -> Tensor:
    """Of tanh by its argument, from its value."""
    return 1.0 - value.square()


def bounded_gradient(score: Tensor, bound: float) -> Tensor:
    """Of ``networks.bounded`` by the linear output, from the score."""
    return 1.0 - (score / bound).square()


def value_alignment_loss_gradient(weight: Tensor, alignment: Tensor, *, normalized: bool) -> Tensor:
    """Of ``value_alignment_loss`` by log w, (..., batch).

    Args:
        weight: from ``batch_weights``.
        normalized: whether the weights were divided by their batch mean; then they compete, and
            only what an alignment has above the weighted mean counts.
    """
    product = weight * alignment
    if normalized:
        product -= weight * product.mean(dim=-1, keepdim=True)
    return product.div_(-weight.shape[-1])


def divergence_from_prior_gradient(log_weight: Tensor, log_prior: Tensor) -> Tensor:
    """Of ``divergence_from_prior`` by log w, (..., batch)."""
    log_w = torch.log_softmax(log_weight, dim=-1)
    ratio = log_w - torch.log_softmax(log_prior, dim=-1)
    w = log_w.exp_()
    return w * (ratio - (w * ratio).sum(dim=-1, keepdim=True))


def _gradient_of_exponential(score: Tensor) -> Tensor:
    return torch.ones_like(score)


def _gradient_of_sigmoid(score: Tensor) -> Tensor:
    return torch.sigmoid(-score)


LOG_WEIGHT_GRADIENT: Mapping[str, Callable[[Tensor], Tensor]] = {
    "exp": _gradient_of_exponential,
    "sigmoid": _gradient_of_sigmoid,
}
"""Of ``LOG_WEIGHT`` by the score, by output activation."""
