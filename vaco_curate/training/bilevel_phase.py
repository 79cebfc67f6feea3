"""Bi-level phase: weighted cloning below, value alignment of the cloned policy above."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from vaco_curate.batches import ScoringBatch
from vaco_curate.losses import (
    LOG_WEIGHT,
    alignments,
    batch_weights,
    cloning_errors,
    divergence_from_prior,
    effective_sample_size,
    policy_objective,
    standardized_alignment,
    value_alignment_loss,
    weighted_cloning_loss,
)
from vaco_curate.networks import Policy, ScorerNetwork, TwinCritic
from vaco_curate.training.optim import adam, descend
from vaco_curate.training.settings import BilevelSettings


@dataclass
class BilevelState:
    """Everything that a bi-level update changes.

    ``q_mean`` and ``q_std`` standardize Q(s, a) for the scorer. They are set once from the whole
    dataset when the critics are frozen, and follow the critics when value updates are merged in.
    """

    policy: Policy
    scorer: ScorerNetwork
    policy_optimizer: Optimizer
    scorer_optimizer: Optimizer
    q_mean: Tensor
    q_std: Tensor
    generator: torch.Generator
    update: int = 0


def create_bilevel_state(
    observation_size: int, action_size: int, settings: BilevelSettings, generator: torch.Generator
) -> BilevelState:
    """Fresh networks on the generator's device; their weights come from torch's global generator."""
    policy = Policy(observation_size, action_size, settings.hidden).to(generator.device)
    scorer = ScorerNetwork(observation_size, action_size, settings.hidden, settings.score_bound).to(
        generator.device
    )
    return BilevelState(
        policy=policy,
        scorer=scorer,
        policy_optimizer=adam(policy, settings.policy_learning_rate),
        scorer_optimizer=adam(scorer, settings.scorer_learning_rate),
        q_mean=torch.zeros((), device=generator.device),
        q_std=torch.ones((), device=generator.device),
        generator=generator,
    )


def bilevel_step(
    state: BilevelState, critic: TwinCritic, batch: ScoringBatch, settings: BilevelSettings, noise: float
) -> dict[str, Tensor]:
    """One bi-level update on one minibatch; ``batch.q_value`` is raw, ``noise`` is sigma."""
    q_input = (batch.q_value - state.q_mean) / state.q_std
    score = state.scorer(batch.observation, batch.action, q_input)
    log_weight = LOG_WEIGHT[settings.activation](score)
    weight = batch_weights(log_weight, normalized=settings.normalize_weights)

    # Lower level, alpha fixed: phi_{t-1} -> phi_t.
    before = {name: value.detach().clone() for name, value in state.policy.named_parameters()}
    errors = cloning_errors(state.policy(batch.observation), batch.action)
    cloning_loss = weighted_cloning_loss(weight.detach(), errors)
    descend(state.policy_optimizer, cloning_loss)

    # Upper level, phi_t fixed: alpha descends J_pi(phi_t) through the step above.
    objective, direction = policy_gradient(state, critic, batch.observation, settings, noise)
    alignment = alignments(state.policy, before, direction, batch.observation, batch.action)
    if settings.standardize_alignment:
        alignment = standardized_alignment(alignment)
    divergence = divergence_from_prior(log_weight, batch.log_prior)
    alignment_loss = value_alignment_loss(weight, alignment)
    descend(state.scorer_optimizer, alignment_loss + settings.divergence_coefficient * divergence)
    return {
        "cloning_loss": cloning_loss.detach(),
        "policy_value": -objective,
        "alignment_loss": alignment_loss.detach(),
        "divergence": divergence.detach(),
        "effective_sample_size": effective_sample_size(log_weight.detach()),
        "mean_score": score.detach().mean(),
        "score_spread": score.detach().std(),
    }


def policy_gradient(
    state: BilevelState, critic: TwinCritic, observation: Tensor, settings: BilevelSettings, noise: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """J_pi(phi_t) and its gradient by parameter name, with noise on the state or on the action."""
    if settings.noise_on == "state":
        action = state.policy(observation + noise * gaussian_like(observation, state.generator))
    else:
        action = state.policy(observation)
        action = (action + noise * gaussian_like(action, state.generator)).clamp(-1.0, 1.0)
    objective = policy_objective(critic, observation, action)
    parameters = dict(state.policy.named_parameters())
    gradients = torch.autograd.grad(objective, list(parameters.values()))
    return objective.detach(), dict(zip(parameters, gradients, strict=True))


def gaussian_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the tensor's shape, from an explicit generator."""
    return torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype)


def noise_at(settings: BilevelSettings, update: int) -> float:
    """sigma of the given update: linear from ``noise[0]`` at the first to ``noise[1]`` at the last."""
    first, last = settings.noise
    share = update / max(settings.updates - 1, 1)
    return first + (last - first) * share


def follow_critic(state: BilevelState, q_value: Tensor, share: float = 0.01) -> None:
    """Move ``q_mean`` and ``q_std`` towards a batch's, for critics that still learn."""
    state.q_mean.lerp_(q_value.mean(), share)
    state.q_std.lerp_(q_value.std(), share)
