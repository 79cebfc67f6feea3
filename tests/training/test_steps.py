"""The two update steps against known solutions and oracles."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call, grad

from vaco_curate.batches import Rows
from vaco_curate.losses import (
    LOG_WEIGHT,
    batch_weights,
    cloning_errors,
    divergence_from_prior,
    policy_objective,
    weighted_cloning_loss,
)
from vaco_curate.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.bilevel_phase import BilevelUpdate, create_bilevel_state
from vaco_curate.training.reference import (
    bilevel_step,
    reference_bilevel_state,
    reference_value_state,
    value_step,
)
from vaco_curate.training.settings import BilevelSettings, ValueSettings
from vaco_curate.training.value_phase import ValueUpdate, create_value_state


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


@pytest.mark.parametrize("noise_on", ["state", "action"])
@pytest.mark.parametrize(("coefficient", "of_data"), [(0.0, 0.0), (0.7, 0.0), (0.7, 0.4)])
@pytest.mark.parametrize("normalized", [True, False])
def test_a_bilevel_step_is_gradient_descent_on_both_levels(float64, noise_on, coefficient, of_data, normalized):
    """With plain gradient steps in place of Adam, phi and alpha move exactly as the equations say."""
    rate = 0.05
    settings = BilevelSettings(
        hidden=(16, 16),
        noise_on=noise_on,
        normalize_weights=normalized,
        standardize_alignment=False,
        divergence_coefficient=coefficient,
        data_divergence_coefficient=of_data,
    )
    state = reference_bilevel_state(
        Policy(D, K, (16, 16)), ScorerNetwork(D, K, (16, 16), settings.score_bound), settings
    )
    state.policy_optimizer = torch.optim.SGD(state.policy.parameters(), lr=rate)
    state.scorer_optimizer = torch.optim.SGD(state.scorer.parameters(), lr=1.0)
    critic = TwinCritic(D, K, (16, 16)).requires_grad_(False)
    batch, q_input, log_prior = random_rows(ROWS), torch.randn(ROWS), torch.randn(ROWS)
    policy, scorer = copy.deepcopy(state.policy), copy.deepcopy(state.scorer)
    phi = {name: p.detach().clone() for name, p in policy.named_parameters()}
    alpha = {name: p.detach().clone() for name, p in scorer.named_parameters()}
    perturbation = 0.3 * torch.randn(ROWS, D if noise_on == "state" else K)

    states = batch_weights(log_prior, normalized=True)

    def log_weight(values):
        score = functional_call(scorer, values, (batch.observation, batch.action, q_input))
        return log_prior + LOG_WEIGHT["exp"](score)

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
        value_part = policy_objective(critic(batch.observation, acted), states) / rate
        own = log_weight(values) - log_prior
        return (
            value_part
            + coefficient * divergence_from_prior(own + log_prior, log_prior)
            + of_data * divergence_from_prior(own, torch.zeros(ROWS))
        )

    expected_phi, gradient = after_lower_step(alpha), grad(upper_level)(alpha)
    bilevel_step(state, critic, batch, q_input, log_prior, perturbation, settings)

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


BILEVEL_VARIANTS = {
    "default": {},
    "action noise": {"noise_on": "action"},
    "states of the data": {"upper_states": "data"},
    "other inputs": {"inputs": ("action", "value")},
    "paper": {
        "activation": "sigmoid",
        "score_bound": None,
        "normalize_weights": False,
        "standardize_alignment": False,
        "divergence_coefficient": 0.0,
        "data_divergence_coefficient": 0.0,
    },
    "sigmoid that competes": {"activation": "sigmoid", "divergence_coefficient": 0.5},
}


def bilevel_updates(hidden, precision="highest", rate=1e-2, **variant):
    settings = BilevelSettings(
        batch_size=BATCH, hidden=hidden, policy_learning_rate=rate, scorer_learning_rate=rate, **variant
    )
    policies = networks(lambda: Policy(D, K, hidden))
    scorers = networks(lambda: ScorerNetwork(D, K, hidden, settings.score_bound, settings.inputs))
    critics = networks(lambda: TwinCritic(D, K, hidden).requires_grad_(False))
    plain = [reference_bilevel_state(p, s, settings) for p, s in zip(policies, scorers, strict=True)]
    stacks = (
        StackedMLP.of([n.layers for n in group], hidden_precision=precision) for group in (policies, scorers)
    )
    state = create_bilevel_state(*stacks, settings)
    twins = [critic.first for critic in critics] + [critic.second for critic in critics]
    update = BilevelUpdate(state, StackedMLP.of(twins, hidden_precision=precision), settings)
    for _ in range(STEPS):
        batch, q_input, log_prior = random_rows(MEMBERS, BATCH), *torch.randn(2, MEMBERS, BATCH)
        value = torch.randn(MEMBERS, BATCH)
        noise = 0.5 * torch.randn(MEMBERS, BATCH, D if settings.noise_on == "state" else K)
        metrics = update(batch, q_input, log_prior, noise, value)
        references = [
            bilevel_step(
                p, critics[i], member(batch, i), q_input[i], log_prior[i], noise[i], settings, value[i]
            )
            for i, p in enumerate(plain)
        ]
    return state, plain, metrics, references


@pytest.mark.parametrize("hidden", [(16, 16), (8,), (12, 10, 8)])
@pytest.mark.parametrize("variant", BILEVEL_VARIANTS)
def test_the_fast_bilevel_update_is_the_reference_update(float64, variant, hidden):
    state, plain, metrics, references = bilevel_updates(hidden, **BILEVEL_VARIANTS[variant])
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


def test_the_exported_scorer_is_the_moving_average_of_the_steps(float64):
    settings = BilevelSettings(batch_size=BATCH, hidden=(8,), scorer_learning_rate=0.1, scorer_average=0.75)
    policy, scorer, twins = Policy(D, K, (8,)), ScorerNetwork(D, K, (8,), 5.0), TwinCritic(D, K, (8,))
    state = create_bilevel_state(StackedMLP.of([policy.layers]), StackedMLP.of([scorer.layers]), settings)
    update = BilevelUpdate(state, StackedMLP.of([twins.first, twins.second]), settings)
    expected = state.scorer.flat.clone()
    for _ in range(3):
        update(random_rows(1, BATCH), *torch.randn(2, 1, BATCH), torch.zeros(1, BATCH, D))
        expected = 0.75 * expected + 0.25 * state.scorer.flat
    assert torch.allclose(state.averaged_scorer.flat, expected, rtol=1e-12)
    assert not torch.allclose(state.averaged_scorer.flat, state.scorer.flat)
