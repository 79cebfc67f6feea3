"""The updates on a GPU, each a few Triton kernels: what lies between two passes is done where the next begins.

By torch's kernels an update is so many small ones that starting them takes longer than their work. Same
states, same metrics, same numbers as ``ValueUpdate``, ``BilevelUpdate`` and ``CloningUpdate``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast import triton_kernels as kernels
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.triton_passes import Launches, network, table, usable
from vaco_curate.core.training import triton_update_kernels as update_kernels
from vaco_curate.core.training.bilevel_update import BilevelState, bilevel_metrics
from vaco_curate.core.training.lower_level import SMALLEST_SHARE
from vaco_curate.core.training.optim import BETAS, EPSILON, Adam
from vaco_curate.core.training.settings import ValueSettings
from vaco_curate.core.training.value_update import ValueState, value_metrics

ADAM = {
    "BETA1": BETAS[0],
    "BETA2": BETAS[1],
    "EPSILON": EPSILON,
    "LOG_BETA1": math.log(BETAS[0]),
    "LOG_BETA2": math.log(BETAS[1]),
}


def fit(*stacks: StackedMLP) -> bool:
    """Whether there are kernels for stacks that are to be computed side by side."""
    return all(map(usable, stacks)) and len({stack.sizes[1:-1] for stack in stacks}) == 1


class Layers:
    """Hidden layers of networks side by side, and the derivatives by them, (networks, batch, width)."""

    def __init__(self, like: StackedMLP, networks: int, batch: int) -> None:
        _, first, second, _ = like.sizes
        self.h1, self.d1 = (like.flat.new_zeros(networks, batch, first) for _ in range(2))
        self.h2, self.d2 = (like.flat.new_zeros(networks, batch, second) for _ in range(2))

    def part(self, begin: int, end: int) -> Layers:
        """Some of the networks."""
        part = object.__new__(Layers)
        for name, buffer in vars(self).items():
            setattr(part, name, buffer[begin:end])
        return part

    @property
    def activations(self) -> tuple[Tensor, Tensor]:
        """Of both layers."""
        return self.h1, self.h2

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Activations and derivatives."""
        return self.h1, self.h2, self.d1, self.d2


def moments(optimizer: Adam, number: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters and both moments, as the kernels take them."""
    return optimizer.parameters[number], optimizer.first[number], optimizer.second[number]


class TritonValueUpdate:
    """As ``ValueUpdate``, in three kernels: forward, backward, and the steps."""

    def __init__(self, state: ValueState, settings: ValueSettings) -> None:
        self.state, self.settings = state, settings
        members, batch = state.value.members, settings.batch_size
        stacks = [state.value, state.critic]
        self.forth, self.back = (Launches(stacks, batch, networks * members) for networks in (6, 3))
        self.layers = Layers(state.value, 3 * members, batch)
        self.outputs = state.value.flat.new_zeros(6, members, batch)
        self.derivatives = state.value.flat.new_zeros(3, members, batch)
        self.advantage = state.value.flat.new_zeros(members, batch)

    def __call__(self, batch: Rows, *, measure: bool = True) -> dict[str, Tensor]:
        """As ``ValueUpdate.__call__``."""
        state, settings, optimizer = self.state, self.settings, self.state.optimizer
        rows = batch.values, *batch.values.stride()[:2]
        sizes = state.value.members, batch.observation_size, batch.action_size
        networks = state.value.flat, state.critic.flat
        self.forth.forward(
            update_kernels.value_forward,
            *rows,
            *networks,
            state.target_critic.flat,
            *self.layers.activations,
            self.outputs,
            *sizes,
        )
        self.back.backward(
            update_kernels.value_backward,
            *rows,
            *networks,
            *self.layers.activations,
            self.outputs,
            self.layers.d1,
            self.layers.d2,
            self.derivatives,
            self.advantage,
            optimizer.steps,
            *sizes,
            settings.expectile,
            settings.discount,
        )
        self.back.gradient(
            update_kernels.value_descent,
            *rows,
            *self.layers.all,
            self.derivatives,
            *moments(optimizer, 0),
            *moments(optimizer, 1),
            state.target_critic.flat,
            settings.polyak,
            optimizer.learning_rate,
            optimizer.steps,
            *sizes,
            **ADAM,
        )
        if not measure:
            return {}
        value, q_error = self.outputs[0], self.derivatives[1:] * (settings.batch_size / 2.0)
        q_value = torch.minimum(*self.outputs[4:])
        return value_metrics(self.advantage, q_error, q_value, value.mean(dim=-1), settings.expectile)


class TritonCloningUpdate:
    """As ``CloningUpdate``, in three kernels: forward, backward, and the step."""

    def __init__(self, policy: StackedMLP, optimizer: Adam, batch_size: int) -> None:
        self.policy, self.optimizer = policy, optimizer
        self.launches = Launches([policy], batch_size, policy.members)
        self.layers = Layers(policy, policy.members, batch_size)
        self.predicted, self.derivatives = (
            policy.flat.new_zeros(policy.members, batch_size, policy.sizes[-1]) for _ in range(2)
        )
        self.share = policy.flat.new_zeros(policy.members, batch_size)

    def __call__(self, observation: Tensor, action: Tensor, weight: Tensor) -> Tensor:
        """As ``CloningUpdate.__call__``."""
        self.launches.forward(
            kernels.forward,
            *table(observation),
            *network(self.policy),
            *self.layers.activations,
            self.predicted,
            *self.predicted.stride()[:2],
            KEEP=True,
            TANH=True,
        )
        self.backward(action, weight)
        self.step(observation)
        return self.predicted

    def backward(self, action: Tensor, weight: Tensor, beside: Beside | None = None) -> None:
        """Derivatives of the loss, by weights; or by scores, whose networks are ``beside`` the policies."""
        launches, layers, scorer = beside or (self.launches, self.layers, self.policy)
        launches.backward(
            update_kernels.cloning_backward,
            action,
            *action.stride()[:2],
            weight,
            self.policy.flat,
            scorer.flat,
            self.predicted,
            self.share,
            *layers.all,
            self.derivatives,
            self.optimizer.steps,
            self.policy.members,
            self.policy.sizes[0],
            self.policy.sizes[-1],
            SMALLEST=SMALLEST_SHARE,
            SCORES=beside is not None,
        )

    def step(self, observation: Tensor) -> None:
        """The step on these derivatives."""
        adam_step(self.launches, self.policy, observation, self.layers, self.derivatives, self.optimizer)


class Beside(NamedTuple):
    """Scorers that are computed beside policies: how to launch both, their layers, and the scorers."""

    launches: Launches
    layers: Layers
    scorer: StackedMLP


def adam_step(
    launches: Launches,
    stack: StackedMLP,
    inputs: Tensor,
    layers: Layers,
    derivatives: Tensor,
    optimizer: Adam,
    *,
    scaled: bool = False,
) -> None:
    """The gradient by the parameters, and a step of Adam on it; ``scaled`` as in ``network_gradient``."""
    parameters, first, second = moments(optimizer)
    launches.gradient(
        kernels.gradients,
        *table(inputs),
        *layers.all,
        derivatives,
        *network(stack)[1:],
        parameters,
        parameters,
        first,
        second,
        optimizer.learning_rate,
        optimizer.steps,
        STEP=True,
        SCALED=scaled,
        **ADAM,
    )


class TritonBilevelUpdate:
    """As ``BilevelUpdate``, in ten kernels."""

    def __init__(self, state: BilevelState, critic: StackedMLP, batch_size: int) -> None:
        self.state, self.critic = state, critic
        policy, scorer, members = state.policy, state.scorer, state.policy.members
        like = policy.flat
        both = Layers(policy, 2 * members, batch_size)
        self.both = Beside(Launches([policy, scorer], batch_size, 2 * members), both, scorer)
        self.lower = TritonCloningUpdate(policy, state.policy_optimizer, batch_size)
        self.lower.layers, self.of_scorer = both.part(0, members), both.part(members, 2 * members)
        self.one, self.twins = (
            Launches(stacks, batch_size, stacks[0].members) for stacks in ([policy], [critic, policy])
        )
        self.scoring = Launches([scorer], batch_size, members)
        self.score, self.alignment, self.by_score = (like.new_zeros(members, batch_size) for _ in range(3))
        self.after, self.of_critic = (
            Layers(policy, members, batch_size),
            Layers(critic, 2 * members, batch_size),
        )
        self.q_values = like.new_zeros(2, members, batch_size)
        actions = policy.sizes[-1]
        self.by_action = like.new_zeros(2, members, batch_size, actions)
        self.upper = like.new_zeros(members, batch_size, actions)
        self.direction = policy.like()

    def __call__(
        self,
        batch: Rows,
        features: Tensor,
        noisy: Tensor,
        pair: Tensor,
        *,
        measure: bool = True,
    ) -> dict[str, Tensor]:
        """As ``BilevelUpdate.__call__``."""
        state, observation, action = self.state, batch.observation, batch.action
        sizes = state.policy.members, batch.observation_size, batch.action_size
        self.both.launches.forward(
            update_kernels.scorer_and_policy,
            features,
            *features.stride()[:2],
            observation,
            *observation.stride()[:2],
            state.scorer.flat,
            state.policy.flat,
            *self.both.layers.activations,
            self.score,
            self.lower.predicted,
            *sizes,
        )
        self.lower.backward(action, self.score, self.both)
        self.lower.step(observation)
        self._objective_gradient(noisy, pair, sizes)
        self.one.forward(
            update_kernels.alignments,
            observation,
            *observation.stride()[:2],
            self.direction.flat,
            *self.lower.layers.all,
            self.lower.derivatives,
            self.lower.share,
            self.score,
            self.alignment,
            self.by_score,
            state.scorer_optimizer.steps,
            *sizes,
        )
        adam_step(
            self.scoring,
            state.scorer,
            features,
            self.of_scorer,
            self.by_score,
            state.scorer_optimizer,
            scaled=True,
        )
        if not measure:
            return {}
        return bilevel_metrics(self.score, self.lower.predicted, action, self.q_values, self.alignment)

    def _objective_gradient(self, noisy: Tensor, pair: Tensor, sizes: Sequence[int]) -> None:
        """Leave the gradient of J_pi at phi_t in ``direction``."""
        state, critic = self.state, self.critic
        taken = pair[..., noisy.shape[-1] :]
        self.one.forward(
            kernels.forward,
            *table(noisy),
            *network(state.policy),
            *self.after.activations,
            taken,
            *taken.stride()[:2],
            KEEP=True,
            TANH=True,
        )
        self.twins.forward(
            kernels.forward,
            *table(pair),
            *network(critic),
            *self.of_critic.activations,
            self.q_values,
            pair.shape[1],
            1,
            KEEP=True,
            TANH=False,
        )
        self.twins.backward(
            update_kernels.objective_by_action,
            critic.flat,
            self.q_values,
            *self.of_critic.activations,
            self.by_action,
            *sizes,
        )
        self.one.backward(
            update_kernels.objective_backward,
            self.by_action,
            taken,
            *taken.stride()[:2],
            state.policy.flat,
            *self.after.all,
            self.upper,
            *sizes,
        )
        flat = self.direction.flat
        self.one.gradient(
            kernels.gradients,
            *table(noisy),
            *self.after.all,
            self.upper,
            *network(state.policy)[1:],
            *(flat,) * 6,
            STEP=False,
            **ADAM,
        )
