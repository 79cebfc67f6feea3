"""Rewards that tell nothing: equal returns, and rewards that no target uses."""

from __future__ import annotations

import numpy as np
import pytest
from field.episodes import episodes, truth_of
from field.lerobot_cases import feature, write_episodes
from helpers import make_transitions, tiny_settings

from vaco_curate import apply_scorer, score_dataset
from vaco_curate.core.rewards import FEW_VALUES, RewardUse, are_equal, magnitude
from vaco_curate.core.scaling import fit_scaling
from vaco_curate.data.formats import ReadOptions
from vaco_curate.errors import DatasetError

LENGTHS = [12, 15, 20, 20, 9, 20]
SUCCESS = [True, True, False, False, True, False]


def demonstrations(folder):
    """LeRobot episodes of which some succeed: next.success on the last frame, and no other end or reward."""
    found = episodes(np.random.default_rng(0), LENGTHS, "none", d=4, k=3)

    def success(number, one):
        return {"next.success": (np.arange(len(one)) == len(one) - 1) & SUCCESS[number]}

    write_episodes(folder, found, {"next.success": feature("bool", 1)}, success)
    return folder


def test_a_success_flag_as_the_only_reward_is_refused_with_the_fix(tmp_path):
    source = demonstrations(tmp_path / "demos")
    options = ReadOptions(columns={"reward": "next.success"})
    with pytest.raises(DatasetError, match=r'3 of the 3 rewards other than 0(.|\n)*success="next.success"\);'):
        score_dataset(source, out=tmp_path / "run.vaco", settings=tiny_settings(), read_options=options)
    assert not (tmp_path / "run.vaco.partial").exists()


def test_with_the_fix_it_is_scored_and_a_scorer_is_not_applied_without_it(tmp_path):
    source = demonstrations(tmp_path / "demos")
    options = ReadOptions(columns={"reward": "next.success", "terminated": "next.success"})
    run = score_dataset(
        source, out=tmp_path / "run.vaco", settings=tiny_settings(), read_options=options, device="cpu"
    ).run
    with pytest.raises(DatasetError, match="rewards other than 0"):
        apply_scorer(
            source,
            run,
            out=tmp_path / "applied.vaco",
            read_options=ReadOptions(columns={"reward": "next.success"}),
        )
    assert not (tmp_path / "applied.vaco").exists()


def test_sparse_rewards_on_true_ends_and_dense_rewards_are_used():
    for reward in (np.random.default_rng(0).standard_normal(120), np.arange(120) % 20 == 19):
        data = make_transitions(
            columns={"reward": np.asarray(reward, np.float32), "terminated": np.arange(120) % 20 == 19}
        )
        use = RewardUse()
        use.add(data)
        use.refuse_unused("log")


def test_counts_of_parts_add_up_as_json_too():
    reward = np.zeros(120, np.float32)
    reward[[19, 39, 59]] = 1.0  # 39 is at a time limit, whose successor is not known
    data = make_transitions(columns={"reward": reward})
    use, parts = RewardUse(), RewardUse()
    use.add(data)
    for piece in (data, data):
        one = RewardUse()
        one.add(piece)
        parts.add_json(one.to_json())
    assert parts.to_json()["counts"] == [
        [value, 2 * all_, 2 * lost] for value, all_, lost in use.to_json()["counts"]
    ]
    assert use.to_json()["counts"] == [[0.0, 117, 2], [1.0, 3, 1]]


def test_many_different_rewards_are_no_sparse_ones():
    reward = np.arange(120, dtype=np.float32) % (FEW_VALUES + 1)
    use = RewardUse()
    use.add(make_transitions(columns={"reward": reward}))
    assert use.to_json() == {"sparse": False, "counts": []}


def returns(*values):
    """Episodes of 20 rows whose rewards, large and of both signs, sum to the values but for rounding."""
    rng = np.random.default_rng(0)
    rewards = []
    for value in values:
        steps = rng.normal(size=20) * 5
        rewards.append((steps - steps.mean() + value / 20).astype(np.float32))
    return make_transitions(episodes=len(values), columns={"reward": np.concatenate(rewards)})


def test_returns_that_differ_by_rounding_are_equal_and_others_are_not():
    data = returns(1.0, 1.0, 1.0)
    found = data.episode_return
    assert np.ptp(found) > 0
    assert are_equal(found.min(), found.max(), magnitude(data))
    assert not are_equal(1.0, 1.001, magnitude(data))


@pytest.mark.parametrize(("values", "size"), [((1.0, 1.0, 1.0), 1.0), ((0.0, 0.0, 0.0), 60.0)])
def test_equal_returns_give_a_reward_scale_of_their_size(values, size):
    """Rounding as a range would give a scale of a billion."""
    data = returns(*values)
    scaling = fit_scaling(data, reward_shift=0.0)
    assert scaling.reward_scale == pytest.approx(20 / size, rel=0.4)


def test_equal_returns_are_warned_of(tmp_path):
    from field.d4rl_cases import telescoping_rewards

    source, _ = telescoping_rewards(tmp_path)
    result = score_dataset(source, out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu")
    assert any("all episodes have the same return" in warning for warning in result.warnings)


def test_a_nearly_constant_action_is_not_blown_up():
    action = np.random.default_rng(0).uniform(-300, 300, (120, 3))
    action[:, 1] = 0.5 + 1e-9 * action[:, 1]
    action[:, 2] *= 1e-12
    scaling = fit_scaling(make_transitions(action_size=3, columns={"action": action}), reward_shift=0.0)
    scaled = scaling.action(action)
    assert np.ptp(scaled[:, 0]) == pytest.approx(2.0)
    assert np.abs(scaled[:, 1:]).max() < 1e-5


def test_small_actions_keep_their_range():
    action = np.random.default_rng(0).uniform(-1e-5, 1e-5, (120, 2))
    data = make_transitions(columns={"action": action})
    scaled = fit_scaling(data, reward_shift=0.0).action(action)
    assert np.ptp(scaled, axis=0) == pytest.approx([2.0, 2.0])


def test_rows_that_are_all_equal_are_refused(tmp_path):
    from field.episodes import write_hdf5

    truth = truth_of(episodes(np.random.default_rng(0), [1], "terminal"))
    for name, rows in (("one", [0]), ("equal", [0] * 30)):
        path = write_hdf5(tmp_path / f"{name}.hdf5", truth.take(np.array(rows)))
        with pytest.raises(DatasetError, match="nothing to tell apart"):
            score_dataset(path, out=tmp_path / f"{name}.vaco", settings=tiny_settings())
