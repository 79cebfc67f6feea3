"""Policies learned from selections of one dataset, many side by side: cloning, IQL and TD3+BC.

Selections times seeds are networks of one shape: they share every kernel of the stacked engine, on a GPU
a few kernels an update for all of them. IQL's value step is the value phase's, its actor a weighted clone.

Sources:
    IQL: Kostrikov, Nair, Levine 2021, arXiv:2110.06169, with a deterministic actor.
    TD3+BC: Fujimoto, Gu 2021, arXiv:2106.06860.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.passes import forward_only, new_pass
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.losses import advantage_weight, bellman_target, tanh_gradient
from vaco_curate.core.networks import TwinCritic, ValueNetwork
from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.training.arithmetic import training_arithmetic
from vaco_curate.core.training.draws import DRAWN_UPDATES, Draws, cumulative_shares
from vaco_curate.core.training.loop import Updates
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.settings import ValueSettings
from vaco_curate.core.training.trainer import network_rows
from vaco_curate.core.training.updates import cloning_update, value_update
from vaco_curate.core.training.value_update import create_value_state
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.evaluation import CloningSettings, clone_policies
from vaco_curate.evaluation.cloning import falling_rate, fresh_policies, trained_policy

HIDDEN = (256, 256)
RATE = 3e-4
BATCH = 256
PRECISION = "medium"
"""Between hidden layers: bfloat16 factors where a processor multiplies them, TF32 on a GPU."""


@dataclass(frozen=True)
class Problem:
    """What K policies are learned from.

    Attributes:
        rows: the dataset in network units.
        learnable: numbers of the rows that values can be learned from.
        shares: (K, learnable) of ``Draws``.
        seeds: one for each policy.
        policy_alone: whether ``shares`` are those of the policies' minibatches only, and critics get others,
            of rows drawn alike.
    """

    rows: Rows
    learnable: Tensor
    shares: Tensor
    seeds: Sequence[int]
    policy_alone: bool = False

    def draws(self, noise_width: int = 0, deviation: float = 0.0) -> Draws:
        """Minibatches of all critics, which are the policies', too, unless the shares are for these alone."""
        return self._draws(0, None if self.policy_alone else self.shares, noise_width, deviation)

    def policy_draws(self) -> Draws | None:
        """Minibatches of all policies; None where they are the critics'."""
        return self._draws(1, self.shares, 0, 0.0) if self.policy_alone else None

    def _draws(self, phase: int, shares: Tensor | None, noise_width: int, deviation: float) -> Draws:
        return Draws(
            self.rows,
            self.seeds,
            phase,
            self.learnable,
            BATCH,
            shares=shares,
            noise_width=noise_width,
            deviation=lambda update: deviation,
        )

    def critics(self) -> StackedMLP:
        """Fresh twins: the first critic of every policy, then the second."""
        sizes = self.rows.observation_size, self.rows.action_size
        with torch.random.fork_rng(devices=[]):
            twins = [seeded(seed, TwinCritic, *sizes, HIDDEN) for seed in self.seeds]
        return self.stack([twin.first for twin in twins] + [twin.second for twin in twins])

    def values(self) -> StackedMLP:
        """Fresh V of every policy."""
        with torch.random.fork_rng(devices=[]):
            values = [seeded(seed, ValueNetwork, self.rows.observation_size, HIDDEN) for seed in self.seeds]
        return self.stack([value.layers for value in values])

    def policies(self) -> StackedMLP:
        """Fresh policies."""
        return fresh_policies(self.rows, HIDDEN, self.seeds, PRECISION)

    def stack(self, networks: Sequence[nn.Sequential]) -> StackedMLP:
        """Networks of one shape, on the device."""
        return StackedMLP.of(networks, hidden_precision=PRECISION, device=self.rows.device)


def seeded(seed: int, make: Callable[..., nn.Module], *arguments: object) -> nn.Module:
    """A network that depends on its seed alone."""
    torch.manual_seed(seed)
    return make(*arguments)


class Learner(Updates):
    """Critics and policies that learn from the same minibatches, or from two draws of the same dataset."""

    def __init__(self, critic_draws: Draws, policy_draws: Draws | None) -> None:
        super().__init__(critic_draws)
        self.policy_draws = policy_draws

    def before(self, update: int) -> None:
        if self.policy_draws is not None:
            self.policy_draws.fill(update // DRAWN_UPDATES)


class IQL(Learner):
    """IQL with its settings for locomotion; the actor's rate falls to 0, as in the paper's appendix B."""

    def __init__(self, problem: Problem, updates: int) -> None:
        super().__init__(problem.draws(), problem.policy_draws())
        settings = ValueSettings(batch_size=BATCH, learning_rate=RATE, hidden=HIDDEN)
        self.updates, self.policies = updates, problem.policies()
        self.optimizer = Adam([self.policies], RATE)
        state = create_value_state(problem.values(), problem.critics(), settings)
        self.value_step = value_update(state, settings)
        self.target_q, self.value = forward_only(state.target_critic, BATCH), forward_only(state.value, BATCH)
        self.clone = cloning_update(self.policies, self.optimizer, BATCH)

    def before(self, update: int) -> None:
        super().before(update)
        self.optimizer.learning_rate.fill_(falling_rate(RATE, update, self.updates))

    def update(self, number: int, measure: bool) -> dict[str, Tensor]:
        batch = self.draws.batches[number]
        if self.policy_draws is None:
            metrics = self.value_step(batch, measure=measure)
            advantage = self.value_step.advantage
        else:
            cloned = self.policy_draws.batches[number]
            advantage = self._advantage(cloned)  # before the value step, as where there is one minibatch
            metrics = self.value_step(batch, measure=measure)
            batch = cloned
        self.clone(batch.observation, batch.action, advantage_weight(advantage))
        return metrics

    def _advantage(self, batch: Rows) -> Tensor:
        q_value = torch.minimum(*self.target_q.forward(batch.pair)[..., 0].chunk(2))
        return q_value - self.value.forward(batch.observation)[..., 0]


def iql(problem: Problem, updates: int) -> StackedMLP:
    """Policies by IQL."""
    learner = IQL(problem, updates)
    learner.run(0, updates)
    return learner.policies


DISCOUNT, POLYAK = 0.99, 0.005
POLICY_NOISE, NOISE_CLIP, POLICY_EVERY, ALPHA = 0.2, 0.5, 2, 2.5
"""TD3+BC's settings."""


class TD3BCUpdate:
    """One update of TD3+BC for every policy; the actor's turn comes every other time."""

    def __init__(self, policies: StackedMLP, critics: StackedMLP) -> None:
        self.policies, self.critics = policies, critics
        self.target_policies, self.target_critics = policies.clone(), critics.clone()
        self.policy_optimizer, self.critic_optimizer = Adam([policies], RATE), Adam([critics], RATE)
        self.act, self.target_act = new_pass(policies, BATCH), forward_only(self.target_policies, BATCH)
        self.q, self.target_q = new_pass(critics, BATCH), forward_only(self.target_critics, BATCH)
        self.first_q = new_pass(critics.first_half(), BATCH)
        self.pairs = critics.flat.new_zeros(policies.members, BATCH, critics.sizes[0])
        self.turn = 0

    def __call__(self, batch: Rows, noise: Tensor, cloned: Rows | None = None) -> Tensor:
        """Update, and return the critics' loss, (K,); the policies from ``cloned``, where it is given."""
        next_action = torch.tanh(self.target_act.forward(batch.next_observation))
        next_action = (next_action + noise.clamp(-NOISE_CLIP, NOISE_CLIP)).clamp(-1.0, 1.0)
        torch.cat([batch.next_observation, next_action], dim=-1, out=self.pairs)
        next_value = torch.minimum(*self.target_q.forward(self.pairs)[..., 0].chunk(2))
        target = bellman_target(batch.reward, DISCOUNT, batch.terminated, next_value)

        error = self.q.forward(batch.pair)[..., 0].view(2, *target.shape) - target
        torch.mul(error, 2.0 / BATCH, out=self.q.derivatives[-1].view_as(error))
        self.q.backward(self.critic_optimizer.gradients[0])
        self.critic_optimizer.step()

        self.turn += 1
        if self.turn % POLICY_EVERY == 0:
            self._policy_step(batch if cloned is None else cloned)
        return error.square().sum(dim=0).mean(dim=-1)

    def _policy_step(self, batch: Rows) -> None:
        """Minimize -lambda Q_1(s, pi(s)) + ||pi(s) - a||^2 / k, lambda = alpha / mean |Q_1|."""
        observation, wanted = batch.observation, batch.action
        action = torch.tanh(self.act.forward(observation))
        torch.cat([observation, action], dim=-1, out=self.pairs)
        q_value = self.first_q.forward(self.pairs)
        scale = ALPHA / q_value.abs().mean(dim=1, keepdim=True)
        self.first_q.derivatives[-1].copy_(-scale.expand_as(q_value) / BATCH)
        self.first_q.backpropagate()
        by_action = self.first_q.input_gradient(slice(batch.observation_size, None))
        by_action = by_action + (action - wanted) * (2.0 / wanted[0].numel())
        torch.mul(by_action, tanh_gradient(action), out=self.act.derivatives[-1])
        self.act.backward(self.policy_optimizer.gradients[0])
        self.policy_optimizer.step()
        self.target_policies.flat.lerp_(self.policies.flat, POLYAK)
        self.target_critics.flat.lerp_(self.critics.flat, POLYAK)


class TD3BC(Learner):
    """TD3+BC with its settings."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.draws(problem.rows.action_size, POLICY_NOISE), problem.policy_draws())
        self.step = TD3BCUpdate(problem.policies(), problem.critics())

    def update(self, number: int, measure: bool) -> dict[str, Tensor]:
        cloned = None if self.policy_draws is None else self.policy_draws.batches[number]
        loss = self.step(self.draws.batches[number], self.draws.noise[number], cloned)
        return {"critic_loss": loss} if measure else {}


def td3_bc(problem: Problem, updates: int) -> StackedMLP:
    """Policies by TD3+BC."""
    learner = TD3BC(problem)
    learner.run(0, updates)
    return learner.step.policies


LEARNERS = ("BC", "IQL", "TD3+BC")


def learn(
    learner: str,
    data: Transitions,
    weights: Array,
    scaling: Scaling,
    updates: int,
    *,
    seeds: Sequence[int],
    device: torch.device | str,
    policy_alone: bool = False,
) -> list[TrainedPolicy]:
    """K policies, each from the rows of a dataset drawn in proportion to its weights, (K, n).

    Args:
        policy_alone: whether critics draw all rows alike. BC has none.
    """
    if learner == "BC":
        settings = CloningSettings(updates, BATCH, RATE, HIDDEN)
        return clone_policies(data, weights, scaling, settings, seeds=seeds, device=device)
    device = torch.device(device)
    learnable = np.flatnonzero(data.is_learnable)
    shares = cumulative_shares(torch.from_numpy(np.asarray(weights)[:, learnable]).to(device))
    with training_arithmetic():
        problem = Problem(
            network_rows(data, scaling, device),
            torch.from_numpy(learnable).to(device),
            shares,
            seeds,
            policy_alone,
        )
        policies = {"IQL": iql, "TD3+BC": td3_bc}[learner](problem, updates)
    return [trained_policy(policies, member, scaling, HIDDEN) for member in range(len(seeds))]
