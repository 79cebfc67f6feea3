"""Value phase: IQL's TD learning of V and the twin critics."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from vaco_curate.batches import ValueBatch
from vaco_curate.losses import bellman_target, expectile_loss
from vaco_curate.networks import TwinCritic, ValueNetwork
from vaco_curate.training.optim import adam, descend, polyak_update
from vaco_curate.training.settings import ValueSettings


@dataclass
class ValueState:
    """Everything that a value update changes; the generator draws the minibatches."""

    value: ValueNetwork
    critic: TwinCritic
    target_critic: TwinCritic
    value_optimizer: Optimizer
    critic_optimizer: Optimizer
    generator: torch.Generator
    update: int = 0


def create_value_state(
    observation_size: int, action_size: int, settings: ValueSettings, generator: torch.Generator
) -> ValueState:
    """Fresh networks on the generator's device; their weights come from torch's global generator."""
    value = ValueNetwork(observation_size, settings.hidden).to(generator.device)
    critic = TwinCritic(observation_size, action_size, settings.hidden).to(generator.device)
    return ValueState(
        value=value,
        critic=critic,
        target_critic=copy.deepcopy(critic).requires_grad_(False),
        value_optimizer=adam(value, settings.learning_rate),
        critic_optimizer=adam(critic, settings.learning_rate),
        generator=generator,
    )


def value_step(state: ValueState, batch: ValueBatch, settings: ValueSettings) -> dict[str, Tensor]:
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
