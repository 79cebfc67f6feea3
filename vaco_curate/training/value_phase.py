"""Value phase: IQL's TD learning of V and the twin critics, for all members at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vaco_curate.batches import Rows
from vaco_curate.gradients import expectile_loss_gradient
from vaco_curate.losses import bellman_target, expectile_loss
from vaco_curate.passes import backward_rows, forward_only, new_pass
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.optim import Adam
from vaco_curate.training.settings import ValueSettings


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

    The same numbers as ``reference.value_step``, without its repetitions: V sees s and s' in one
    pass, both critics share every product, and Q's own forward pass does not wait for V's update, which it
    does not depend on. Buffers are made once.

    Attributes:
        advantage: (K, batch), min Q(s, a) of the target critics less V(s), before the last update.
    """

    def __init__(self, state: ValueState, settings: ValueSettings) -> None:
        self.state, self.settings = state, settings
        batch, members = settings.batch_size, state.value.members
        self.states = state.value.flat.new_zeros(members, 2 * batch, state.value.sizes[0])
        self.pairs = state.critic.flat.new_zeros(2 * members, batch, state.critic.sizes[0])
        self.target_critic = forward_only(state.target_critic, batch)
        self.critic = new_pass(state.critic, batch)
        # V is done before the critics begin: they take turns in the same memory.
        derivatives = self.critic.derivatives
        layers = [layer.view(members, 2 * batch, -1) for layer in self.critic.layers]
        self.both_values = new_pass(state.value, 2 * batch, layers=layers, derivatives=())
        own = [derivative[:members] for derivative in derivatives]
        self.value = backward_rows(self.both_values, slice(batch, None), own)

    def __call__(self, batch: Rows, *, measure: bool = True) -> dict[str, Tensor]:
        """Update the state; metrics, if ``measure``, are (K,) each."""
        state, settings = self.state, self.settings
        size, members = settings.batch_size, state.value.members
        self.states[:, :size] = batch.next_observation
        self.states[:, size:] = batch.observation
        self.pairs.view(2, members, size, -1).copy_(batch.pair)

        q_value = self.target_critic.forward(self.pairs).view(2, members, size).amin(dim=0)
        values = self.both_values.forward(self.states)[..., 0]
        next_value, value = values[:, :size].clone(), values[:, size:]
        error = self.advantage = q_value - value
        mean_value = value.mean(dim=-1) if measure else value

        value_gradient, critic_gradient = state.optimizer.gradients
        self.value.derivatives[-1][..., 0] = expectile_loss_gradient(error, settings.expectile)
        self.value.backward(self.states[:, size:], value_gradient)

        target = bellman_target(batch.reward, settings.discount, batch.terminated, next_value)
        q_error = self.critic.forward(self.pairs).view(2, members, size) - target
        torch.mul(q_error, 2.0 / size, out=self.critic.derivatives[-1].view(2, members, size))
        self.critic.backward(self.pairs, critic_gradient)

        state.optimizer.step()
        state.target_critic.flat.lerp_(state.critic.flat, settings.polyak)
        if not measure:
            return {}
        return {
            "value_loss": expectile_loss(error, settings.expectile),
            "critic_loss": q_error.square().sum(dim=0).mean(dim=-1),
            "q_value": q_value.mean(dim=-1),
            "value": mean_value,
        }
