"""The two update steps against known solutions and oracles."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import make_transitions
from torch.func import functional_call, grad

from vaco_curate.batches import ScoringBatch, ValueBatch
from vaco_curate.losses import (
    LOG_WEIGHT,
    batch_weights,
    cloning_errors,
    divergence_from_prior,
    policy_objective,
    weighted_cloning_loss,
)
from vaco_curate.networks import TwinCritic
from vaco_curate.training.bilevel_phase import bilevel_step, create_bilevel_state, gaussian_like
from vaco_curate.training.prior import kept_promise, log_prior_with_sample_size
from vaco_curate.training.settings import BilevelSettings, ValueSettings
from vaco_curate.training.value_phase import create_value_state, value_step


def chain() -> ValueBatch:
    """Three states in a row; from each, action +1 earns 1 and action -1 earns 0; the third step ends."""
    observation = torch.eye(3).repeat_interleave(2, dim=0)
    action = torch.tensor([[1.0], [-1.0]]).repeat(3, 1)
    return ValueBatch(
        observation=observation,
        action=action,
        reward=(action[:, 0] > 0).float(),
        terminated=torch.tensor([False, False, False, False, True, True]),
        next_observation=torch.eye(3)[[1, 1, 2, 2, 0, 0]],
    )


def solution(expectile: float, discount: float) -> tuple[list[float], list[float]]:
    """V and Q of the chain by hand: V is the expectile of {Q(+1), Q(-1)}, which differ by 1."""
    value, q_value, after = [], [], 0.0
    for _ in range(3):
        good, bad = 1.0 + discount * after, discount * after
        after = bad + expectile  # tau (good - v) = (1 - tau) (v - bad) has v = bad + tau
        value.insert(0, after)
        q_value[:0] = [good, bad]
    return value, q_value


@pytest.mark.parametrize("expectile", [0.5, 0.8])
def test_value_steps_converge_to_the_values_of_a_chain(expectile):
    settings = ValueSettings(
        expectile=expectile, discount=0.9, hidden=(32, 32), learning_rate=3e-3, polyak=0.05
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = create_value_state(3, 1, settings, torch.Generator().manual_seed(0))
    batch = chain()
    for _ in range(1500):
        value_step(state, batch, settings)
    value, q_value = solution(expectile, 0.9)
    assert state.value(torch.eye(3)).tolist() == pytest.approx(value, abs=0.03)
    for twin in state.critic(batch.observation, batch.action):
        assert twin.tolist() == pytest.approx(q_value, abs=0.03)


def test_values_are_fitted_to_the_target_critic_which_follows_by_its_share():
    settings = ValueSettings(hidden=(8,), polyak=0.25)
    state = create_value_state(3, 1, settings, torch.Generator().manual_seed(0))
    for parameter in state.critic.parameters():
        torch.nn.init.constant_(parameter, 100.0)  # an online critic far from its target
    target = copy.deepcopy(state.target_critic)
    metrics = value_step(state, chain(), settings)
    batch = chain()
    expected = target(batch.observation, batch.action).amin(dim=0).mean()
    assert metrics["q_value"].item() == pytest.approx(expected.item(), abs=1e-5)
    for old, online, new in zip(
        target.parameters(), state.critic.parameters(), state.target_critic.parameters(), strict=True
    ):
        assert torch.allclose(new, 0.75 * old + 0.25 * online)


D, K, ROWS = 5, 2, 9


@pytest.mark.parametrize("noise_on", ["state", "action"])
@pytest.mark.parametrize("coefficient", [0.0, 0.7])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_bilevel_step_is_gradient_descent_on_both_levels(float64, noise_on, coefficient, normalized):
    """With plain gradient steps in place of Adam, phi and alpha move exactly as the equations say."""
    rate, noise = 0.05, 0.3
    settings = BilevelSettings(
        hidden=(16, 16),
        noise_on=noise_on,
        normalize_weights=normalized,
        standardize_alignment=False,
        divergence_coefficient=coefficient,
    )
    state = create_bilevel_state(D, K, settings, torch.Generator().manual_seed(1))
    state.q_mean.fill_(0.4)
    state.q_std.fill_(2.0)
    state.policy_optimizer = torch.optim.SGD(state.policy.parameters(), lr=rate)
    state.scorer_optimizer = torch.optim.SGD(state.scorer.parameters(), lr=1.0)
    critic = TwinCritic(D, K, (16, 16)).requires_grad_(False)
    batch = ScoringBatch(
        torch.randn(ROWS, D), torch.rand(ROWS, K) * 2 - 1, torch.randn(ROWS), torch.randn(ROWS)
    )
    policy, scorer = copy.deepcopy(state.policy), copy.deepcopy(state.scorer)
    phi = {name: p.detach().clone() for name, p in policy.named_parameters()}
    alpha = {name: p.detach().clone() for name, p in scorer.named_parameters()}
    draws = torch.Generator().manual_seed(1)
    perturbation = noise * gaussian_like(batch.observation if noise_on == "state" else batch.action, draws)

    def log_weight(values):
        q_input = (batch.q_value - 0.4) / 2.0
        score = functional_call(scorer, values, (batch.observation, batch.action, q_input))
        return LOG_WEIGHT["exp"](score)

    def cloning(values, weight):
        predicted = functional_call(policy, values, (batch.observation,))
        return weighted_cloning_loss(weight, cloning_errors(predicted, batch.action))

    def after_lower_step(values):
        weight = batch_weights(log_weight(values), normalized=normalized)
        step = grad(cloning)(phi, weight)
        return {name: p - rate * step[name] for name, p in phi.items()}

    def upper_level(values):
        moved = after_lower_step(values)
        if noise_on == "state":
            acted = functional_call(policy, moved, (batch.observation + perturbation,))
        else:
            acted = (functional_call(policy, moved, (batch.observation,)) + perturbation).clamp(-1, 1)
        # the step's own loss is the gradient over eta_1
        value_part = policy_objective(critic, batch.observation, acted) / rate
        return value_part + coefficient * divergence_from_prior(log_weight(values), batch.log_prior)

    expected_phi, gradient = after_lower_step(alpha), grad(upper_level)(alpha)
    bilevel_step(state, critic, batch, settings, noise)

    for name, parameter in state.policy.named_parameters():
        assert torch.allclose(parameter, expected_phi[name], rtol=1e-9, atol=1e-12), name
    for name, parameter in state.scorer.named_parameters():
        assert torch.allclose(parameter, alpha[name] - gradient[name], rtol=1e-8, atol=1e-10), name


def test_the_prior_prefers_the_path_that_earns_what_others_only_promise():
    """Two paths from one start: the value of the start is what the good one earns."""
    data = make_transitions(
        episodes=2, length=5, columns={"terminated": np.tile([0, 0, 0, 0, 1], 2), "truncated": np.zeros(10)}
    )
    reward = np.repeat([1.0, 0.0], 5)
    value = np.concatenate([np.arange(5, 0, -1.0), [5.0, 0, 0, 0, 0]])
    signal = kept_promise(data, reward, value, value, discount=1.0 - 1e-9, look_ahead=2)
    log_prior = log_prior_with_sample_size(signal, 0.6)
    assert log_prior[:5].min() > log_prior[5:].max()
