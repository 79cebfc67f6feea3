"""Every closed-form gradient against autograd of its loss, in float64."""

from __future__ import annotations

import pytest
import torch

from vaco_curate.core import gradients, losses

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
    expected = by_autograd(losses.policy_objective, q_values)
    assert_equal(gradients.policy_objective_gradient(q_values), expected)


def test_equal_critics_share_one_gradient():
    gradient = gradients.policy_objective_gradient(torch.ones(2, 4))
    assert gradient.sum(dim=0).tolist() == pytest.approx([-0.25] * 4)


def test_tanh(float64):
    argument = torch.randn(BATCH)
    assert_equal(gradients.tanh_gradient(torch.tanh(argument)), by_autograd(torch.tanh, argument))


def test_value_alignment_loss(float64):
    score, alignment = torch.randn(2, MEMBERS, BATCH)
    expected = by_autograd(lambda s: losses.value_alignment_loss(torch.sigmoid(s), alignment), score)
    assert_equal(gradients.value_alignment_loss_gradient(torch.sigmoid(score), alignment), expected)
