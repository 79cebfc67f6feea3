from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions, write_d4rl

from vaco_curate.data.formats import open_dataset, read_dataset
from vaco_curate.errors import DatasetError


def test_the_arrays_of_the_file_are_read_bit_for_bit(tmp_path):
    data = make_transitions(env_id="Pendulum-v1")
    read = read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data)))
    for name in ("observation", "action", "reward", "terminated", "truncated", "episode_id", "step_index"):
        assert (getattr(read, name) == getattr(data, name)).all(), name
    assert read.env_id == "Pendulum-v1"
    assert read.fingerprint == data.fingerprint


def test_the_action_space_of_a_named_environment_is_known(tmp_path):
    data = make_transitions(env_id="Pendulum-v1", action_size=1, observation_size=3)
    read = read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data)))
    assert read.action_low == pytest.approx([-2.0])
    assert read.action_high == pytest.approx([2.0])


def test_an_unknown_environment_leaves_the_action_space_unknown(tmp_path):
    read = read_dataset(str(write_d4rl(tmp_path / "d.hdf5", make_transitions(env_id="NoSuchThing-v7"))))
    assert read.action_low is None


def test_keys_that_are_not_ours_are_never_read(tmp_path):
    data = make_transitions()
    labels = {"infos/behavior": np.arange(len(data)), "metadata/version": 3}
    assert read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data, **labels))).fingerprint == data.fingerprint


def test_a_missing_key_is_named_with_what_was_found(tmp_path):
    path = write_d4rl(tmp_path / "d.hdf5", make_transitions(), rewards=None)
    with pytest.raises(DatasetError, match=r"missing rewards\n.*found: actions, observations"):
        read_dataset(str(path))


def test_a_scalar_in_place_of_a_column_is_refused(tmp_path):
    path = write_d4rl(tmp_path / "d.hdf5", make_transitions(), timeouts=0)
    with pytest.raises(DatasetError, match="timeouts is a single value"):
        read_dataset(str(path))


def test_a_group_in_place_of_an_array_is_refused(tmp_path):
    nested = {"observations": None, "observations/state": np.zeros((120, 4), np.float32)}
    path = write_d4rl(tmp_path / "d.hdf5", make_transitions(), **nested)
    with pytest.raises(DatasetError, match=r"observations is a group(.|\n)*state"):
        read_dataset(str(path))


def test_an_environment_of_another_action_size_is_noted_and_not_used(tmp_path):
    read = read_dataset(str(write_d4rl(tmp_path / "d.hdf5", make_transitions(env_id="Pendulum-v1"))))
    assert read.action_low is None
    assert "another size" in read.notes[0]


def antmaze(path, *, timeouts):
    """Three trajectories of a body that walks from 0 towards 8 and stays at the goal a while."""
    length, walked = 240, 200
    position = np.minimum(np.arange(length), walked) * 0.04
    position[walked:] += 0.01 * np.arange(length - walked)
    observation = np.zeros((3 * length, 6), np.float32)
    observation[:, 0] = np.tile(position, 3)
    terminals = np.tile(np.arange(length) >= walked, 3).astype(np.float32)
    data = make_transitions(length=length, episodes=3, columns={"observation": observation})
    goals = {"infos/goal": np.full((3 * length, 2), 8.0)}
    return write_d4rl(path, data, terminals=terminals, timeouts=timeouts, rewards=terminals, **goals)


def test_antmaze_terminals_mark_the_goal_and_do_not_end_a_trajectory(tmp_path):
    timeouts = np.arange(720) % 240 == 239
    data = read_dataset(str(antmaze(tmp_path / "d.hdf5", timeouts=timeouts)))
    assert data.episode_length.tolist() == [240, 240, 240]
    assert data.terminated.sum() == 3 * 40
    assert data.is_learnable.all()
    assert "as in AntMaze" in data.notes[0]


def test_episodes_that_begin_at_the_goal_do_not_make_it_an_antmaze(tmp_path):
    terminated = np.zeros(120, bool)
    terminated[[20, 21, 22, 50, 80, 81, 110]] = True
    data = make_transitions(columns={"terminated": terminated, "truncated": np.zeros(120, bool)})
    read = read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data)))
    assert read.episode_length.tolist() == [21, 1, 1, 28, 30, 1, 29, 9]


def test_antmaze_v0_timeouts_out_of_step_give_way_to_jumps_in_position(tmp_path):
    timeouts = np.arange(720) % 241 == 240
    data = read_dataset(str(antmaze(tmp_path / "d.hdf5", timeouts=timeouts)))
    assert data.episode_length.tolist() == [240, 240, 240]
    assert (data.next_observation[:199, 0] > data.observation[:199, 0]).all()
    assert "out of step" in data.notes[1]


def maze2d(path, *, jump_at=None, **extra):
    position = np.cumsum(np.full((90, 2), 0.01), axis=0)
    if jump_at is not None:
        position[jump_at:] += 3.0
    observation = np.concatenate([position, np.ones((90, 2))], axis=1).astype(np.float32)
    data = make_transitions(
        episodes=1,
        length=90,
        columns={
            "observation": observation,
            "terminated": np.zeros(90, bool),
            "truncated": np.isin(np.arange(90), [20, 55, 70]),
        },
    )
    return write_d4rl(path, data, **({"infos/goal": np.zeros((90, 2))} | extra))


def test_maze2d_timeouts_mark_waypoints_of_one_trajectory(tmp_path):
    data = read_dataset(str(maze2d(tmp_path / "d.hdf5")))
    assert data.episode_length.tolist() == [21, 35, 15, 19]
    assert np.flatnonzero(~data.has_successor).tolist() == [89]
    assert (data.next_observation[:-1] == data.observation[1:]).all()
    assert "as in Maze2D" in data.notes[0]


def test_timeouts_are_time_limits_where_the_body_is_set_down_anew_or_no_goals_are_recorded(tmp_path):
    for path in (maze2d(tmp_path / "a.hdf5", jump_at=21), maze2d(tmp_path / "b.hdf5", **{"infos/goal": None})):
        data = read_dataset(str(path))
        assert np.flatnonzero(~data.has_successor).tolist() == [20, 55, 70, 89]


def test_kitchen_infos_are_an_array_and_not_a_group(tmp_path):
    data = make_transitions()
    dataset = open_dataset(str(write_d4rl(tmp_path / "d.hdf5", data, infos=np.arange(120))))
    assert dataset.read().fingerprint == data.fingerprint
    assert dataset.further.label("infos").tolist() == list(range(120))


def test_flags_of_any_number_type_and_columns_of_one_are_read(tmp_path):
    data = make_transitions()
    path = write_d4rl(
        tmp_path / "d.hdf5",
        data,
        terminals=data.terminated.astype(np.float32)[:, None],
        timeouts=data.truncated.astype(np.int8),
        rewards=data.reward[:, None],
    )
    assert read_dataset(str(path)).fingerprint == data.fingerprint


def test_rows_keep_the_numbers_of_the_file_where_others_drop_rows(tmp_path):
    """The reference reader drops the last row of each trajectory that timed out, and that of the file."""
    data = make_transitions()
    assert len(read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data)))) == len(data)


def test_episodes_end_at_flags_and_not_at_a_row_short_of_the_step_limit(tmp_path):
    """A known library splits 999 of 1,000 rows and drifts by one an episode."""
    count = 2_000
    truncated = np.isin(np.arange(count), [999, 1998])
    data = make_transitions(
        episodes=2, length=1_000, columns={"terminated": np.zeros(count, bool), "truncated": truncated}
    )
    read = read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data)))
    assert read.episode_length.tolist() == [1000, 999, 1]


def test_a_truncated_file_and_a_file_of_another_kind_are_refused(tmp_path):
    whole = write_d4rl(tmp_path / "whole.hdf5", make_transitions(episodes=60)).read_bytes()
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(whole[: len(whole) // 2])
    text = tmp_path / "text.hdf5"
    text.write_text("hello")
    for path in (cut, text):
        with pytest.raises(DatasetError, match="not a readable HDF5 file"):
            read_dataset(str(path))


def test_a_missing_file_is_refused():
    with pytest.raises(DatasetError, match="no such file"):
        read_dataset("nowhere.hdf5")
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_dataset("nowhere")


def test_a_file_of_unknown_format_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n")
    with pytest.raises(DatasetError, match=r"known format(.|\n)*D4RL(.|\n)*Minari"):
        read_dataset(str(tmp_path / "data.csv"))
