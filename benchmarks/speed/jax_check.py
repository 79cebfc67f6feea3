"""That the JAX reference computes what the eager reference computes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax_reference
import torch
from plain import (
    bilevel_step,
    reference_bilevel_state,
    reference_value_state,
    value_step,
)

from vaco_curate.core.batches import Rows
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.training.settings import BilevelSettings, ValueSettings

TOLERANCE = 1e-3


def layers_of(network: torch.nn.Sequential) -> list[tuple[Any, Any]]:
    return [
        (jnp.asarray(layer.weight.detach().numpy().T), jnp.asarray(layer.bias.detach().numpy()))
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    ]


def torch_networks(d: int, k: int, hidden: tuple[int, ...]) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    return {
        "value": ValueNetwork(d, hidden),
        "critic": TwinCritic(d, k, hidden),
        "policy": Policy(d, k, hidden),
        "scorer": ScorerNetwork(d, k, hidden),
    }


def as_jax(networks: dict[str, Any]) -> dict[str, Any]:
    twins = networks["critic"]
    single = {name: layers_of(networks[name].layers) for name in ("value", "policy", "scorer")}
    return single | {"critic": [layers_of(twins.first), layers_of(twins.second)]}


def jax_networks(d: int, k: int, hidden: tuple[int, ...]) -> dict[str, Any]:
    return as_jax(torch_networks(d, k, hidden))


def jax_state(networks: dict[str, Any], phase: str) -> tuple[Any, ...]:
    adam = jax_reference.adam_state
    if phase == "value":
        value, critic = networks["value"], networks["critic"]
        return value, critic, jax.tree.map(jnp.copy, critic), adam(value), adam(critic)
    policy, scorer = networks["policy"], networks["scorer"]
    return policy, scorer, adam(policy), adam(scorer)


def check(d: int, k: int, hidden: tuple[int, ...], rows: Rows, batch_size: int, updates: int = 10) -> None:
    """Run both references on the same minibatches and compare their losses.

    Raises:
        AssertionError: they part.
    """
    networks = torch_networks(d, k, hidden)
    converted = as_jax(networks)
    value_settings, bilevel_settings = ValueSettings(), BilevelSettings()
    values = reference_value_state(networks["value"], networks["critic"], value_settings)
    state = jax_state(converted, "value")
    for _ in range(updates):
        batch = rows.take(torch.randint(len(rows.values), (batch_size,)))
        theirs = value_step(values, batch, value_settings)
        columns = (batch.observation, batch.action, batch.next_observation, batch.reward, batch.terminated)
        state, losses = jax_reference.value_step(state, tuple(jnp.asarray(c.numpy()) for c in columns))
        _assert_close(losses, (theirs["value_loss"], theirs["critic_loss"]))
    _assert_same_parameters(state[0], values.value.layers)
    _assert_same_parameters(state[2][1], values.target_critic.second)
    networks["critic"].requires_grad_(False)
    twins = as_jax(networks)["critic"]
    levels = reference_bilevel_state(networks["policy"], networks["scorer"], bilevel_settings)
    state = jax_state(converted, "bilevel")
    for _ in range(updates):
        batch = rows.take(torch.randint(len(rows.values), (batch_size,)))
        q_input, noise = torch.randn(batch_size), 0.1 * torch.randn(batch_size, d)
        theirs = bilevel_step(levels, networks["critic"], batch, q_input, noise)
        columns = (batch.observation, batch.action, q_input, noise)
        state, losses = jax_reference.bilevel_step(state, twins, tuple(jnp.asarray(c.numpy()) for c in columns))
        _assert_close(losses, (theirs["cloning_loss"], theirs["alignment_loss"]))
    _assert_same_parameters(state[0], levels.policy.layers)
    _assert_same_parameters(state[1], levels.scorer.layers)


def _assert_same_parameters(ours: list[tuple[Any, Any]], theirs: torch.nn.Sequential) -> None:
    """Mean difference below a hundredth of what Adam has moved a parameter, 10 steps of 3e-4."""
    for left, right in zip(ours, layers_of(theirs), strict=True):
        for mine, other in zip(left, right, strict=True):
            assert jnp.abs(mine - other).mean() < 3e-5


def _assert_close(losses: Any, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    for given, wanted in zip(losses.tolist(), expected, strict=True):
        assert abs(given - wanted.item()) < TOLERANCE * (1.0 + abs(wanted.item())), (given, wanted.item())
