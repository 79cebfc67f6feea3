"""What is written in a format reads back, by our reader and by the format's own library."""

from __future__ import annotations

import h5py
import minari
import numpy as np
import pytest
from formats.test_robomimic import LENGTHS, write_robomimic
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate import load_curated
from vaco_curate.data.formats import WRITERS, Target, open_dataset, read_dataset, robomimic
from vaco_curate.errors import DatasetError

SAME = ("observation", "action", "reward", "terminated", "episode_id", "step_index")


def write(tmp_path, data, file_format, rows=None, extra=None):
    folder = tmp_path / file_format
    folder.mkdir()
    writer = WRITERS[file_format].writer(Target(folder, ["data"], [len(data)], {"rule": "a test"}))
    writer.write(data, np.arange(len(data)) if rows is None else rows, extra or {})
    writer.close()
    return folder


def stored_successors(data):
    """The same rows with the state after every row known, as where next observations are recorded."""
    columns = {name: getattr(data, name) for name in (*SAME, "truncated")}
    following = np.where(data.has_successor[:, None], data.next_observation, data.observation + 1)
    return make_transitions(columns=columns | {"next_observation": following})


@pytest.mark.parametrize("file_format", WRITERS)
def test_rows_with_known_successors_round_trip_through_every_format(tmp_path, file_format):
    data = stored_successors(make_transitions())
    read = read_dataset(str(write(tmp_path, data, file_format)))
    for name in (*SAME, "truncated", "next_observation", "has_successor"):
        assert getattr(read, name).dtype == getattr(data, name).dtype, name
        assert (getattr(read, name) == getattr(data, name)).all(), name


@pytest.mark.parametrize("file_format", ["parquet", "d4rl"])
def test_rows_without_a_successor_stay_without_one(tmp_path, file_format):
    data = make_transitions()
    read = read_dataset(str(write(tmp_path, data, file_format)))
    assert (read.has_successor == data.has_successor).all()


def test_d4rl_holes_get_a_timeout_so_that_no_reader_bridges_them(tmp_path):
    data = make_transitions()
    rows = np.array([0, 1, 2, 5, 6, 18, 19, 20, 21])
    folder = write(tmp_path, data, "d4rl", rows, {"weight": np.linspace(0, 1, 9, dtype=np.float32)})
    with h5py.File(folder / "data.hdf5") as file:
        ends = file["timeouts"][()] | file["terminals"][()]
        assert ends.tolist() == [False, False, True, False, True, False, True, False, True]
        assert (file["infos/weight"][()] == np.linspace(0, 1, 9, dtype=np.float32)).all()
        assert file["infos/index"][()].tolist() == rows.tolist()
    read = read_dataset(str(folder))
    assert (read.next_observation[[2, 4]] == data.observation[[3, 7]]).all()


@pytest.mark.parametrize(("rows", "said"), [([0, 1, 2, 5], 1), ([*range(20), *range(40, 60)], 0)])
def test_holes_in_d4rls_layout_are_said(tmp_path, rows, said):
    writer = WRITERS["d4rl"].writer(Target(tmp_path, ["data"], [120], {}))
    writer.write(make_transitions(), np.array(rows), {})
    writer.close()
    assert len(writer.notes) == said
    assert all("must heed timeouts" in note for note in writer.notes)


def test_what_we_wrote_in_d4rls_layout_means_what_it_says(tmp_path):
    """True ends that follow one another are no AntMaze here; rows keep their episodes and steps."""
    data = make_transitions(episodes=40, length=4)
    rows = np.flatnonzero(data.step_index != 1)
    rows = rows[(data.step_index[rows] > 1) | (data.episode_id[rows] < 5)]
    read = read_dataset(str(write(tmp_path, data, "d4rl", rows)))
    for name in (*SAME, "truncated", "has_successor"):
        assert (getattr(read, name) == getattr(data, name)[rows]).all(), name
    assert read.notes == ()


def test_minari_opens_what_was_written_with_infos_and_bounds(tmp_path):
    data = stored_successors(make_transitions())
    folder = write(tmp_path, data, "minari", extra={"weight": np.arange(120, dtype=np.float32)})
    dataset = minari.MinariDataset(folder)
    assert dataset.total_steps == 120
    episode = dataset[3]
    assert (episode.observations[:-1] == data.observation[60:80]).all()
    assert (episode.infos["weight"] == np.arange(60, 80)).all()


def test_a_minari_subset_is_rebuilt_so_that_what_was_left_out_cannot_come_back(tmp_path):
    """Combining a view of its own brings excluded episodes back (Farama-Foundation/Minari issue 350)."""
    data = stored_successors(make_transitions())
    folder = write(tmp_path, data, "minari", rows=np.flatnonzero(data.episode_id % 2 == 1))
    dataset = minari.MinariDataset(folder)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 60)
    with h5py.File(folder / "main_data.hdf5") as file:
        assert len(file) == 3
        assert (file["episode_1/observations"][:-1] == data.observation[60:80]).all()


def test_minari_leaves_out_a_last_row_whose_successor_is_unknown(tmp_path):
    data = make_transitions()
    read = read_dataset(str(write(tmp_path, data, "minari")))
    kept = data.is_learnable
    assert len(read) == kept.sum() == 117
    assert (read.observation == data.observation[kept]).all()
    assert (read.next_observation[38] == data.observation[39]).all()


def test_rows_that_minari_leaves_out_are_counted(tmp_path):
    (tmp_path / "m").mkdir()
    writer = WRITERS["minari"].writer(Target(tmp_path / "m", ["data"], [120], {}))
    writer.write(make_transitions(), np.arange(120), {})
    writer.close()
    assert writer.notes[0].startswith("3 row(s), the last of their episodes, are left out")


def test_minari_does_not_hold_a_part_of_an_episode(tmp_path):
    with pytest.raises(DatasetError, match=r'of episode 1 5 of 20 rows are kept(.|\n)*level="episode"'):
        write(tmp_path, make_transitions(), "minari", rows=np.arange(25))


def test_minari_episodes_end_where_a_stored_successor_is_not_the_next_observation(tmp_path):
    data = stored_successors(make_transitions(episodes=1))
    following = data.next_observation.copy()
    following[9] += 1
    columns = {name: getattr(data, name) for name in (*SAME, "truncated")} | {"next_observation": following}
    read = read_dataset(str(write(tmp_path, make_transitions(columns=columns), "minari")))
    assert read.episode_length.tolist() == [10, 10]
    assert (read.next_observation == following).all()


def test_a_filter_key_names_whole_demonstrations_beside_a_link_to_the_data(tmp_path):
    source = open_dataset(write_robomimic(tmp_path / "demo.hdf5"))
    keep = np.isin(np.repeat(np.arange(11), LENGTHS), [1, 10])
    (tmp_path / "out").mkdir()
    robomimic.write_masks(tmp_path / "out", source, keep, "best")
    with h5py.File(tmp_path / "out" / "demo.filtered.hdf5") as file:
        assert [name.decode() for name in file["mask/best"]] == ["demo_1", "demo_10"]
        assert [name.decode() for name in file["mask/train"]] == ["demo_0", "demo_10"]
        assert file["data"].attrs["total"] == sum(LENGTHS)
        assert len(file["data/demo_10/obs/eef_pos"]) == LENGTHS[10]
    linked = open_dataset(str(tmp_path / "out" / "demo.filtered.hdf5"))
    assert (linked.further.label("mask/best") == keep).all()
    part = keep.copy()
    part[0] = True
    with pytest.raises(DatasetError, match="of demo_0 1 of 3 rows are kept"):
        robomimic.write_masks(tmp_path / "out", source, part, "best")
    other = open_dataset(str(write_d4rl(tmp_path / "d.hdf5", make_transitions())))
    with pytest.raises(DatasetError, match="this is d4rl"):
        robomimic.write_masks(tmp_path / "out", other, keep, "best")


@pytest.mark.parametrize("name", ["best.minari", "my best", "x.top50pctep"])
def test_minari_opens_what_is_written_under_any_name(vaco, scored, name):
    made = vaco("filter", "--top", "50%ep", "--format", "minari", "--out", name)
    assert made.code == 0, made.stderr
    assert minari.MinariDataset(scored / name / "data").total_episodes == 10
    assert load_curated(scored / name).weight.mean() == 1


def test_minari_lists_and_loads_what_is_written_into_its_store(vaco, scored, monkeypatch):
    store = scored / "store"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(store))
    command = ("filter", "--top", "50%", "--level", "episode", "--format", "minari", "--out")
    assert vaco(*command, store / "pendulum" / "best-v3").code == 0
    assert list(minari.list_local_datasets()) == ["pendulum/best-v3"]
    dataset = minari.load_dataset("pendulum/best-v3")
    index = np.concatenate([episode.infos["index"] for episode in dataset])
    source = read_dataset(str(scored / "pendulum.hdf5"))
    actions = np.concatenate([episode.actions for episode in dataset])
    assert np.array_equal(actions, source.action[index])
    refused = vaco(*command, store / "best")
    assert refused.code == 1
    assert "a name ends in a version" in refused.stderr
    assert vaco(*command, "elsewhere").code == 0
    assert minari.MinariDataset(scored / "elsewhere" / "data").id == "elsewhere-v0"


def test_a_filter_key_for_robomimic_moves_with_its_source(vaco, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    with h5py.File(tmp_path / "lab" / "demo.hdf5", "w") as file:
        for number in range(6):
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/state"], demo["actions"] = np.random.rand(9, 3), np.random.rand(9, 2)
            demo["rewards"], demo["dones"] = np.arange(9) * number, np.arange(9) == 8
    (tmp_path / "lab" / "tiny.json").write_text(CONFIG)
    monkeypatch.chdir(tmp_path / "lab")
    assert vaco("score", "demo.hdf5", "--config", "tiny.json").code == 0
    made = vaco("filter", "--top", "50%", "--level", "episode", "--format", "robomimic", "--out", "kept")
    assert made.code == 0, made.stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").rename(tmp_path / "moved")
    with h5py.File(tmp_path / "moved" / "kept" / "data" / "demo.filtered.hdf5") as file:
        assert len(file["data/demo_3/actions"]) == 9
        assert len(file["mask/kept"]) == 3
