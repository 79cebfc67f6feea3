"""Updates by Triton's kernels are the other updates: on a GPU where there is one, else by its interpreter."""

from __future__ import annotations

import os

import pytest
import torch

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.passes import has_triton
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.training.bilevel_update import BilevelUpdate, create_bilevel_state
from vaco_curate.core.training.lower_level import CloningUpdate
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.settings import BilevelSettings, ValueSettings
from vaco_curate.core.training.value_update import ValueUpdate, create_value_state

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are declared

if not has_triton():
    pytest.skip(
        "there is no Triton of a version that was tried; it comes with torch for CUDA", allow_module_level=True
    )

from vaco_curate.core.training.triton_updates import (
    TritonBilevelUpdate,
    TritonCloningUpdate,
    TritonValueUpdate,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH, STEPS = 37, 3
TOLERANCE = 1e-3 if torch.cuda.is_available() else 2e-5
"""Relative. A GPU's float32 products are three of TF32, and some metrics are means that nearly cancel."""
CASES = {
    "two members": (2, 11, 3, (32, 48)),
    "one of everything": (1, 1, 1, (16, 16)),
    "hopper": (1, 11, 3, (256, 256)),
}
cases = pytest.mark.parametrize(("members", "d", "k", "hidden"), CASES.values(), ids=CASES)


def stack_of(members, *sizes, seed):
    generator = torch.Generator().manual_seed(seed)
    stack = StackedMLP(members, sizes, dtype=torch.float32, device=DEVICE)
    stack.flat.copy_(torch.randn(stack.flat.shape, generator=generator) * 0.2)
    return stack


def rows(members, d, k, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*columns):
        return torch.randn(members, BATCH, *columns, generator=generator)

    made = Rows.of(normal(d), torch.tanh(normal(k)), normal(d), normal(), normal() > 1.0)
    return made.like(made.values.to(DEVICE))


def assert_same(ours, expected, name):
    error = (ours - expected).norm() / expected.norm().clamp_min(1e-3)
    assert error < TOLERANCE, (name, error)


def assert_same_optimizers(ours, expected):
    assert ours.steps == expected.steps
    for name in ("parameters", "first", "second"):
        for number, (a, b) in enumerate(zip(getattr(ours, name), getattr(expected, name), strict=True)):
            assert_same(a, b, f"{name} {number}")


def assert_same_metrics(ours, expected):
    assert list(ours) == list(expected)
    for name in ours:
        assert_same(ours[name], expected[name], name)


@cases
def test_a_value_update(members, d, k, hidden):
    settings = ValueSettings(batch_size=BATCH, hidden=hidden, learning_rate=1e-3, polyak=0.1)

    def state():
        value, critic = (
            stack_of(members, d, *hidden, 1, seed=1),
            stack_of(2 * members, d + k, *hidden, 1, seed=2),
        )
        made = create_value_state(value, critic, settings)
        made.target_critic.flat.add_(0.01)
        return made

    ours, expected = state(), state()
    update, reference = TritonValueUpdate(ours, settings), ValueUpdate(expected, settings)
    for step in range(STEPS):
        batch = rows(members, d, k, step)
        assert_same_metrics(update(batch), reference(batch))
    assert_same(update.advantage, reference.advantage, "advantage")
    assert_same_optimizers(ours.optimizer, expected.optimizer)
    assert_same(ours.target_critic.flat, expected.target_critic.flat, "targets")


@cases
def test_a_cloning_update(members, d, k, hidden):
    made = []
    for kind in (TritonCloningUpdate, CloningUpdate):
        policy = stack_of(members, d, *hidden, k, seed=1)
        made.append(kind(policy, Adam([policy], 1e-3), BATCH))
    ours, expected = made
    for step in range(STEPS):
        batch = rows(members, d, k, step)
        weight = torch.rand(members, BATCH, generator=torch.Generator().manual_seed(step)).to(DEVICE)
        arguments = batch.observation, batch.action, weight
        assert_same(ours(*arguments), expected(*arguments), "actions")
    assert_same_optimizers(ours.optimizer, expected.optimizer)


@cases
def test_a_bilevel_update(members, d, k, hidden):
    settings = BilevelSettings(batch_size=BATCH, hidden=hidden, policy_learning_rate=1e-3)
    made = []
    for kind in (TritonBilevelUpdate, BilevelUpdate):
        state = create_bilevel_state(
            stack_of(members, d, *hidden, k, seed=1), stack_of(members, d + k + 1, *hidden, 1, seed=2), settings
        )
        made.append((state, kind(state, stack_of(2 * members, d + k, *hidden, 1, seed=3), BATCH)))
    (ours, update), (expected, reference) = made
    for step in range(STEPS):
        batch = rows(members, d, k, step)
        generator = torch.Generator().manual_seed(step)
        q_input = torch.randn(members, BATCH, 1, generator=generator).to(DEVICE)
        noise = torch.randn(members, BATCH, d, generator=generator).to(DEVICE)
        arguments = batch, torch.cat([batch.pair, q_input], dim=-1), batch.observation + noise
        pairs = batch.pair.clone(), batch.pair.clone()
        assert_same_metrics(update(*arguments, pairs[0]), reference(*arguments, pairs[1]))
        assert_same(*pairs, "the policy's actions at noisy states")
    assert_same_optimizers(ours.policy_optimizer, expected.policy_optimizer)
    assert_same_optimizers(ours.scorer_optimizer, expected.scorer_optimizer)
