from __future__ import annotations

import h5py
import numpy as np
import pytest

from vaco_curate.data.formats import ReadOptions, read_dataset
from vaco_curate.errors import DatasetError


@pytest.fixture(scope="module")
def components():
    """d3rlpy's own classes, which write the files."""
    return pytest.importorskip("d3rlpy.dataset", reason="the d3rlpy extra is not installed")


def episodes(components, observation=lambda generator, n: generator.standard_normal((n, 3)).astype(np.float32)):
    generator = np.random.default_rng(0)
    return [
        components.Episode(
            observations=observation(generator, length),
            actions=generator.uniform(-1, 1, (length, 2)).astype(np.float32),
            rewards=generator.standard_normal((length, 1)).astype(np.float32),
            terminated=number % 2 == 0,
        )
        for number, length in enumerate((4, 6, 3))
    ]


def dump(components, path, found):
    with path.open("w+b") as file:
        components.ReplayBuffer(components.InfiniteBuffer(), episodes=found).dump(file)
    return str(path)


def test_a_dumped_replay_buffer_is_read(components, tmp_path):
    found = episodes(components)
    data = read_dataset(dump(components, tmp_path / "buffer.h5", found))
    assert data.format == "d3rlpy"
    assert data.episode_length.tolist() == [4, 6, 3]
    assert (data.observation == np.concatenate([episode.observations for episode in found])).all()
    assert (data.action == np.concatenate([episode.actions for episode in found])).all()
    assert (data.reward == np.concatenate([episode.rewards[:, 0] for episode in found])).all()
    assert np.flatnonzero(data.terminated).tolist() == [3, 12]
    assert np.flatnonzero(data.truncated).tolist() == [9]
    assert np.flatnonzero(~data.has_successor).tolist() == [3, 9, 12]


def test_tuple_observations_are_joined_by_their_numbers(components, tmp_path):
    def pair(generator, n):
        return [generator.standard_normal((n, size)).astype(np.float32) for size in (3, 2)]

    source = dump(components, tmp_path / "buffer.h5", episodes(components, pair))
    data = read_dataset(source)
    assert data.observation_parts == (("0", 3), ("1", 2))
    assert (read_dataset(source, ReadOptions(drop_columns=("1",))).observation == data.observation[:, :3]).all()


def test_images_are_refused(components, tmp_path):
    def picture(generator, n):
        return generator.integers(0, 255, (n, 3, 8, 8)).astype(np.uint8)

    with pytest.raises(DatasetError, match="images are not supported"):
        read_dataset(dump(components, tmp_path / "buffer.h5", episodes(components, picture)))


def test_a_flat_file_of_version_1_is_read(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file["observations"], file["actions"] = np.zeros((6, 3), np.float32), np.zeros((6, 1), np.float32)
        file["rewards"] = np.arange(6.0).reshape(6, 1)
        file["terminals"] = np.array([0, 0, 1, 0, 0, 0.0])
        file["episode_terminals"] = np.array([0, 0, 1, 0, 0, 1.0])
        file["discrete_action"] = False
    data = read_dataset(str(tmp_path / "old.h5"))
    assert data.episode_length.tolist() == [3, 3]
    assert data.terminated.tolist() == [False, False, True, False, False, False]
    assert data.truncated.tolist() == [False] * 5 + [True]
