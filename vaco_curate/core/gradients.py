"""The gradients of ``losses.py`` by what the networks put out, in closed form.

The trainer uses these in place of autograd. Each is compared with autograd of its loss in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu


def expectile_loss_gradient(error: Tensor, expectile: float) -> Tensor:
    """Of ``expectile_loss`` by the prediction, (..., batch); ``error`` is target minus prediction."""
    weighted = leaky_relu(error, (1.0 - expectile) / expectile)  # the error over the expectile where positive
    return weighted.mul_(-2.0 * expectile / error.shape[-1])


def cloning_errors_gradient(predicted_action: Tensor, action: Tensor) -> Tensor:
    """Of each row's ``cloning_errors`` by its predicted action, (..., batch, k)."""
    return (predicted_action - action).mul_(2.0)


def policy_objective_gradient(q_values: Tensor) -> Tensor:
    """Of ``policy_objective`` by both critics' values, (2, ..., batch).

    Only the smaller critic of a row has one; between equal critics, the first.
    """
    first = (q_values[0] <= q_values[1]).to(q_values.dtype).div_(-q_values.shape[-1])
    return torch.stack([first, -1.0 / q_values.shape[-1] - first])


def tanh_gradient(value: Tensor) -> Tensor:
    """Of tanh by its argument, from its value."""
    return 1.0 - value.square()


def value_alignment_loss_gradient(weight: Tensor, alignment: Tensor) -> Tensor:
    """Of ``value_alignment_loss`` by the scores whose sigmoids are the weights, (..., batch)."""
    return (weight * (1.0 - weight) * alignment).div_(-weight.shape[-1])
