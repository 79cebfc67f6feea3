"""An update of the bi-level phase: weighted cloning below, value alignment of the cloned policy above."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.passes import new_pass
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.workspace import Workspace
from vaco_curate.core.losses import (
    cloning_errors,
    effective_sample_size,
    policy_objective,
    policy_objective_gradient,
    tanh_gradient,
    value_alignment_loss,
    value_alignment_loss_gradient,
    weighted_cloning_loss,
)
from vaco_curate.core.training.lower_level import CloningUpdate
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.settings import BilevelSettings


@dataclass
class BilevelState:
    """Everything that a bi-level update changes.

    Attributes:
        policy, scorer: of each of K members.
        q_mean, q_std: (K,), standardize Q(s, a) for the scorer: its mean and deviation over the whole dataset.
    """

    policy: StackedMLP
    scorer: StackedMLP
    policy_optimizer: Adam
    scorer_optimizer: Adam
    q_mean: Tensor
    q_std: Tensor
    update: int = 0

    def standardize_by(self, q_value: Tensor) -> None:
        """Set mean and deviation from Q(s, a) of the whole dataset, (K, n)."""
        correction = min(1, q_value.shape[-1] - 1)
        self.q_mean.copy_(q_value.mean(dim=-1))
        self.q_std.copy_(q_value.std(dim=-1, correction=correction).clamp_min(1e-6))

    def standardized(self, q_value: Tensor) -> Tensor:
        """Q(s, a) as the scorer sees it, (K, rows)."""
        return (q_value - self.q_mean.unsqueeze(-1)) / self.q_std.unsqueeze(-1)


def create_bilevel_state(policy: StackedMLP, scorer: StackedMLP, settings: BilevelSettings) -> BilevelState:
    """Fresh state around fresh networks."""
    return BilevelState(
        policy=policy,
        scorer=scorer,
        policy_optimizer=Adam([policy], settings.policy_learning_rate),
        scorer_optimizer=Adam([scorer], settings.scorer_learning_rate),
        q_mean=policy.flat.new_zeros(policy.members),
        q_std=policy.flat.new_ones(policy.members),
    )


class BilevelUpdate:
    """One bi-level update of all members.

    The same numbers as ``reference.bilevel_step``, each computed once: the scorer's forward pass serves
    its weights and its gradient, and the policy's forward and backward pass at phi_{t-1} serve the lower
    step and, without a second pass in forward mode, the alignments (``per_example_products``).
    """

    def __init__(self, state: BilevelState, critic: StackedMLP, batch_size: int) -> None:
        self.state = state
        batch, policy, scorer = batch_size, state.policy, state.scorer
        self.lower = CloningUpdate(policy, state.policy_optimizer, batch)
        shared = Workspace([critic, policy, scorer], batch)  # their backward passes follow each other
        self.q, self.after, self.scores = (
            new_pass(stack, batch, derivatives=shared.derivatives(stack)) for stack in (critic, policy, scorer)
        )
        self.direction = policy.like()

    def __call__(
        self, batch: Rows, features: Tensor, noisy: Tensor, pair: Tensor, *, measure: bool = True
    ) -> dict[str, Tensor]:
        """Update the state; metrics, if ``measure``, are (K,) each.

        Args:
            batch: (K, batch).
            features: what the scorer sees: observation, action and Q(s, a), (K, batch, d + k + 1).
            noisy: the states of the upper level with their noise, (K, batch, d).
            pair: observation and action, (K, batch, d + k); the policy's action at the noisy state takes the
                action's place.
        """
        score = self.scores.forward(features)[..., 0]
        weight = torch.sigmoid(score)

        # Lower level, alpha fixed: phi_{t-1} -> phi_t.
        predicted = self.lower(batch.observation, batch.action, weight)

        # Upper level, phi_t fixed: alpha descends J_pi(phi_t) through the step above.
        q_values = self._objective_gradient(noisy, pair)
        alignment = self.lower.policy.per_example_products(self.direction)
        alignment /= self.lower.share
        self.scores.derivatives[-1][..., 0] = value_alignment_loss_gradient(weight, alignment)
        self.scores.backward(self.state.scorer_optimizer.gradients[0])
        self.state.scorer_optimizer.step()
        if not measure:
            return {}
        return bilevel_metrics(score, predicted, batch.action, q_values, alignment)

    def _objective_gradient(self, noisy: Tensor, pair: Tensor) -> Tensor:
        """Leave the gradient of J_pi at phi_t in ``direction``; returns the critics' values, (2, K, batch)."""
        size = noisy.shape[-1]
        action = torch.tanh(self.after.forward(noisy))
        pair[..., size:] = action
        q_values = self.q.forward(pair).view(2, *noisy.shape[:2])

        self.q.derivatives[-1].view_as(q_values).copy_(policy_objective_gradient(q_values))
        self.q.backpropagate()
        by_action = torch.add(*self.q.input_gradient(slice(size, None)).chunk(2))
        torch.mul(by_action, tanh_gradient(action), out=self.after.derivatives[-1])
        self.after.backward(self.direction)
        return q_values


def bilevel_metrics(
    score: Tensor, predicted: Tensor, action: Tensor, q_values: Tensor, alignment: Tensor
) -> dict[str, Tensor]:
    """What is told of a bi-level update, (K,) each.

    Args:
        score: of the scorer, (K, batch).
        predicted: the policy's actions before its step, (K, batch, k).
        action: of the batch, (K, batch, k).
        q_values: of both critics at the noisy policy's actions, (2, K, batch).
        alignment: (K, batch).
    """
    weight = torch.sigmoid(score)
    return {
        "cloning_loss": weighted_cloning_loss(weight, cloning_errors(predicted, action)),
        "policy_value": -policy_objective(q_values),
        "alignment_loss": value_alignment_loss(weight, alignment),
        "effective_sample_size": effective_sample_size(logsigmoid(score)),
        "mean_score": score.mean(dim=-1),
        "score_spread": score.std(dim=-1, correction=0),
    }


def noise_at(settings: BilevelSettings, update: int) -> float:
    """sigma of the given update: linear from ``noise[0]`` at the first to ``noise[1]`` at the last."""
    first, last = settings.noise
    share = update / max(settings.updates - 1, 1)
    return first + (last - first) * share
