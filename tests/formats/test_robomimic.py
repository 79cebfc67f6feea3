"""Files in robomimic's layout, by h5py: its package writes none, and its own sample is not part of it."""

from __future__ import annotations

import gc
import json

import h5py
import numpy as np
import pytest

from vaco_curate.data.formats import ReadOptions, open_dataset, read_dataset
from vaco_curate.errors import DatasetError

LENGTHS = (3, 4, 2, 5, 3, 3, 3, 3, 3, 3, 6)


def write_robomimic(path, *, next_obs=True, images=False, rewards=True, env_args=None):
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS)
        data.attrs["env_args"] = json.dumps(env_args or {"env_name": "Lift", "type": 1, "env_kwargs": {}})
        for number, length in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            states = {"eef_pos": (3,), "gripper": (1,), **({"agentview_image": (4, 4, 3)} if images else {})}
            for name, shape in states.items():
                values = generator.standard_normal((length + 1, *shape))
                demo[f"obs/{name}"] = values[:-1]
                if next_obs:
                    demo[f"next_obs/{name}"] = values[1:]
            demo["actions"] = generator.uniform(-1, 1, (length, 2))
            demo["dones"] = (
                (np.arange(length) == length - 1).astype(np.int64) if number % 2 else np.zeros(length)
            )
            if rewards:
                demo["rewards"] = demo["dones"][()].astype(np.float64)
        file["mask/train"] = np.array([b"demo_0", b"demo_10"])
    return str(path)


def test_demonstrations_are_read_in_the_order_of_their_numbers(tmp_path):
    source = write_robomimic(tmp_path / "demo.hdf5")
    data = read_dataset(source)
    assert data.format == "robomimic"
    assert data.episode_length.tolist() == list(LENGTHS)
    with h5py.File(source) as file:
        last = file["data/demo_10"]
        assert (data.observation[-6:, :3] == last["obs/eef_pos"][()]).all()
        assert (data.observation[-6:, 3:] == last["obs/gripper"][()]).all()
        assert (data.next_observation[-6:, :3] == last["next_obs/eef_pos"][()]).all()
        assert (data.action[-6:] == last["actions"][()]).all()
    assert data.observation_parts == (("eef_pos", 3), ("gripper", 1))
    assert data.has_successor.all()
    last_rows = np.cumsum(LENGTHS) - 1
    assert data.terminated[last_rows].tolist() == [bool(number % 2) for number in range(11)]
    assert (data.truncated[last_rows] == ~data.terminated[last_rows]).all()


def test_without_next_observations_the_last_step_of_a_demonstration_has_no_successor(tmp_path):
    data = read_dataset(write_robomimic(tmp_path / "demo.hdf5", next_obs=False))
    assert np.flatnonzero(~data.has_successor).tolist() == (np.cumsum(LENGTHS) - 1).tolist()
    assert (data.next_observation[0] == data.observation[1]).all()


def test_images_are_refused_unless_they_are_dropped(tmp_path):
    source = write_robomimic(tmp_path / "demo.hdf5", images=True)
    with pytest.raises(
        DatasetError, match=r'images are not supported(.|\n)*drop_columns=\["agentview_image"\]'
    ):
        read_dataset(source)
    kept = read_dataset(source, ReadOptions(drop_columns=("agentview_image",)))
    assert kept.observation_size == 4
    with pytest.raises(DatasetError, match=r'drop_columns=\["depth"\]\): no such part(.|\n)*agentview_image'):
        read_dataset(source, ReadOptions(drop_columns=("depth",)))


def test_filter_keys_are_labels_of_the_rows(tmp_path):
    dataset = open_dataset(write_robomimic(tmp_path / "demo.hdf5"))
    assert dataset.further.labels == ("mask/train", "source_file")
    label = dataset.further.label("mask/train")
    assert np.flatnonzero(label).tolist() == [0, 1, 2, *range(sum(LENGTHS) - 6, sum(LENGTHS))]


def test_a_file_without_rewards_says_so(tmp_path):
    dataset = open_dataset(write_robomimic(tmp_path / "demo.hdf5", rewards=False))
    assert not dataset.has_rewards
    assert "no rewards: all are read as 0" in dataset.read().notes


def test_only_gymnasium_environments_are_named(tmp_path):
    assert read_dataset(write_robomimic(tmp_path / "a.hdf5")).env_id is None
    gym = {"env_name": "Hopper-v5", "type": 2}
    assert read_dataset(write_robomimic(tmp_path / "b.hdf5", env_args=gym)).env_id == "Hopper-v5"


def test_states_without_observations_are_refused_with_what_extracts_them(tmp_path):
    with h5py.File(tmp_path / "demo.hdf5", "w") as file:
        file["data/demo_0/actions"] = np.zeros((3, 2))
        file["data/demo_0/states"] = np.zeros((3, 9))
    with pytest.raises(DatasetError, match=r"demo_0 has no obs(.|\n)*dataset_states_to_obs"):
        read_dataset(str(tmp_path / "demo.hdf5"))


def test_damaged_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "array.hdf5", "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DatasetError, match="missing observations"):
        open_dataset(str(tmp_path / "array.hdf5"))
    source = write_robomimic(tmp_path / "demo.hdf5")
    with h5py.File(source, "r+") as file:
        del file["data/demo_3/obs/gripper"]
    with pytest.raises(
        DatasetError, match="data/demo_3/obs/gripper is missing, which other demonstrations have"
    ):
        open_dataset(source)
    with h5py.File(tmp_path / "lost.hdf5", "w") as file:
        file["data"] = h5py.ExternalLink(str(tmp_path / "gone.hdf5"), "data")
    with pytest.raises(DatasetError):
        open_dataset(str(tmp_path / "lost.hdf5"))


def test_files_whose_observations_are_made_of_other_parts_are_refused(tmp_path):
    write_robomimic(tmp_path / "a.hdf5")
    with h5py.File(write_robomimic(tmp_path / "b.hdf5"), "r+") as file:
        for demo in file["data"].values():
            demo.move("obs/gripper", "obs/hand")
            demo.move("next_obs/gripper", "next_obs/hand")
    with pytest.raises(DatasetError, match=r"other parts in .*b\.hdf5(.|\n)*hand"):
        read_dataset(str(tmp_path))


def test_a_file_that_is_linked_to_is_closed_after_reading(tmp_path):
    """Without the help of the garbage collector: a writer may want the file next."""
    source = write_robomimic(tmp_path / "demo.hdf5")
    with h5py.File(tmp_path / "link.hdf5", "w") as file:
        file["data"] = h5py.ExternalLink(str(source), "data")
    gc.disable()
    try:
        read_dataset(str(tmp_path / "link.hdf5"))
        with h5py.File(source, "r+") as file:
            assert "data" in file
    finally:
        gc.enable()
