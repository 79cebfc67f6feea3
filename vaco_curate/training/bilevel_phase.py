"""Bi-level phase: weighted cloning below, value alignment of the cloned policy above, for all members."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaco_curate.batches import Rows
from vaco_curate.gradients import (
    LOG_WEIGHT_GRADIENT,
    bounded_gradient,
    divergence_from_prior_gradient,
    policy_objective_gradient,
    tanh_gradient,
    value_alignment_loss_gradient,
)
from vaco_curate.losses import (
    LOG_WEIGHT,
    batch_weights,
    cloning_errors,
    divergence_from_prior,
    effective_sample_size,
    policy_objective,
    standardized_alignment,
    value_alignment_loss,
    weighted_cloning_loss,
)
from vaco_curate.networks import bounded, scorer_inputs
from vaco_curate.passes import new_pass
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.lower_level import CloningUpdate
from vaco_curate.training.optim import Adam
from vaco_curate.training.settings import BilevelSettings


@dataclass
class BilevelState:
    """Everything that a bi-level update changes.

    Attributes:
        policy, scorer: of each of K members.
        averaged_scorer: the one to export: the scorer, or the moving average of its parameters.
        q_mean, q_std: (K,), standardize Q(s, a) for the scorer. They are set once from the whole
            dataset when the critics are frozen, and follow the critics when value updates are merged in.
        value_mean, value_std: likewise of V(s), where the scorer sees it.
    """

    policy: StackedMLP
    scorer: StackedMLP
    averaged_scorer: StackedMLP
    policy_optimizer: Adam
    scorer_optimizer: Adam
    q_mean: Tensor
    q_std: Tensor
    value_mean: Tensor
    value_std: Tensor
    update: int = 0

    def standardized(self, q_value: Tensor) -> Tensor:
        """Q(s, a) as the scorer sees it, (K, rows)."""
        return (q_value - self.q_mean.unsqueeze(-1)) / self.q_std.unsqueeze(-1)

    def standardized_value(self, value: Tensor) -> Tensor:
        """V(s) as the scorer sees it, (K, rows)."""
        return (value - self.value_mean.unsqueeze(-1)) / self.value_std.unsqueeze(-1)


def create_bilevel_state(policy: StackedMLP, scorer: StackedMLP, settings: BilevelSettings) -> BilevelState:
    """Fresh state around fresh networks."""
    return BilevelState(
        policy=policy,
        scorer=scorer,
        averaged_scorer=scorer.clone() if settings.scorer_average else scorer,
        policy_optimizer=Adam([policy], settings.policy_learning_rate),
        scorer_optimizer=Adam([scorer], settings.scorer_learning_rate),
        q_mean=policy.flat.new_zeros(policy.members),
        q_std=policy.flat.new_ones(policy.members),
        value_mean=policy.flat.new_zeros(policy.members),
        value_std=policy.flat.new_ones(policy.members),
    )


class BilevelUpdate:
    """One bi-level update of all members.

    The same numbers as ``reference.bilevel_step``, each computed once: the scorer's forward pass serves
    its weights and its gradient, and the policy's forward and backward pass at phi_{t-1} serve the lower
    step and, without a second pass in forward mode, the alignments (``per_example_products``).
    """

    def __init__(self, state: BilevelState, critic: StackedMLP, settings: BilevelSettings) -> None:
        self.state, self.settings = state, settings
        batch, members = settings.batch_size, state.policy.members
        policy, scorer = state.policy, state.scorer
        self.features = scorer.flat.new_zeros(members, batch, scorer.sizes[0])
        self.pairs = critic.flat.new_zeros(2 * members, batch, critic.sizes[0])
        self.lower = CloningUpdate(policy, state.policy_optimizer, batch)
        # The backward passes of critic, policy and scorer follow each other, in the same memory where
        # their layers are of the same widths.
        self.q = new_pass(critic, batch)
        first = [derivative[:members] for derivative in self.q.derivatives[:-1]]
        if critic.sizes[1:-1] != policy.sizes[1:-1]:
            first = [policy.flat.new_zeros(members, batch, width) for width in policy.sizes[1:-1]]
        self.after = new_pass(
            policy, batch, derivatives=[*first, torch.zeros_like(self.lower.policy.derivatives[-1])]
        )
        self.scores = new_pass(scorer, batch, derivatives=[*first, self.q.derivatives[-1][:members]])
        self.direction = policy.like()

    def __call__(
        self,
        batch: Rows,
        q_input: Tensor,
        log_prior: Tensor,
        noise: Tensor,
        value_input: Tensor | None = None,
        *,
        measure: bool = True,
    ) -> dict[str, Tensor]:
        """Update the state; metrics, if ``measure``, are (K,) each.

        Args:
            batch: (K, batch).
            q_input: Q(s, a) as the scorer sees it, (K, batch).
            log_prior: (K, batch).
            noise: added to the state, (K, batch, d), or to the action, (K, batch, k), of the upper level.
            value_input: V(s) as the scorer sees it, (K, batch), where it is an input.
        """
        settings = self.settings
        parts = scorer_inputs(settings.inputs, batch.observation, batch.action, q_input, value_input)
        torch.cat(parts, dim=-1, out=self.features)
        output = self.scores.forward(self.features)[..., 0]
        score = bounded(output, settings.score_bound)
        log_weight = log_prior + LOG_WEIGHT[settings.activation](score)
        weight = batch_weights(log_weight, normalized=settings.normalize_weights)

        # Lower level, alpha fixed: phi_{t-1} -> phi_t.
        predicted = self.lower(batch.observation, batch.action, weight)

        # Upper level, phi_t fixed: alpha descends J_pi(phi_t) through the step above.
        states_weight = batch_weights(log_prior, normalized=True) if settings.upper_states == "prior" else 1.0
        q_values = self._objective_gradient(batch.observation, noise, states_weight)
        alignment = self.lower.policy.per_example_products(batch.observation, self.direction)
        alignment /= self.lower.share
        if settings.standardize_alignment:
            alignment = standardized_alignment(alignment)
        self._upper_step(score, log_weight, weight, alignment, log_prior)
        if settings.scorer_average:
            self.state.averaged_scorer.flat.lerp_(self.state.scorer.flat, 1.0 - settings.scorer_average)
        if not measure:
            return {}
        return {
            "cloning_loss": weighted_cloning_loss(weight, cloning_errors(predicted, batch.action)),
            "policy_value": -policy_objective(q_values, states_weight),
            "alignment_loss": value_alignment_loss(weight, alignment),
            "divergence": divergence_from_prior(log_weight, log_prior),
            "data_divergence": divergence_from_prior(log_weight - log_prior, torch.zeros_like(log_prior)),
            "effective_sample_size": effective_sample_size(log_weight),
            "mean_score": score.mean(dim=-1),
            "score_spread": score.std(dim=-1),
        }

    def _objective_gradient(self, observation: Tensor, noise: Tensor, states_weight: Tensor | float) -> Tensor:
        """Leave the gradient of J_pi at phi_t in ``direction``; returns the critics' values, (2, K, batch)."""
        members, size, d = observation.shape
        seen = observation + noise if self.settings.noise_on == "state" else observation
        own_action = torch.tanh(self.after.forward(seen))
        action = own_action
        if self.settings.noise_on == "action":
            action = own_action + noise
        pairs = self.pairs.view(2, members, size, -1)
        pairs[..., :d] = observation
        pairs[..., d:] = action.clamp(-1.0, 1.0)
        q_values = self.q.forward(self.pairs).view(2, members, size)

        self.q.derivatives[-1].view(2, members, size).copy_(policy_objective_gradient(q_values, states_weight))
        self.q.backpropagate()
        by_action = self.q.input_gradient(slice(d, None))
        by_action = by_action.view(2, members, size, -1).sum(dim=0)
        if self.settings.noise_on == "action":
            by_action *= action.abs() <= 1.0  # beyond, the clamp holds the action
        torch.mul(by_action, tanh_gradient(own_action), out=self.after.derivatives[-1])
        self.after.backward(seen, self.direction)
        return q_values

    def _upper_step(
        self, score: Tensor, log_weight: Tensor, weight: Tensor, alignment: Tensor, log_prior: Tensor
    ) -> None:
        """Alpha descends J_pi(phi_t) through the lower step, and the divergences."""
        settings = self.settings
        slope = value_alignment_loss_gradient(weight, alignment, normalized=settings.normalize_weights)
        if settings.divergence_coefficient:
            divergence = divergence_from_prior_gradient(log_weight, log_prior)
            slope += settings.divergence_coefficient * divergence
        if settings.data_divergence_coefficient:
            own = log_weight - log_prior
            divergence = divergence_from_prior_gradient(own, torch.zeros_like(own))
            slope += settings.data_divergence_coefficient * divergence
        slope *= LOG_WEIGHT_GRADIENT[settings.activation](score)
        if settings.score_bound is not None:
            slope *= bounded_gradient(score, settings.score_bound)
        self.scores.derivatives[-1][..., 0] = slope
        self.scores.backward(self.features, self.state.scorer_optimizer.gradients[0])
        self.state.scorer_optimizer.step()


def noise_at(settings: BilevelSettings, update: int) -> float:
    """sigma of the given update: linear from ``noise[0]`` at the first to ``noise[1]`` at the last."""
    first, last = settings.noise
    share = update / max(settings.updates - 1, 1)
    return first + (last - first) * share


def standardize_by(state: BilevelState, q_value: Tensor | None, value: Tensor) -> None:
    """Set the means and deviations from Q(s, a) and V(s) of the whole dataset, (K, n) each.

    Without Q the scorer sees it in scaled reward units.
    """
    correction = min(1, value.shape[-1] - 1)
    for values, mean, std in (
        (q_value, state.q_mean, state.q_std),
        (value, state.value_mean, state.value_std),
    ):
        if values is None:
            continue
        mean.copy_(values.mean(dim=-1))
        std.copy_(values.std(dim=-1, correction=correction).clamp_min(1e-6))


def follow_critic(state: BilevelState, q_value: Tensor, share: float = 0.01) -> None:
    """Move ``q_mean`` and ``q_std`` towards a batch's, (K, batch), for critics that still learn."""
    state.q_mean.lerp_(q_value.mean(dim=-1), share)
    state.q_std.lerp_(q_value.std(dim=-1), share)
