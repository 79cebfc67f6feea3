"""Every equation of VACO and of the IQL value phase, as leaf functions on tensors.

Beside each loss stands its gradient by what the networks put out, in closed form. The trainer descends by
these, and a test compares each with autograd of its loss.

Sources:
    IQL: Kostrikov, Nair, Levine 2021, arXiv:2110.06169.
    VACO: Jiang, Gao, Zhang, Dou, Deng 2025, "Value-aligned Behavior Cloning via Bi-level
    Optimization", ICLR.
    AWR: Peng, Kumar, Zhang, Levine 2019, arXiv:1910.00177.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

AWR_INVERSE_TEMPERATURE = 3.0
AWR_MAXIMUM = 100.0


# --- value phase -----------------------------------------------------------------------------


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    """Asymmetric squared error; its minimizer is an expectile of the target.

    Args:
        error: target minus prediction, (..., batch), in reward units.
        expectile: in (0, 1); above 0.5, predicting too low costs more.

    Returns:
        Mean over the batch, (...), in squared reward units.

    Source: IQL, section 4.1, L_2^tau(u) = |tau - 1(u < 0)| u^2.
    """
    weight = torch.where(error > 0, expectile, 1.0 - expectile)
    return (weight * error.square()).mean(dim=-1)


def expectile_loss_gradient(error: Tensor, expectile: float) -> Tensor:
    """Of ``expectile_loss`` by the prediction, (..., batch); ``error`` is target minus prediction."""
    weighted = leaky_relu(error, (1.0 - expectile) / expectile)  # the error over the expectile where positive
    return weighted.mul_(-2.0 * expectile / error.shape[-1])


def bellman_target(reward: Tensor, discount: float, terminated: Tensor, next_value: Tensor) -> Tensor:
    """r + discount * V(s'), without the bootstrap where the episode truly ended.

    A mask rather than a product: a terminated row has no meaningful next observation, and
    zero times infinity would be NaN.

    Args:
        reward, terminated (bool), next_value: (..., batch).

    Returns:
        (..., batch), in reward units.

    Source: IQL, Eq. 6.
    """
    return torch.add(reward, next_value.masked_fill(terminated, 0.0), alpha=discount)


# --- weights ---------------------------------------------------------------------------------


def effective_sample_size(log_weight: Tensor) -> Tensor:
    """(sum w)^2 / (n sum w^2), the share of rows that carry the weight.

    Args:
        log_weight: (..., n); any common factor of the weights cancels.

    Returns:
        (...), in [1/n, 1]: 1 when all weights are equal, 1/n when one row holds everything.

    Source: Kish 1965; as a share of n.
    """
    log_sum = torch.logsumexp(log_weight, dim=-1)
    log_sum_of_squares = torch.logsumexp(2.0 * log_weight, dim=-1)
    return torch.exp(2.0 * log_sum - log_sum_of_squares) / log_weight.shape[-1]


def advantage_weight(
    advantage: Tensor,
    inverse_temperature: float = AWR_INVERSE_TEMPERATURE,
    maximum: float = AWR_MAXIMUM,
) -> Tensor:
    """AWR's weight exp(inverse_temperature * (Q - V)), clipped at ``maximum``.

    Args:
        advantage: (batch,), in scaled reward units.

    Source: AWR, Eq. 3; the clip and the defaults are those of IQL's locomotion settings.
    """
    return torch.exp((inverse_temperature * advantage).clamp(max=math.log(maximum)))


# --- lower level -----------------------------------------------------------------------------


def cloning_errors(predicted_action: Tensor, action: Tensor) -> Tensor:
    """l_i = ||pi_phi(s_i) - a_i||^2.

    Args:
        predicted_action, action: (..., batch, k), in [-1, 1].

    Returns:
        (..., batch).

    Source: VACO, Eq. 7.
    """
    errors: Tensor = (predicted_action - action).square().sum(dim=-1)
    return errors


def cloning_errors_gradient(predicted_action: Tensor, action: Tensor) -> Tensor:
    """Of each row's ``cloning_errors`` by its predicted action, (..., batch, k)."""
    return (predicted_action - action).mul_(2.0)


def weighted_cloning_loss(weight: Tensor, errors: Tensor) -> Tensor:
    """J_BC^w = E[w_alpha(s, a, Q(s, a)) ||pi_phi(s) - a||^2], the lower level.

    Args:
        weight: (..., batch); the caller detaches it, for the lower level holds alpha fixed.
        errors: (..., batch) from ``cloning_errors``.

    Source: VACO, Eq. 7.
    """
    return (weight * errors).mean(dim=-1)


def tanh_gradient(value: Tensor) -> Tensor:
    """Of tanh by its argument, from its value."""
    return 1.0 - value.square()


# --- upper level -----------------------------------------------------------------------------


def policy_objective(q_values: Tensor) -> Tensor:
    """J_pi = E[-Q(s, a)] with the smaller of the twin critics.

    Args:
        q_values: both critics at the true states of the batch and the policy's actions for the
            (noisy) states, (2, ..., batch), in scaled reward units.

    Returns:
        (...), in scaled reward units; lower is better.

    Source: VACO, Eq. 9.
    """
    return -q_values.amin(dim=0).mean(dim=-1)


def policy_objective_gradient(q_values: Tensor) -> Tensor:
    """Of ``policy_objective`` by both critics' values, (2, ..., batch).

    Only the smaller critic of a row has one; between equal critics, the first.
    """
    first = (q_values[0] <= q_values[1]).to(q_values.dtype).div_(-q_values.shape[-1])
    return torch.stack([first, -1.0 / q_values.shape[-1] - first])


def value_alignment_loss(weight: Tensor, alignment: Tensor) -> Tensor:
    """-E[w_alpha c]; its gradient in alpha is the upper-level gradient over eta_1.

    By the chain rule through the lower step phi_t = phi_{t-1} - eta_1 grad J_BC^w(phi_{t-1}),

        d J_pi / d alpha = -(eta_1 / batch) sum_i c_i d w_i / d alpha,

    where the alignment c_i = <grad l_i(phi_{t-1}), grad J_pi(phi_t)> says how much cloning row i raises the
    policy's value. This is exact for a plain gradient step. With Adam in the lower level it is an
    approximation: Adam's preconditioner is taken to be the identity.

    Args:
        weight: (..., batch), with its graph to alpha.
        alignment: c_i, (..., batch), constant.

    Source: VACO, Eq. 9 and "one-step differentiation".
    """
    return -(weight * alignment).mean(dim=-1)


def value_alignment_loss_gradient(weight: Tensor, alignment: Tensor) -> Tensor:
    """Of ``value_alignment_loss`` by the scores whose sigmoids are the weights, (..., batch)."""
    return (weight * (1.0 - weight) * alignment).div_(-weight.shape[-1])
