from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions

from vaco_curate.data.columns import transitions_from_columns
from vaco_curate.errors import DatasetError


def columns(count=10, **changes):
    generator = np.random.default_rng(0)
    base = {
        "observation": generator.standard_normal((count, 3)).astype(np.float32),
        "action": generator.standard_normal((count, 2)).astype(np.float32),
        "reward": np.ones(count, np.float32),
        "terminated": np.zeros(count, bool),
        "truncated": np.zeros(count, bool),
    }
    return {name: value for name, value in (base | changes).items() if value is not None}


def build(**changes):
    facts = {name: changes.pop(name) for name in ("max_episode_steps",) if name in changes}
    return transitions_from_columns(columns(**changes), source="data", format_name="test", **facts)


def flags(*rows, count=10):
    values = np.zeros(count, bool)
    values[list(rows)] = True
    return values


def test_a_rows_successor_is_the_next_row_of_the_same_episode():
    data = build(truncated=flags(4), terminated=flags(7))
    assert data.has_successor.tolist() == [True] * 4 + [False] + [True] * 2 + [False] + [True, False]
    rows = np.flatnonzero(data.has_successor)
    assert (data.next_observation[rows] == data.observation[rows + 1]).all()


def test_a_time_limit_row_without_successor_is_left_out_of_learning_and_a_true_end_is_not():
    data = build(truncated=flags(4), terminated=flags(7))
    assert np.flatnonzero(~data.is_learnable).tolist() == [4, 9]


def test_stored_next_observations_are_used_also_at_a_time_limit():
    following = np.full((10, 3), 7.0, np.float32)
    data = build(truncated=flags(4), next_observation=following)
    assert data.has_successor.all()
    assert (data.next_observation == 7.0).all()


def test_without_time_limit_flags_the_step_limit_cuts_episodes_and_a_note_says_so():
    data = build(truncated=None, terminated=flags(5), max_episode_steps=3)
    assert data.episode_length.tolist() == [3, 3, 3, 1]
    assert data.truncated.tolist() == flags(2, 8).tolist()
    assert "3 steps" in data.notes[0]


def test_without_flags_and_limit_episodes_end_at_terminals_only():
    data = build(truncated=None, terminated=flags(5))
    assert data.episode_length.tolist() == [6, 4]
    assert "read_options.max_episode_steps" in data.notes[0]


def test_flags_may_be_floats_and_columns_may_be_n_by_1():
    data = build(terminated=flags(3).astype(np.float32)[:, None], reward=np.ones((10, 1), np.float32))
    assert data.terminated.tolist() == flags(3).tolist()
    assert data.reward.shape == (10,)


def test_float64_columns_keep_their_type():
    assert build(observation=np.zeros((10, 3))).observation.dtype == np.float64


def test_episode_returns_sum_their_rewards():
    data = build(reward=np.arange(10, dtype=np.float32), truncated=flags(3))
    assert data.episode_return.tolist() == [6.0, 39.0]


def test_holes_split_an_episode_into_paths():
    data = build(episode_id=np.repeat([0, 1], 5), step_index=np.array([0, 1, 5, 6, 7, 0, 1, 2, 3, 9]))
    assert data.path_start.tolist() == [0, 2, 5, 9]
    assert not data.has_successor[[1, 4, 8, 9]].any()


def test_a_path_ends_at_a_true_end_and_where_the_stored_successor_is_another_state():
    following = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    observation = np.concatenate([following[:1], following[:-1]])
    following = following.copy()
    following[3] = 99.0  # a reset without a flag
    data = build(
        observation=observation,
        next_observation=following,
        terminated=flags(6),
        episode_id=np.zeros(10, int),
        step_index=np.arange(10),
    )
    assert data.path_start.tolist() == [0, 4, 7]


@pytest.mark.parametrize("name", ["observation", "action", "reward", "next_observation"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_the_first_bad_row(name, bad):
    values = columns(next_observation=np.zeros((10, 3), np.float32))[name].copy()
    values[6] = bad
    values[8] = bad
    with pytest.raises(
        DatasetError, match=rf"{name} is NaN or infinite in row 6 \(episode \d, step \d\) and 1 more"
    ):
        build(**{"next_observation": np.zeros((10, 3), np.float32), name: values})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": None}, "no column for reward"),
        ({"reward": np.ones(9, np.float32)}, "differ in length"),
        ({"truncated": flags(1, count=9)}, "differ in length"),
        ({"action": np.zeros((10, 2), np.int64)}, "continuous control"),
        ({"terminated": np.full(10, 2.0)}, "flags must be 0 or 1"),
        ({"observation": np.zeros((10, 8, 8), np.float32)}, "images"),
        ({"observation": np.array([["a"]] * 10)}, "not numbers"),
        ({"count": 0}, "zero rows"),
        ({"episode_id": np.array([0, 0, 1, 1, 0, 0, 2, 2, 2, 2])}, "more begin at row 4"),
        ({"episode_id": np.zeros(10, int), "step_index": np.zeros(10, int)}, "does not increase at row 1"),
    ],
)
def test_bad_columns_are_refused_with_what_is_wrong(changes, message):
    with pytest.raises(DatasetError, match=message):
        build(**changes)


def test_the_fingerprint_depends_on_the_contents_only():
    data = make_transitions()
    assert data.fingerprint == make_transitions().fingerprint
    assert data.fingerprint != make_transitions(seed=1).fingerprint
    changed = data.reward.copy()
    changed[7] += 1e-6
    assert data.fingerprint != make_transitions(columns={"reward": changed}).fingerprint
