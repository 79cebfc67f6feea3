"""VACO's two updates in their plain form: modules, autograd, torch's Adam.

This is the definition of what the trainer computes. ``core/training`` gives the same numbers without its
repetitions: ``training/test_steps.py`` compares the two in float64 to rounding, and ``make bench`` measures how
much faster it is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.optim import Adam, Optimizer

from vaco_curate.core.batches import Rows
from vaco_curate.core.losses import (
    bellman_target,
    cloning_errors,
    expectile_loss,
    policy_objective,
    value_alignment_loss,
    weighted_cloning_loss,
)
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.training.settings import BilevelSettings, ValueSettings


@dataclass
class ReferenceValueState:
    """Everything that a value update changes."""

    value: ValueNetwork
    critic: TwinCritic
    target_critic: TwinCritic
    value_optimizer: Optimizer
    critic_optimizer: Optimizer


@dataclass
class ReferenceBilevelState:
    """Everything that a bi-level update changes."""

    policy: Policy
    scorer: ScorerNetwork
    policy_optimizer: Optimizer
    scorer_optimizer: Optimizer


def reference_value_state(
    value: ValueNetwork, critic: TwinCritic, settings: ValueSettings
) -> ReferenceValueState:
    """Fresh state around fresh networks."""
    return ReferenceValueState(
        value=value,
        critic=critic,
        target_critic=copy.deepcopy(critic).requires_grad_(False),
        value_optimizer=adam(value, settings.learning_rate),
        critic_optimizer=adam(critic, settings.learning_rate),
    )


def reference_bilevel_state(
    policy: Policy, scorer: ScorerNetwork, settings: BilevelSettings
) -> ReferenceBilevelState:
    """Fresh state around fresh networks."""
    return ReferenceBilevelState(
        policy=policy,
        scorer=scorer,
        policy_optimizer=adam(policy, settings.policy_learning_rate),
        scorer_optimizer=adam(scorer, settings.scorer_learning_rate),
    )


def value_step(state: ReferenceValueState, batch: Rows, settings: ValueSettings) -> dict[str, Tensor]:
    """One IQL update: V towards an expectile of Q, then Q towards r + discount * V(s')."""
    with torch.no_grad():
        next_value = state.value(batch.next_observation)
        target = bellman_target(batch.reward, settings.discount, batch.terminated, next_value)
        q_value = state.target_critic(batch.observation, batch.action).amin(dim=0)

    value = state.value(batch.observation)
    value_loss = expectile_loss(q_value - value, settings.expectile)
    descend(state.value_optimizer, value_loss)

    q_error = state.critic(batch.observation, batch.action) - target
    critic_loss = q_error.square().sum(dim=0).mean()
    descend(state.critic_optimizer, critic_loss)

    polyak_update(state.target_critic, state.critic, settings.polyak)
    return {
        "value_loss": value_loss.detach(),
        "critic_loss": critic_loss.detach(),
        "q_value": q_value.mean(),
        "value": value.detach().mean(),
    }


def bilevel_step(
    state: ReferenceBilevelState, critic: TwinCritic, batch: Rows, q_input: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """One bi-level update on one minibatch.

    Args:
        critic: frozen.
        q_input: Q(s, a) as the scorer sees it, (batch,).
        noise: added to the states of the upper level, (batch, d).
    """
    weight = torch.sigmoid(state.scorer(batch.observation, batch.action, q_input))

    # Lower level, alpha fixed: phi_{t-1} -> phi_t.
    before = {name: value.detach().clone() for name, value in state.policy.named_parameters()}
    errors = cloning_errors(state.policy(batch.observation), batch.action)
    cloning_loss = weighted_cloning_loss(weight.detach(), errors)
    descend(state.policy_optimizer, cloning_loss)

    # Upper level, phi_t fixed: alpha descends J_pi(phi_t) through the step above.
    objective, direction = policy_gradient(state.policy, critic, batch.observation, noise)
    alignment = alignments(state.policy, before, direction, batch.observation, batch.action)
    alignment_loss = value_alignment_loss(weight, alignment)
    descend(state.scorer_optimizer, alignment_loss)
    return {
        "cloning_loss": cloning_loss.detach(),
        "policy_value": -objective,
        "alignment_loss": alignment_loss.detach(),
    }


def alignments(
    policy: Policy,
    parameters: Mapping[str, Tensor],
    direction: Mapping[str, Tensor],
    observation: Tensor,
    action: Tensor,
) -> Tensor:
    """c_i = <grad l_i(phi_{t-1}), grad J_pi(phi_t)> of every row, as one Jacobian-vector product.

    One forward-mode pass and no second-order graph.

    Args:
        policy: the module whose parameters are replaced by ``parameters``.
        parameters: phi_{t-1}, before the lower step, by name.
        direction: grad J_pi at phi_t, by the same names.
        observation, action: the minibatch of the lower step, (batch, d) and (batch, k).

    Returns:
        (batch,), detached; positive where imitating the row moves the policy up the critic's slope.
    """

    def errors(values: dict[str, Tensor]) -> Tensor:
        return cloning_errors(functional_call(policy, values, (observation,)), action)

    tangent: Tensor = jvp(errors, (dict(parameters),), (dict(direction),))[1]
    return tangent.detach()


def policy_gradient(
    policy: Policy, critic: TwinCritic, observation: Tensor, noise: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """J_pi(phi_t) and its gradient by parameter name."""
    objective = policy_objective(critic(observation, policy(observation + noise)))
    parameters = dict(policy.named_parameters())
    gradients = torch.autograd.grad(objective, list(parameters.values()))
    return objective.detach(), dict(zip(parameters, gradients, strict=True))


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
