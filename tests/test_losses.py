"""Every equation against an oracle in float64, a hand-computed case, or a property."""

from __future__ import annotations

import math

import pytest
import torch
from reference import alignments
from torch.func import functional_call, grad

from vaco_curate.core import losses
from vaco_curate.core.losses import (
    advantage_weight,
    bellman_target,
    cloning_errors,
    effective_sample_size,
    expectile_loss,
    policy_objective,
    value_alignment_loss,
    weighted_cloning_loss,
)
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic

D, K, BATCH = 5, 3, 7
MEMBERS = 2


def test_expectile_loss_of_one_half_is_half_the_squared_error():
    error = torch.tensor([-2.0, 1.0, 3.0])
    assert expectile_loss(error, 0.5).item() == pytest.approx(0.5 * (4 + 1 + 9) / 3)


def test_expectile_loss_weighs_underestimates_by_the_expectile():
    error = torch.tensor([2.0, -1.0])  # target above, then below the prediction
    assert expectile_loss(error, 0.9).item() == pytest.approx((0.9 * 4 + 0.1 * 1) / 2)


def test_expectile_loss_is_least_at_the_expectile_of_the_targets(float64):
    targets = torch.tensor([0.0, 1.0, 4.0, 10.0])
    candidates = torch.linspace(0, 10, 10_001)
    values = torch.stack([expectile_loss(targets - value, 0.7) for value in candidates])
    best = candidates[values.argmin()]
    # an expectile m solves 0.7 sum (x - m)+ = 0.3 sum (m - x)+
    above, below = (targets - best).clamp_min(0).sum(), (best - targets).clamp_min(0).sum()
    assert 0.7 * above == pytest.approx(0.3 * below.item(), abs=5e-3)


def test_terminated_rows_ignore_the_next_value():
    target = bellman_target(
        torch.tensor([1.0, 2.0]), 0.9, torch.tensor([True, False]), torch.tensor([math.inf, 10.0])
    )
    assert target.tolist() == pytest.approx([1.0, 11.0])


def test_effective_sample_size_counts_the_rows_that_carry_the_weight():
    assert effective_sample_size(torch.zeros(8)).item() == pytest.approx(1.0)
    half = torch.tensor([0.0, 0.0, -1e4, -1e4])
    assert effective_sample_size(half).item() == pytest.approx(0.5)
    assert effective_sample_size(half + 700.0).item() == pytest.approx(0.5, rel=1e-3)


def test_advantage_weight_is_clipped_at_the_maximum_without_overflow():
    weight = advantage_weight(torch.tensor([0.0, 0.5, 1e6]), 3.0, 100.0)
    assert weight.tolist() == pytest.approx([1.0, math.exp(1.5), 100.0])


def test_cloning_errors_are_squared_distances():
    errors = cloning_errors(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]]))
    assert errors.tolist() == [5.0, 9.0]


def test_policy_objective_takes_the_smaller_critic(float64):
    critic = TwinCritic(D, K, (8,))
    s, a = torch.randn(BATCH, D), torch.randn(BATCH, K)
    first, second = critic(s, a)
    assert policy_objective(critic(s, a)).item() == pytest.approx(-torch.minimum(first, second).mean().item())


def meta_gradient_by_backprop(scorer_parameters, policy_parameters, weigh, errors, objective, rate):
    """The obvious form: take the lower step, then backpropagate through it."""

    def objective_after_step(scorer_values):
        step = grad(lambda policy: (weigh(scorer_values) * errors(policy)).mean())(policy_parameters)
        return objective({name: p - rate * step[name] for name, p in policy_parameters.items()})

    return grad(objective_after_step)(scorer_parameters)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_scorer_gradient_equals_backprop_through_the_policy_step(float64, noise):
    rate = 0.05
    policy, critic = Policy(D, K, (16, 16)), TwinCritic(D, K, (16, 16)).requires_grad_(False)
    scorer = ScorerNetwork(D, K, (16, 16))
    s, a, q = torch.randn(BATCH, D), torch.rand(BATCH, K) * 2 - 1, torch.randn(BATCH)
    noisy = s + noise * torch.randn(BATCH, D)
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    scorer_parameters = {name: p.detach().clone() for name, p in scorer.named_parameters()}

    def errors(values):
        return cloning_errors(functional_call(policy, values, (s,)), a)

    def objective(values):
        return policy_objective(critic(s, functional_call(policy, values, (noisy,))))

    def weigh(values):
        return torch.sigmoid(functional_call(scorer, values, (s, a, q)))

    oracle = meta_gradient_by_backprop(scorer_parameters, before, weigh, errors, objective, rate)

    weight = weigh(scorer_parameters).detach()
    step = grad(lambda values: weighted_cloning_loss(weight, errors(values)))(before)
    after = {name: p - rate * step[name] for name, p in before.items()}
    c = alignments(policy, before, grad(objective)(after), s, a)
    ours = grad(lambda values: value_alignment_loss(weigh(values), c))(scorer_parameters)

    for name, expected in oracle.items():
        assert torch.allclose(rate * ours[name], expected, rtol=1e-9, atol=1e-12), name
    assert max(expected.abs().max() for expected in oracle.values()) > 1e-6, "the oracle must not be trivial"


def test_alignment_is_positive_where_cloning_climbs_the_critics_slope(float64):
    """A linear critic that rewards large actions wants actions above the policy's own."""

    class Upward(TwinCritic):
        def forward(self, observation, action):
            return torch.stack([action.sum(-1), action.sum(-1)])

    policy, critic = Policy(D, 1, (16,)), Upward(D, 1, (4,))
    s = torch.randn(1, D).expand(2, D)
    a = policy(s).detach() + torch.tensor([[0.1], [-0.1]])
    parameters = {name: p.detach() for name, p in policy.named_parameters()}
    direction = grad(lambda v: policy_objective(critic(s, functional_call(policy, v, (s,)))))(parameters)
    up, down = alignments(policy, parameters, direction, s, a)
    assert up > 0 > down


def by_autograd(function, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


def assert_equal(ours, expected):
    assert expected.abs().max() > 1e-6, "the test must not be trivial"
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_the_gradient_of_the_expectile_loss(float64):
    prediction, target = torch.randn(2, MEMBERS, BATCH)
    expected = by_autograd(lambda p: losses.expectile_loss(target - p, 0.8), prediction)
    assert_equal(losses.expectile_loss_gradient(target - prediction, 0.8), expected)


def test_the_gradient_of_cloning_errors(float64):
    predicted, action = torch.randn(2, MEMBERS, BATCH, K)
    expected = by_autograd(lambda p: losses.cloning_errors(p, action), predicted)
    assert_equal(losses.cloning_errors_gradient(predicted, action), expected)


def test_the_gradient_of_the_policy_objective(float64):
    q_values = torch.randn(2, MEMBERS, BATCH)
    expected = by_autograd(losses.policy_objective, q_values)
    assert_equal(losses.policy_objective_gradient(q_values), expected)


def test_equal_critics_share_one_gradient():
    gradient = losses.policy_objective_gradient(torch.ones(2, 4))
    assert gradient.sum(dim=0).tolist() == pytest.approx([-0.25] * 4)


def test_the_gradient_of_tanh(float64):
    argument = torch.randn(BATCH)
    assert_equal(losses.tanh_gradient(torch.tanh(argument)), by_autograd(torch.tanh, argument))


def test_the_gradient_of_the_value_alignment_loss(float64):
    score, alignment = torch.randn(2, MEMBERS, BATCH)
    expected = by_autograd(lambda s: losses.value_alignment_loss(torch.sigmoid(s), alignment), score)
    assert_equal(losses.value_alignment_loss_gradient(torch.sigmoid(score), alignment), expected)
