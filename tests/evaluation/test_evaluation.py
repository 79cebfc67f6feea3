from __future__ import annotations

import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import make_transitions, write_scores

from vaco_curate import Cut, EvaluationSettings, evaluate_policy, filter_dataset, load_curated
from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.scaling import fit_scaling
from vaco_curate.core.scorer import RowScores
from vaco_curate.core.training.draws import DRAWN_UPDATES, Draws
from vaco_curate.core.training.trainer import network_rows
from vaco_curate.curation.weights import weights_from_scores
from vaco_curate.errors import EnvironmentUnavailableError
from vaco_curate.evaluation import (
    COMPARISONS,
    CloningSettings,
    ComparisonInputs,
    Environment,
    bootstrap_interval,
    check_environment,
    clone_policies,
    normalized_return,
    reference_returns,
    rollout_returns,
)
from vaco_curate.evaluation.cloning import Cloning, falling_rate, fresh_policies
from vaco_curate.evaluation.comparisons import uniform
from vaco_curate.stages.runs import open_run

PENDULUM = Environment("Pendulum-v1")
SETTINGS = CloningSettings(updates=300, hidden=(32, 32), learning_rate=3e-3)


def clone(data, weight, seed=0):
    scaling = fit_scaling(data, reward_shift=0.0)
    (policy,) = clone_policies(data, weight[None], scaling, SETTINGS, seeds=[seed])
    return policy


def test_a_clone_depends_on_its_weights_and_its_seed_alone():
    data = two_experts()
    weights = np.stack([np.repeat([1.0, 0.0], 60), np.repeat([1.0, 3.0], 60)])
    scaling = fit_scaling(data, reward_shift=0.0)
    both = clone_policies(data, weights, scaling, SETTINGS, seeds=[3, 5])
    for policy, weight, seed in zip(both, weights, (3, 5), strict=True):
        alone = clone(data, weight, seed=seed).act(data.observation)
        assert policy.act(data.observation) == pytest.approx(alone, abs=1e-5)


def two_experts():
    """The first half of the rows acts at 0.5, the second at -0.5; extreme rows fix the scale."""
    action = np.repeat([0.5, -0.5], 60)[:, None].astype(np.float32)
    action[0], action[-1] = 1.0, -1.0
    return make_transitions(columns={"action": action})


def test_cloning_follows_the_weights():
    data = two_experts()
    first = np.repeat([1.0, 0.0], 60)
    assert clone(data, first).act(data.observation[:60]).mean() == pytest.approx(0.5, abs=0.1)
    assert clone(data, 1 - first).act(data.observation[60:]).mean() == pytest.approx(-0.5, abs=0.1)


def test_rows_are_drawn_in_proportion_to_their_weight():
    """With observations that say nothing, squared error leads to the weighted mean action."""
    data = two_experts()
    data = make_transitions(columns={"action": data.action, "observation": np.zeros((120, 1), np.float32)})
    act = clone(data, np.repeat([3.0, 1.0], 60)).act(data.observation[:1])
    assert act.item() == pytest.approx(0.75 * 0.5 - 0.25 * 0.5, abs=0.08)


def test_the_rate_falls_to_nothing_along_a_half_cosine():
    assert [falling_rate(2.0, update, 300) for update in (0, 100, 150, 300)] == pytest.approx(
        [2.0, 1.5, 1.0, 0.0]
    )
    rows = network_rows(two_experts(), fit_scaling(two_experts(), reward_shift=0.0), torch.device("cpu"))
    policies = fresh_policies(rows, (8,), [0], "highest")
    learner = Cloning(Draws(rows, [0], 0, torch.arange(120), 256), policies, SETTINGS)
    learner.run(0, SETTINGS.updates)
    last_block = SETTINGS.updates - DRAWN_UPDATES
    assert learner.optimizer.learning_rate.item() == pytest.approx(falling_rate(3e-3, last_block, 300))


def test_the_last_updates_hardly_move_the_policy():
    """Clones of six seeds differ by 0.01."""
    data = two_experts()
    data = make_transitions(columns={"action": data.action, "observation": np.zeros((120, 1), np.float32)})
    acts = [clone(data, np.repeat([3.0, 1.0], 60), seed=seed).act(data.observation[:1]) for seed in range(6)]
    assert np.ptp(acts) < 0.02


def test_a_seed_decides_the_policy():
    data = two_experts()
    one, same, other = (clone(data, np.ones(120), seed=seed).act(data.observation) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_a_saved_policy_acts_the_same(tmp_path):
    policy = clone(two_experts(), np.ones(120))
    policy.save(tmp_path, {"rule": "all"})
    s = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    assert (TrainedPolicy.load(tmp_path).act(s) == policy.act(s)).all()


class Constant:
    """A stand-in policy: the same action always."""

    def __init__(self, value, action_size, observation_size):
        self.value, self.action_size, self.observation_size = value, action_size, observation_size

    def act(self, observation):
        assert observation.shape[1] == self.observation_size
        return np.full((len(observation), self.action_size), self.value, np.float32)


def returns_by_single_environments(torque, episodes, seed):
    import gymnasium

    results = []
    for episode in range(episodes):
        env = gymnasium.make("Pendulum-v1")
        env.reset(seed=seed + episode)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(np.array([torque], np.float32))
            total, over = total + reward, terminated or truncated
        results.append(total)
        env.close()
    return results


def test_vectorized_rollouts_equal_single_environments():
    ours = rollout_returns(Constant(1.0, 1, 3), PENDULUM, episodes=3, seed=5)
    assert ours == pytest.approx(returns_by_single_environments(1.0, 3, 5))


def test_episodes_that_end_early_count_nothing_after_their_end():
    """Hopper ends when it falls; its sub-environments end at different steps."""
    environment = Environment("Hopper-v5")
    act = Constant(0.0, 3, 11)
    together = rollout_returns(act, environment, episodes=4, seed=0)
    alone = [rollout_returns(act, environment, episodes=1, seed=seed)[0] for seed in range(4)]
    assert together == pytest.approx(alone)
    assert len(set(np.round(together, 3))) > 1


def test_a_missing_environment_and_one_of_other_sizes_are_refused():
    with pytest.raises(EnvironmentUnavailableError, match="cannot be made"):
        check_environment(Environment("NoSuchThing-v3"), 3, 1)
    with pytest.raises(
        EnvironmentUnavailableError, match=r"observation 3, action 1\n.*observation 11, action 3"
    ):
        check_environment(PENDULUM, 11, 3)
    check_environment(PENDULUM, 3, 1)


def test_goal_environments_give_their_state_and_start_where_told():
    pytest.importorskip("gymnasium_robotics", reason="the mazes extra is not installed")
    maze = Environment(
        "PointMaze_UMaze-v3",
        {"continuing_task": False, "max_episode_steps": 20},
        {"reset_cell": (3, 1), "goal_cell": (3, 1)},
    )
    check_environment(maze, 4, 2)
    still = rollout_returns(Constant(0.0, 2, 4), maze, episodes=2, seed=0)
    assert still.tolist() == [1.0, 1.0], "started on the goal, both succeed at once"
    whole = rollout_returns(Constant(0.0, 2, 8), maze, episodes=1, seed=0)
    assert whole.tolist() == [1.0], "a policy of the whole goal observation sees all of it"


def test_the_parts_that_a_dataset_was_read_from_are_taken_from_the_environment_by_name():
    pytest.importorskip("gymnasium_robotics", reason="the mazes extra is not installed")
    maze = Environment("PointMaze_UMaze-v3", {"continuing_task": False})
    check_environment(maze, 6, 2, ["desired_goal", "observation"])
    check_environment(maze, 4, 2, ["observation"])
    with pytest.raises(EnvironmentUnavailableError, match="observation 4, action 2"):
        check_environment(maze, 6, 2, ["achieved_goal", "desired_goal"])


def test_normalized_return_is_0_for_random_and_100_for_expert():
    reference = reference_returns("Hopper-v5", None)
    assert normalized_return(-20.272305, reference) == 0.0
    assert normalized_return(3234.3, reference) == 100.0
    assert reference_returns("Pendulum-v1", None) is None
    assert reference_returns("Hopper-v5", (0.0, 1.0)) == (0.0, 1.0)


def test_the_bootstrap_interval_covers_the_mean_and_is_wider_between_seeds_than_within():
    generator = np.random.default_rng(0)
    within = generator.standard_normal((5, 40))
    between = within + 3 * generator.standard_normal((5, 1))
    low, high = bootstrap_interval(within)
    assert low < within.mean() < high
    wide_low, wide_high = bootstrap_interval(between)
    assert wide_high - wide_low > 3 * (high - low)
    assert bootstrap_interval(np.full((2, 3), 7.0)) == (7.0, 7.0)


@pytest.fixture
def comparison(tmp_path):
    def weights(name, data, advantage=None, budget=40):
        zeros = np.zeros(len(data), np.float32)
        scores = RowScores(*[zeros] * 4, zeros if advantage is None else advantage)
        table = write_scores(tmp_path / "scores.parquet", data, scores, reward_scale=2.0)
        return COMPARISONS[name](ComparisonInputs(data, table, budget, seed=0))

    return weights


def test_comparisons_weigh_rows_as_they_say(comparison):
    data = make_transitions()
    assert (comparison("uniform", data) == 1).all()
    random = comparison("random", data)
    assert random.sum() == 40
    assert set(random) == {0, 1}
    best = comparison("return", data)
    episodes = np.flatnonzero(best[data.episode_start])
    assert best.sum() == 40
    assert set(episodes) == set(np.argsort(-data.episode_return)[:2])
    advantage = np.linspace(-1, 1, len(data)).astype(np.float32)
    assert comparison("advantage", data, advantage) == pytest.approx(
        np.minimum(np.exp(6 * advantage), 100), rel=1e-5
    )


def test_return_keeps_at_least_the_best_episode(comparison):
    assert comparison("return", make_transitions(), budget=3).sum() == 20
    lengths = np.array([70, 30, 20])  # the longest earns most
    truncated = np.isin(np.arange(120), np.cumsum(lengths) - 1)
    columns = {"truncated": truncated, "terminated": np.zeros(120, bool), "reward": np.ones(120, np.float32)}
    weight = comparison("return", make_transitions(1, 120, columns=columns), budget=3)
    assert np.flatnonzero(weight).tolist() == list(range(70))


def test_eval_starts_episodes_of_every_seed_elsewhere_and_gives_comparisons_as_many_rows(
    pendulum_run, tmp_path, monkeypatch
):
    run = tmp_path / "pendulum.vaco"
    shutil.copytree(pendulum_run, run)
    filter_dataset(run, Cut(share=Fraction(1, 4)), out=tmp_path / "kept")
    starts, budgets = [], []

    def recorded(policy, env, *, episodes, seed, parts):
        starts.append(seed)
        return np.arange(float(episodes))

    def budget(inputs):
        budgets.append(inputs.budget)
        return uniform(inputs)

    monkeypatch.setattr("vaco_curate.stages.evaluate.rollout_returns", recorded)
    monkeypatch.setitem(COMPARISONS, "random", budget)
    settings = EvaluationSettings(cloning=CloningSettings(updates=1), episodes=2, seeds=3, against=("random",))
    evaluate_policy(tmp_path / "kept", settings, device="cpu")
    assert starts[:3] == starts[3:], "all policies are judged from the same starts"
    assert len(set(starts)) == 3
    assert min(abs(a - b) for a in set(starts) for b in set(starts) if a != b) >= 2, "episodes would coincide"
    kept = len(load_curated(tmp_path / "kept"))
    assert budgets == [kept] * 3
    evaluate_policy(run, settings, device="cpu")
    weights = weights_from_scores(open_run(run).scores.column("score"), 1.0)
    assert budgets[3:] == [round(weights.sum() ** 2 / np.square(weights).sum())] * 3
