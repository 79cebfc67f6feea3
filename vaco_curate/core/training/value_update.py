"""An update of the value phase: IQL's TD learning of V and the twin critics, for all members at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.passes import forward_only, new_pass
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.workspace import Workspace
from vaco_curate.core.losses import bellman_target, expectile_loss, expectile_loss_gradient
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.settings import ValueSettings


@dataclass
class ValueState:
    """Everything that a value update changes.

    Attributes:
        value: V of each of K members.
        critic, target_critic: 2 K networks: the first critic of every member, then the second.
        optimizer: of value and critic.
    """

    value: StackedMLP
    critic: StackedMLP
    target_critic: StackedMLP
    optimizer: Adam
    update: int = 0


def create_value_state(value: StackedMLP, critic: StackedMLP, settings: ValueSettings) -> ValueState:
    """Fresh state around fresh networks; the targets begin as copies."""
    return ValueState(value, critic, critic.clone(), Adam([value, critic], settings.learning_rate))


class ValueUpdate:
    """One IQL update of all members: V towards an expectile of Q, then Q towards r + discount * V(s').

    The same numbers as ``reference.value_step``: both critics share every product, and buffers are made
    once.

    Attributes:
        advantage: (K, batch), min Q(s, a) of the target critics less V(s), before the last update.
    """

    def __init__(self, state: ValueState, settings: ValueSettings) -> None:
        self.state, self.settings = state, settings
        batch = settings.batch_size
        self.target_critic = forward_only(state.target_critic, batch)
        self.next_value = forward_only(state.value, batch)
        shared = Workspace([state.value, state.critic], batch)  # V is done before the critics begin
        self.value, self.critic = (
            new_pass(stack, batch, layers=shared.layers(stack), derivatives=shared.derivatives(stack))
            for stack in (state.value, state.critic)
        )

    def __call__(self, batch: Rows, *, measure: bool = True) -> dict[str, Tensor]:
        """Update the state; metrics, if ``measure``, are (K,) each."""
        state, settings = self.state, self.settings
        value_gradient, critic_gradient = state.optimizer.gradients

        q_value = torch.minimum(*self.target_critic.forward(batch.pair)[..., 0].chunk(2))
        next_value = self.next_value.forward(batch.next_observation)[..., 0]
        target = bellman_target(batch.reward, settings.discount, batch.terminated, next_value)

        value = self.value.forward(batch.observation)[..., 0]
        mean_value = value.mean(dim=-1) if measure else value
        error = self.advantage = q_value - value
        self.value.derivatives[-1][..., 0] = expectile_loss_gradient(error, settings.expectile)
        self.value.backward(value_gradient)

        predictions = self.critic.forward(batch.pair)[..., 0].view(2, *target.shape)
        q_error = predictions - target
        derivative = self.critic.derivatives[-1].view_as(q_error)
        torch.mul(q_error, 2.0 / settings.batch_size, out=derivative)
        self.critic.backward(critic_gradient)

        state.optimizer.step()
        state.target_critic.flat.lerp_(state.critic.flat, settings.polyak)
        if not measure:
            return {}
        return value_metrics(error, q_error, q_value, mean_value, settings.expectile)


def value_metrics(
    error: Tensor, q_error: Tensor, q_value: Tensor, mean_value: Tensor, expectile: float
) -> dict[str, Tensor]:
    """What is told of a value update, (K,) each.

    Args:
        error: min Q(s, a) of the target critics less V(s), (K, batch).
        q_error: Q(s, a) of each critic less its target, (2, K, batch).
        q_value: min Q(s, a) of the target critics, (K, batch).
        mean_value: of V(s), (K,).
    """
    return {
        "value_loss": expectile_loss(error, expectile),
        "critic_loss": q_error.square().sum(dim=0).mean(dim=-1),
        "q_value": q_value.mean(dim=-1),
        "value": mean_value,
    }
