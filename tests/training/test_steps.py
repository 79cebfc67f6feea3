"""The two update steps against known solutions and oracles."""

from __future__ import annotations

import copy

import pytest
import torch
from reference import (
    bilevel_step,
    reference_bilevel_state,
    reference_value_state,
    value_step,
)
from torch.func import functional_call, grad

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.losses import (
    cloning_errors,
    policy_objective,
    weighted_cloning_loss,
)
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.training.bilevel_update import BilevelUpdate, create_bilevel_state
from vaco_curate.core.training.settings import BilevelSettings, ValueSettings
from vaco_curate.core.training.value_update import ValueUpdate, create_value_state


def chain() -> Rows:
    """Three states in a row; from each, action +1 earns 1 and action -1 earns 0; the third step ends."""
    action = torch.tensor([[1.0], [-1.0]]).repeat(3, 1)
    return Rows.of(
        observation=torch.eye(3).repeat_interleave(2, dim=0),
        action=action,
        reward=(action[:, 0] > 0).to(action.dtype),
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


def fresh_value_state(settings, d, k):
    return reference_value_state(ValueNetwork(d, settings.hidden), TwinCritic(d, k, settings.hidden), settings)


@pytest.mark.parametrize("expectile", [0.5, 0.8])
def test_value_steps_converge_to_the_values_of_a_chain(expectile):
    settings = ValueSettings(
        expectile=expectile, discount=0.9, hidden=(32, 32), learning_rate=3e-3, polyak=0.05
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = fresh_value_state(settings, 3, 1)
    batch = chain()
    for _ in range(1500):
        value_step(state, batch, settings)
    value, q_value = solution(expectile, 0.9)
    assert state.value(torch.eye(3)).tolist() == pytest.approx(value, abs=0.03)
    for twin in state.critic(batch.observation, batch.action):
        assert twin.tolist() == pytest.approx(q_value, abs=0.03)


def test_values_are_fitted_to_the_target_critic_which_follows_by_its_share():
    settings = ValueSettings(hidden=(8,), polyak=0.25)
    state = fresh_value_state(settings, 3, 1)
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


def random_rows(*shape):
    return Rows.of(
        observation=torch.randn(*shape, D),
        action=torch.rand(*shape, K) * 2 - 1,
        next_observation=torch.randn(*shape, D),
        reward=torch.randn(*shape),
        terminated=torch.rand(*shape) < 0.2,
    )


def test_a_bilevel_step_is_gradient_descent_on_both_levels(float64):
    """With plain gradient steps in place of Adam, phi and alpha move exactly as the equations say."""
    rate = 0.05
    policy, scorer = Policy(D, K, (16, 16)), ScorerNetwork(D, K, (16, 16))
    state = reference_bilevel_state(copy.deepcopy(policy), copy.deepcopy(scorer), BilevelSettings())
    state.policy_optimizer = torch.optim.SGD(state.policy.parameters(), lr=rate)
    state.scorer_optimizer = torch.optim.SGD(state.scorer.parameters(), lr=1.0)
    critic = TwinCritic(D, K, (16, 16)).requires_grad_(False)
    batch, q_input, perturbation = random_rows(ROWS), torch.randn(ROWS), 0.3 * torch.randn(ROWS, D)
    phi = {name: p.detach().clone() for name, p in policy.named_parameters()}
    alpha = {name: p.detach().clone() for name, p in scorer.named_parameters()}

    def cloning(values, weight):
        predicted = functional_call(policy, values, (batch.observation,))
        return weighted_cloning_loss(weight, cloning_errors(predicted, batch.action))

    def after_lower_step(values):
        score = functional_call(scorer, values, (batch.observation, batch.action, q_input))
        step = grad(cloning)(phi, torch.sigmoid(score))
        return {name: p - rate * step[name] for name, p in phi.items()}

    def upper_level(values):
        acted = functional_call(policy, after_lower_step(values), (batch.observation + perturbation,))
        return policy_objective(critic(batch.observation, acted)) / rate  # the step's loss is over eta_1

    expected_phi, gradient = after_lower_step(alpha), grad(upper_level)(alpha)
    bilevel_step(state, critic, batch, q_input, perturbation)

    for name, parameter in state.policy.named_parameters():
        assert torch.allclose(parameter, expected_phi[name], rtol=1e-9, atol=1e-12), name
    for name, parameter in state.scorer.named_parameters():
        assert torch.allclose(parameter, alpha[name] - gradient[name], rtol=1e-8, atol=1e-10), name


MEMBERS, BATCH, STEPS = 3, 16, 8


def networks(make):
    return [make() for _ in range(MEMBERS)]


def assert_members_equal(stack, modules, *, tolerance):
    for member, module in enumerate(modules):
        copied = copy.deepcopy(module)
        stack.write_to(member, copied)
        for name, parameter in copied.state_dict().items():
            expected = module.state_dict()[name]
            assert torch.allclose(parameter, expected, rtol=0, atol=tolerance), (member, name)


def assert_metrics_equal(metrics, references, *, tolerance):
    for member, reference in enumerate(references):
        for name, expected in reference.items():
            assert metrics[name][member].item() == pytest.approx(expected.item(), abs=tolerance), name


def value_updates(hidden, precision="highest", rate=1e-2):
    """Fast and reference states after the same updates of the same networks, and their last metrics."""
    settings = ValueSettings(batch_size=BATCH, hidden=hidden, learning_rate=rate, polyak=0.1)
    values, critics = networks(lambda: ValueNetwork(D, hidden)), networks(lambda: TwinCritic(D, K, hidden))
    plain = [reference_value_state(v, c, settings) for v, c in zip(values, critics, strict=True)]
    twins = [critic.first for critic in critics] + [critic.second for critic in critics]
    state = create_value_state(
        StackedMLP.of([value.layers for value in values], hidden_precision=precision),
        StackedMLP.of(twins, hidden_precision=precision),
        settings,
    )
    update = ValueUpdate(state, settings)
    for _ in range(STEPS):
        batch = random_rows(MEMBERS, BATCH)
        metrics = update(batch)
        references = [value_step(p, member(batch, i), settings) for i, p in enumerate(plain)]
    return state, plain, metrics, references


def member(batch, number):
    return Rows(batch.values[number], D, K, batch.device)


@pytest.mark.parametrize("hidden", [(16, 16), (8,), (12, 10, 8)])
def test_the_fast_value_update_is_the_reference_update(float64, hidden):
    state, plain, metrics, references = value_updates(hidden)
    assert_metrics_equal(metrics, references, tolerance=1e-12)
    assert_members_equal(state.value, [p.value.layers for p in plain], tolerance=1e-12)
    for stack, name in ((state.critic, "critic"), (state.target_critic, "target_critic")):
        critics = [getattr(p, name) for p in plain]
        twins = [critic.first for critic in critics] + [critic.second for critic in critics]
        assert_members_equal(stack, twins, tolerance=1e-12)


def bilevel_updates(hidden, precision="highest", rate=1e-2):
    settings = BilevelSettings(
        batch_size=BATCH, hidden=hidden, policy_learning_rate=rate, scorer_learning_rate=rate
    )
    policies = networks(lambda: Policy(D, K, hidden))
    scorers = networks(lambda: ScorerNetwork(D, K, hidden))
    critics = networks(lambda: TwinCritic(D, K, hidden).requires_grad_(False))
    plain = [reference_bilevel_state(p, s, settings) for p, s in zip(policies, scorers, strict=True)]
    stacks = (
        StackedMLP.of([n.layers for n in group], hidden_precision=precision) for group in (policies, scorers)
    )
    state = create_bilevel_state(*stacks, settings)
    twins = [critic.first for critic in critics] + [critic.second for critic in critics]
    update = BilevelUpdate(state, StackedMLP.of(twins, hidden_precision=precision), BATCH)
    for _ in range(STEPS):
        batch, q_input = random_rows(MEMBERS, BATCH), torch.randn(MEMBERS, BATCH)
        noise = 0.5 * torch.randn(MEMBERS, BATCH, D)
        features = torch.cat([batch.pair, q_input.unsqueeze(-1)], dim=-1)
        metrics = update(batch, features, batch.observation + noise, batch.pair.clone())
        references = [
            bilevel_step(p, critics[i], member(batch, i), q_input[i], noise[i]) for i, p in enumerate(plain)
        ]
    return state, plain, metrics, references


@pytest.mark.parametrize("hidden", [(16, 16), (8,), (12, 10, 8)])
def test_the_fast_bilevel_update_is_the_reference_update(float64, hidden):
    state, plain, metrics, references = bilevel_updates(hidden)
    assert_metrics_equal(metrics, references, tolerance=1e-11)
    assert_members_equal(state.policy, [p.policy.layers for p in plain], tolerance=1e-11)
    assert_members_equal(state.scorer, [p.scorer.layers for p in plain], tolerance=1e-11)


@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 1e-5), ("medium", 5e-2)])
def test_in_float32_the_fast_updates_stay_near_the_reference(precision, tolerance):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, _, metrics, references = value_updates((256, 256), precision, rate=3e-4)
        assert_metrics_equal(metrics, references, tolerance=tolerance)
        _, _, metrics, references = bilevel_updates((256, 256), precision, rate=3e-4)
        assert_metrics_equal(metrics, references, tolerance=tolerance)
