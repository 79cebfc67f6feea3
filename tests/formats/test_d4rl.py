from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions, write_d4rl

from vaco_curate.errors import DatasetError
from vaco_curate.formats import read_dataset


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
    with pytest.raises(DatasetError, match="truncated is a single value"):
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


def test_terminals_that_follow_one_another_are_noted(tmp_path):
    """AntMaze marks success near the goal without ending the trajectory."""
    terminated = np.zeros(120, bool)
    terminated[50:60] = True
    data = make_transitions(columns={"terminated": terminated, "truncated": np.zeros(120, bool)})
    assert any("AntMaze" in note for note in read_dataset(str(write_d4rl(tmp_path / "d.hdf5", data))).notes)


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
