"""Every equation of VACO and of the IQL value phase, as leaf functions on tensors.

Sources:
    IQL: Kostrikov, Nair, Levine 2021, arXiv:2110.06169.
    VACO: Jiang, Gao, Zhang, Dou, Deng 2025, "Value-aligned Behavior Cloning via Bi-level
    Optimization", ICLR.
    AWR: Peng, Kumar, Zhang, Levine 2019, arXiv:1910.00177.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from vaco_curate.core.networks import Policy

Parameters = Mapping[str, Tensor]

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


def weighted_cloning_loss(weight: Tensor, errors: Tensor) -> Tensor:
    """J_BC^w = E[w_alpha(s, a, Q(s, a)) ||pi_phi(s) - a||^2], the lower level.

    Args:
        weight: (..., batch); the caller detaches it, for the lower level holds alpha fixed.
        errors: (..., batch) from ``cloning_errors``.

    Source: VACO, Eq. 7.
    """
    return (weight * errors).mean(dim=-1)


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


def alignments(
    policy: Policy,
    parameters: Parameters,
    direction: Parameters,
    observation: Tensor,
    action: Tensor,
) -> Tensor:
    """c_i = <grad l_i(phi_{t-1}), grad J_pi(phi_t)>, how much cloning row i raises the policy's value.

    By the chain rule through phi_t = phi_{t-1} - eta_1 grad J_BC^w(phi_{t-1}),

        d J_pi / d alpha = -(eta_1 / batch) sum_i c_i d w_i / d alpha,

    and all c_i are one Jacobian-vector product of the vector l(phi_{t-1}): one forward-mode pass
    and no second-order graph. This is exact for a plain gradient step. With Adam in the lower level
    it is an approximation: Adam's preconditioner is taken to be the identity.

    Args:
        policy: the module whose parameters are replaced by ``parameters``.
        parameters: phi_{t-1}, before the lower step, by name.
        direction: grad J_pi at phi_t, by the same names.
        observation, action: the minibatch of the lower step, (batch, d) and (batch, k).

    Returns:
        (batch,), detached; positive where imitating the row moves the policy up the critic's slope.

    Source: VACO, Eq. 9 and "one-step differentiation"; the forward-mode form is ours.
    """

    def errors(values: dict[str, Tensor]) -> Tensor:
        return cloning_errors(functional_call(policy, values, (observation,)), action)

    tangent: Tensor = jvp(errors, (dict(parameters),), (dict(direction),))[1]
    return tangent.detach()


def value_alignment_loss(weight: Tensor, alignment: Tensor) -> Tensor:
    """-E[w_alpha c]; its gradient in alpha is the upper-level gradient over eta_1.

    Args:
        weight: (..., batch), with its graph to alpha.
        alignment: c_i, (..., batch), constant.

    Source: VACO, Eq. 9 through the lower step (see ``alignments``).
    """
    return -(weight * alignment).mean(dim=-1)
