from __future__ import annotations

import numpy as np
import pytest

from vaco_curate.data.formats import dataset as dataset_module
from vaco_curate.data.formats import open_dataset, read_dataset
from vaco_curate.errors import DatasetError

LENGTH, COUNT = 5, 4


def write_ogbench(path, *, save=np.savez_compressed, **extra):
    """Trajectories of four transitions: five rows each, the last of them the state that was reached."""
    generator = np.random.default_rng(0)
    rows = LENGTH * COUNT
    arrays = {
        "observations": generator.standard_normal((rows, 3)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "terminals": (np.arange(rows) % LENGTH == LENGTH - 1),
        "qpos": generator.standard_normal((rows, 7)),
    } | extra
    save(path, **arrays)
    return str(path), arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_keep_their_numbers_and_the_last_of_a_trajectory_has_no_successor(tmp_path, save):
    source, arrays = write_ogbench(tmp_path / "play.npz", save=save)
    data = read_dataset(source)
    assert data.format == "ogbench"
    assert (data.observation == arrays["observations"]).all()
    assert (data.action == arrays["actions"]).all()
    assert data.episode_length.tolist() == [LENGTH] * COUNT
    assert np.flatnonzero(~data.has_successor).tolist() == [4, 9, 14, 19]


def test_terminals_are_ends_of_trajectories_and_not_true_ends(tmp_path):
    data = read_dataset(write_ogbench(tmp_path / "play.npz")[0])
    assert not data.terminated.any()
    assert np.flatnonzero(data.truncated).tolist() == [4, 9, 14, 19]


def test_without_a_task_there_are_no_rewards_and_it_is_said(tmp_path):
    dataset = open_dataset(write_ogbench(tmp_path / "play.npz")[0])
    assert not dataset.has_rewards
    assert any("no rewards" in note for note in dataset.read().notes)


def test_rewards_and_masks_of_a_task_that_was_chosen_are_read(tmp_path):
    rows = LENGTH * COUNT
    rewards, masks = -np.ones(rows, np.float32), np.ones(rows, np.float32)
    rewards[7], masks[7] = 0.0, 0.0
    dataset = open_dataset(write_ogbench(tmp_path / "task.npz", rewards=rewards, masks=masks)[0])
    data = dataset.read()
    assert dataset.has_rewards
    assert (data.reward == rewards).all()
    assert np.flatnonzero(data.terminated).tolist() == [7]


def test_an_archive_is_read_in_pieces(tmp_path, monkeypatch):
    source, arrays = write_ogbench(tmp_path / "play.npz", button=np.arange(20))
    whole = read_dataset(source)
    monkeypatch.setattr(dataset_module, "PIECE_ROWS", 7)
    dataset = open_dataset(source)
    pieces = list(dataset.pieces())
    assert [len(piece) for piece in pieces] == [5, 5, 5, 5]
    assert dataset.read().fingerprint == whole.fingerprint
    assert (dataset.further.label("button") == arrays["button"]).all()


def test_pictures_and_what_is_no_archive_are_refused(tmp_path):
    pictures = np.zeros((LENGTH * COUNT, 8, 8, 3), np.uint8)
    with pytest.raises(DatasetError, match="images are not supported"):
        read_dataset(write_ogbench(tmp_path / "visual.npz", observations=pictures)[0])
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DatasetError, match="not a readable npz file"):
        read_dataset(str(tmp_path / "text.npz"))
    whole = (tmp_path / "visual.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="not a readable npz file"):
        read_dataset(str(tmp_path / "cut.npz"))
    np.savez(tmp_path / "other.npz", observations=np.zeros((3, 2)))
    with pytest.raises(DatasetError, match="missing actions, terminals"):
        read_dataset(str(tmp_path / "other.npz"))
