"""Every closed-form gradient against autograd of its loss, in float64."""

from __future__ import annotations

import pytest
import torch

from vaco_curate import gradients, losses
from vaco_curate.networks import bounded

MEMBERS, BATCH, K = 2, 9, 3


def by_autograd(function, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(function(at).sum(), at)[0]


def assert_equal(ours, expected):
    assert expected.abs().max() > 1e-6, "the test must not be trivial"
    assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_expectile_loss(float64):
    prediction, target = torch.randn(2, MEMBERS, BATCH)
    expected = by_autograd(lambda p: losses.expectile_loss(target - p, 0.8), prediction)
    assert_equal(gradients.expectile_loss_gradient(target - prediction, 0.8), expected)


def test_cloning_errors(float64):
    predicted, action = torch.randn(2, MEMBERS, BATCH, K)
    expected = by_autograd(lambda p: losses.cloning_errors(p, action), predicted)
    assert_equal(gradients.cloning_errors_gradient(predicted, action), expected)


def test_policy_objective(float64):
    q_values = torch.randn(2, MEMBERS, BATCH)
    row_weight = torch.rand(q_values.shape[1:])
    expected = by_autograd(lambda values: losses.policy_objective(values, row_weight), q_values)
    assert_equal(gradients.policy_objective_gradient(q_values, row_weight), expected)


def test_equal_critics_share_one_gradient():
    gradient = gradients.policy_objective_gradient(torch.ones(2, 4))
    assert gradient.sum(dim=0).tolist() == pytest.approx([-0.25] * 4)


def test_tanh(float64):
    argument = torch.randn(BATCH)
    assert_equal(gradients.tanh_gradient(torch.tanh(argument)), by_autograd(torch.tanh, argument))


def test_bounded(float64):
    output = 4.0 * torch.randn(BATCH)
    expected = by_autograd(lambda o: bounded(o, 5.0), output)
    assert_equal(gradients.bounded_gradient(bounded(output, 5.0), 5.0), expected)


@pytest.mark.parametrize("normalized", [True, False])
def test_value_alignment_loss(float64, normalized):
    log_weight, alignment = torch.randn(2, MEMBERS, BATCH)

    def loss(values):
        return losses.value_alignment_loss(losses.batch_weights(values, normalized=normalized), alignment)

    weight = losses.batch_weights(log_weight, normalized=normalized)
    ours = gradients.value_alignment_loss_gradient(weight, alignment, normalized=normalized)
    assert_equal(ours, by_autograd(loss, log_weight))


def test_divergence_from_prior(float64):
    log_weight, log_prior = 3.0 * torch.randn(2, MEMBERS, BATCH)
    expected = by_autograd(lambda values: losses.divergence_from_prior(values, log_prior), log_weight)
    assert_equal(gradients.divergence_from_prior_gradient(log_weight, log_prior), expected)


@pytest.mark.parametrize("activation", losses.LOG_WEIGHT)
def test_log_weight(float64, activation):
    assert gradients.LOG_WEIGHT_GRADIENT.keys() == losses.LOG_WEIGHT.keys()
    score = torch.randn(BATCH)
    expected = by_autograd(losses.LOG_WEIGHT[activation], score)
    assert_equal(gradients.LOG_WEIGHT_GRADIENT[activation](score), expected)
