"""The board's learners against plain statements of the algorithms, in float64 with autograd."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import make_transitions
from reference import adam, descend, polyak_update, reference_value_state, value_step
from torch.nn.functional import mse_loss

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.losses import advantage_weight, cloning_errors
from vaco_curate.core.networks import Policy, TwinCritic, ValueNetwork
from vaco_curate.core.scaling import fit_scaling
from vaco_curate.core.training.draws import Draws, cumulative_shares
from vaco_curate.core.training.settings import ValueSettings

D, K, HIDDEN = 5, 2, (16, 16)


def batch_of(members, size):
    return Rows.of(
        observation=torch.randn(members, size, D),
        action=torch.rand(members, size, K) * 2 - 1,
        next_observation=torch.randn(members, size, D),
        reward=torch.randn(members, size),
        terminated=torch.rand(members, size) < 0.2,
    )


def member(batch, number):
    return Rows(batch.values[number], D, K, batch.device)


def same(stack, number, layers):
    copied = copy.deepcopy(layers)
    stack.write_to(number, copied)
    pairs = zip(copied.parameters(), layers.parameters(), strict=True)
    return all(torch.allclose(ours, theirs, rtol=0, atol=1e-11) for ours, theirs in pairs)


@pytest.mark.parametrize("alone", [False, True])
def test_td3_bc_is_what_its_paper_says(alone, float64, quality):
    """Also where policies and critics get minibatches of their own."""
    learners = quality["learners"]
    members, steps = 2, 5
    policies = [Policy(D, K, HIDDEN) for _ in range(members)]
    critics = [TwinCritic(D, K, HIDDEN) for _ in range(members)]
    stack = StackedMLP.of([policy.layers for policy in policies])
    twins = StackedMLP.of([critic.first for critic in critics] + [critic.second for critic in critics])
    update = learners.TD3BCUpdate(stack, twins)
    targets = [(copy.deepcopy(p), copy.deepcopy(c)) for p, c in zip(policies, critics, strict=True)]
    optimizers = [(adam(p, 3e-4), adam(c, 3e-4)) for p, c in zip(policies, critics, strict=True)]
    for step in range(steps):
        batch, noise = batch_of(members, learners.BATCH), 0.6 * torch.randn(members, learners.BATCH, K)
        cloned = batch_of(members, learners.BATCH) if alone else batch
        update(batch, noise, cloned) if alone else update(batch, noise)
        for number, (policy, critic) in enumerate(zip(policies, critics, strict=True)):
            rows, (target_policy, target_critic) = member(batch, number), targets[number]
            with torch.no_grad():
                acted = target_policy(rows.next_observation) + noise[number].clamp(-0.5, 0.5)
                ahead = target_critic(rows.next_observation, acted.clamp(-1, 1)).amin(dim=0)
                goal = rows.reward + 0.99 * torch.where(rows.terminated, 0.0, ahead)
            first, second = critic(rows.observation, rows.action)
            descend(optimizers[number][1], mse_loss(first, goal) + mse_loss(second, goal))
            if step % 2 == 1:
                rows = member(cloned, number)
                action = policy(rows.observation)
                q_value = critic(rows.observation, action)[0]
                scale = 2.5 / q_value.abs().mean().detach()
                descend(optimizers[number][0], -scale * q_value.mean() + mse_loss(action, rows.action))
                polyak_update(target_policy, policy, 0.005)
                polyak_update(target_critic, critic, 0.005)
    for number, (policy, critic) in enumerate(zip(policies, critics, strict=True)):
        assert same(stack, number, policy.layers)
        assert same(twins, number, critic.first)
        assert same(twins, members + number, critic.second)
        assert same(update.target_policies, number, targets[number][0].layers)


@pytest.mark.parametrize("alone", [False, True])
def test_iql_clones_by_the_advantage_of_the_value_update(alone, float64, quality, monkeypatch):
    """The policy moves as weighted cloning does, by the advantage before the step; V and Q as IQL's do."""
    learners = quality["learners"]
    monkeypatch.setattr(learners, "BATCH", 16)
    monkeypatch.setattr(learners, "HIDDEN", HIDDEN)
    monkeypatch.setattr(learners, "PRECISION", "highest")
    rows = batch_of(1, 40)
    rows = Rows(rows.values[0], D, K, rows.device)
    shares = torch.linspace(0, 1, 41)[1:].expand(1, 40)
    problem = learners.Problem(rows, torch.arange(40), shares, [3], policy_alone=alone)
    torch.manual_seed(3)
    policy = Policy(D, K, HIDDEN)
    torch.manual_seed(3)
    critic = TwinCritic(D, K, HIDDEN)
    torch.manual_seed(3)
    value = ValueNetwork(D, HIDDEN)
    settings = ValueSettings(batch_size=16, hidden=HIDDEN)
    state = reference_value_state(value, critic, settings)
    optimizer = adam(policy, 3e-4)
    draws = problem.draws()
    cloned_draws = problem.policy_draws() if alone else draws
    draws.fill(0)
    cloned_draws.fill(0)
    for update in range(20):
        batch, cloned = (member(one.batches[update], 0) for one in (draws, cloned_draws))
        with torch.no_grad():
            q_value = state.target_critic(cloned.observation, cloned.action).amin(dim=0)
            weight = advantage_weight(q_value - state.value(cloned.observation))
        value_step(state, batch, settings)
        descend(optimizer, (weight * cloning_errors(policy(cloned.observation), cloned.action)).mean())
    stack = learners.iql(problem, 20)
    assert same(stack, 0, policy.layers)


def test_with_weights_on_the_policy_alone_critics_draw_all_rows_alike(quality):
    rows = Rows(torch.zeros(100, 2 * D + K + 2), D, K, torch.device("cpu"))
    shares = cumulative_shares((torch.arange(100) >= 60).double()[None])
    problem = quality["learners"].Problem(rows, torch.arange(100), shares, [3], policy_alone=True)
    drawn = []
    for draws in (problem.draws(), problem.policy_draws()):
        draws.fill(0)
        drawn.append(draws.rows)
    assert (drawn[0] < 60).float().mean().item() == pytest.approx(0.6, abs=0.02)
    assert (drawn[1] >= 60).all()


@pytest.mark.parametrize("learner", ["BC", "IQL", "TD3+BC"])
def test_a_policy_depends_on_its_weights_and_its_seed_alone(learner, quality):
    data = make_transitions(episodes=10)
    scaling = fit_scaling(data, reward_shift=0.0)
    weights = np.random.default_rng(0).random((2, len(data)))

    def learned(rows, seeds):
        found = quality["learners"].learn(learner, data, rows, scaling, 60, seeds=seeds, device="cpu")
        return [policy.act(data.observation) for policy in found]

    together = learned(weights, [4, 9])
    assert together[1] == pytest.approx(learned(weights[1:], [9])[0], abs=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-2


def test_rows_without_weight_are_never_drawn(quality):
    rows = Rows(torch.zeros(100, 9), 2, 3, torch.device("cpu"))
    weight = torch.zeros(2, 100)
    weight[0, [3, 50]], weight[1, 99] = torch.tensor([1.0, 3.0]), 2.0
    draws = Draws(rows, [0, 1], 0, torch.arange(100), 256, shares=cumulative_shares(weight))
    draws.fill(0)
    assert set(draws.rows[:, 0].unique().tolist()) == {3, 50}
    assert set(draws.rows[:, 1].unique().tolist()) == {99}
    assert (draws.rows[:, 0] == 50).float().mean().item() == pytest.approx(0.75, abs=0.02)
