from __future__ import annotations

import dataclasses
import inspect
import sys

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from vaco_curate.data.formats import ReadOptions, open_dataset, read_dataset
from vaco_curate.data.formats import minari as minari_format
from vaco_curate.errors import DatasetError

BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTIONS = spaces.Box(-2.0, 2.0, (1,), np.float32)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def episode(number, length, observations):
    generator = np.random.default_rng(number)
    terminations, truncations = np.zeros(length, bool), np.zeros(length, bool)
    if length:
        terminations[-1], truncations[-1] = number % 2 == 0, number % 2 == 1
    return EpisodeBuffer(
        id=number,
        observations=observations,
        actions=generator.uniform(-2, 2, (length, 1)).astype(np.float32),
        rewards=generator.standard_normal(length).tolist(),
        terminations=terminations.tolist(),
        truncations=truncations.tolist(),
        infos={},
    )


def create(name, buffers, space=BOX, **options):
    known = inspect.signature(minari.create_dataset_from_buffers).parameters
    options = {option: value for option, value in options.items() if option in known}  # older ones have fewer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)
        return minari.create_dataset_from_buffers(
            name, buffers, observation_space=space, action_space=ACTIONS, **options
        )


def vectors(number, length):
    return np.random.default_rng(100 + number).standard_normal((length + 1, 3))


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_every_storage_reads_with_the_observation_after_each_row(store, data_format):
    lengths = (5, 8)
    buffers = [episode(i, n, vectors(i, n)) for i, n in enumerate(lengths)]
    create("test/plain-v0", buffers, data_format=data_format)
    data = read_dataset("test/plain-v0")
    assert data.format == "minari"
    assert data.episode_length.tolist() == [5, 8]
    assert data.has_successor.all()
    assert data.observation[5:] == pytest.approx(vectors(1, 8)[:-1])
    assert data.next_observation[5:] == pytest.approx(vectors(1, 8)[1:])
    assert data.terminated[4]
    assert data.truncated[12]
    assert data.action_low == pytest.approx([-2.0])


def test_an_id_without_a_namespace_is_read(store):
    create("plain-v0", [episode(0, 5, vectors(0, 5))])
    assert len(read_dataset("plain-v0")) == 5


def test_discrete_and_mixed_actions_are_refused(store):
    buffer = episode(0, 5, vectors(0, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)
        minari.create_dataset_from_buffers(
            "test/discrete-v0",
            [dataclasses.replace(buffer, actions=np.zeros(5, np.int64))],
            observation_space=BOX,
            action_space=spaces.Discrete(2),
        )
    with pytest.raises(DatasetError, match="continuous control"):
        read_dataset("test/discrete-v0")


def test_reader_options_of_other_formats_are_refused(store):
    create("test/plain-v0", [episode(0, 5, vectors(0, 5))])
    with pytest.raises(DatasetError, match=r"leave out read_options\.columns"):
        read_dataset("test/plain-v0", ReadOptions(max_episode_steps=3))


def test_the_folder_of_a_dataset_reads_like_its_id(store):
    create("test/plain-v0", [episode(0, 5, vectors(0, 5))])
    by_id = read_dataset("test/plain-v0")
    for folder in (store / "test" / "plain-v0", store / "test" / "plain-v0" / "data"):
        assert read_dataset(str(folder)).fingerprint == by_id.fingerprint


def test_dict_observations_are_concatenated_and_named(store):
    space = spaces.Dict({"goal": spaces.Box(-1, 1, (2,)), "observation": BOX})
    observations = {"goal": np.ones((6, 2), np.float32), "observation": vectors(0, 5)}
    create("test/goal-v0", [episode(0, 5, observations)], space)
    data = read_dataset("test/goal-v0")
    assert data.observation_size == 5
    assert data.notes == ("observation concatenates goal, observation",)


def test_nested_dicts_and_tuples_are_joined_by_their_paths(store):
    space = spaces.Dict({"arm": spaces.Tuple((spaces.Box(-9, 9, (2,)), spaces.Box(-9, 9, (1,)))), "goal": BOX})
    arm = (np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6, dtype=np.float32)[:, None])
    create("test/nested-v0", [episode(0, 5, {"arm": arm, "goal": vectors(0, 5)})], space)
    data = read_dataset("test/nested-v0")
    assert data.observation_parts == (("arm.0", 2), ("arm.1", 1), ("goal", 3))
    assert (data.observation[:, :3] == np.concatenate(arm, axis=1)[:-1]).all()
    dropped = read_dataset("test/nested-v0", ReadOptions(drop_columns=("arm",)))
    assert (dropped.observation == vectors(0, 5)[:-1]).all()


def test_images_beside_a_state_can_be_dropped(store):
    space = spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8), "state": BOX})
    observations = {"camera": np.zeros((6, 8, 8, 3), np.uint8), "state": vectors(0, 5)}
    create("test/camera-v0", [episode(0, 5, observations)], space, jpeg_encoding=False)
    with pytest.raises(
        DatasetError, match=r'observation camera has shape \(8, 8, 3\)(.|\n)*drop_columns=\["camera"\]'
    ):
        read_dataset("test/camera-v0")
    data = read_dataset("test/camera-v0", ReadOptions(drop_columns=("camera",)))
    assert (data.observation == vectors(0, 5)[:-1]).all()


def test_an_id_to_fetch_goes_through_minaris_own_client(store, monkeypatch):
    create("test/plain-v0", [episode(0, 5, vectors(0, 5))])
    monkeypatch.setattr(minari, "download_dataset", lambda name: pytest.fail("it is in the local store"))
    assert len(read_dataset("minari:test/plain-v0")) == 5

    def fetch(name):
        create(name, [episode(0, 7, vectors(0, 7))])

    monkeypatch.setattr(minari, "download_dataset", fetch)
    assert len(read_dataset("minari:test/remote-v0")) == 7

    def offline(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(minari, "download_dataset", offline)
    with pytest.raises(DatasetError, match=r"could not fetch(.|\n)*no route(.|\n)*minari list remote"):
        read_dataset("minari:test/other-v0")


def test_images_are_refused(store):
    space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    create("test/image-v0", [episode(0, 5, np.zeros((6, 8, 8, 3), np.uint8))], space, jpeg_encoding=False)
    with pytest.raises(DatasetError, match="images are not supported"):
        read_dataset("test/image-v0")


def test_images_stored_as_jpeg_are_no_vectors_of_bytes(store, monkeypatch):
    """Minari 0.5.3 stores them so, and gives the bytes back."""
    create("test/bytes-v0", [episode(0, 5, vectors(0, 5))])
    image = property(lambda dataset: spaces.Box(0, 255, (8, 8, 3), np.uint8))
    monkeypatch.setattr(minari.MinariDataset, "observation_space", image)
    with pytest.raises(DatasetError, match=r"shape \(8, 8, 3\) per step: images are not supported"):
        read_dataset("test/bytes-v0")


def test_an_episode_of_length_zero_is_refused(store, monkeypatch):
    create("test/plain-v0", [episode(0, 5, vectors(0, 5)), episode(1, 4, vectors(1, 4))])
    real = minari.MinariDataset.iterate_episodes

    def with_empty(self, *args):
        for found in real(self, *args):
            empty = {"rewards": found.rewards[:0]} if found.id == 1 else {}
            yield dataclasses.replace(found, **empty)

    monkeypatch.setattr(minari.MinariDataset, "iterate_episodes", with_empty)
    with pytest.raises(DatasetError, match="episode 1 has zero steps"):
        read_dataset("test/plain-v0")


def test_arrow_storage_cut_at_32767_steps_is_refused_with_the_reason(store):
    """Farama-Foundation/Minari issue 351."""
    length = minari_format.CUT_LENGTH + 200
    create("test/long-v0", [episode(0, length, vectors(0, length))], data_format="arrow")
    with pytest.raises(DatasetError, match=r"32767(.|\n)*issue 351"):
        read_dataset("test/long-v0")


def test_the_environment_of_the_dataset_is_known(store):
    env = gymnasium.make("Pendulum-v1")
    create("test/env-v0", [episode(0, 5, vectors(0, 5))], env=env)
    env.close()
    data = read_dataset("test/env-v0")
    assert data.env_id == "Pendulum-v1"
    assert data.env_kwargs == {"max_episode_steps": 200}


def test_a_damaged_store_is_refused(store):
    create("test/plain-v0", [episode(0, 5, vectors(0, 5))])
    (store / "test" / "plain-v0" / "data" / "main_data.hdf5").write_text("no")
    with pytest.raises(DatasetError, match="Minari cannot read"):
        read_dataset("test/plain-v0")


def test_what_others_print_while_a_dataset_is_read_is_not_held_back(store, capsys):
    create("test/plain-v0", [episode(number, 5, vectors(number, 5)) for number in range(4)])
    for piece in open_dataset("test/plain-v0").pieces(5):
        sys.stdout.write(f"{len(piece)}\n")
    assert capsys.readouterr().out.split() == ["5"] * 4
