"""Folders in LeRobot's layout, by pyarrow: its package asks for an older Gymnasium than ours."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vaco_curate.data.formats import ReadOptions, open_dataset, read_dataset
from vaco_curate.errors import DatasetError

LENGTHS = (4, 6, 3, 5)


def frames(*, rewards=True):
    generator = np.random.default_rng(0)
    rows = sum(LENGTHS)
    lists = pa.list_(pa.float32())
    last = np.isin(np.arange(rows), np.cumsum(LENGTHS) - 1)
    columns = {
        "observation.state": pa.array(generator.standard_normal((rows, 3)).tolist(), lists),
        "observation.environment_state": pa.array(generator.standard_normal((rows, 2)).tolist(), lists),
        "action": pa.array(generator.uniform(-1, 1, (rows, 2)).tolist(), lists),
        "timestamp": pa.array(np.arange(rows) / 10),
        "frame_index": pa.array(np.concatenate([np.arange(length) for length in LENGTHS])),
        "episode_index": pa.array(np.repeat(np.arange(4), LENGTHS)),
        "index": pa.array(np.arange(rows)),
        "task_index": pa.array(np.repeat([0, 1, 0, 1], LENGTHS)),
        "next.done": pa.array(last),
        "next.truncated": pa.array(last & (np.repeat(np.arange(4), LENGTHS) == 1)),
    }
    if rewards:
        columns["next.reward"] = pa.array(generator.standard_normal(rows).astype(np.float32))
    return pa.table(columns)


def write_lerobot(folder, *, version="v3.0", rewards=True, video=False):
    table = frames(rewards=rewards)
    shapes = {"observation.state": [3], "observation.environment_state": [2], "action": [2]}
    features = {
        name: {"dtype": "float32", "shape": shapes.get(name, [1]), "names": None} for name in table.column_names
    }
    if video:
        features["observation.images.top"] = {"dtype": "video", "shape": [96, 96, 3], "names": None}
    (folder / "meta").mkdir(parents=True)
    (folder / "data" / "chunk-000").mkdir(parents=True)
    info = {"codebase_version": version, "total_frames": table.num_rows, "total_episodes": 4, "fps": 10}
    (folder / "meta" / "info.json").write_text(json.dumps(info | {"features": features}))
    ends = np.cumsum(LENGTHS)
    names = ["episode_{:06d}"] * 4 if version == "v2.1" else ["file-{:03d}"] * 2
    cuts = [0, *ends] if version == "v2.1" else [0, ends[1], ends[3]]
    for number, name in enumerate(names):
        path = folder / "data" / "chunk-000" / f"{name.format(number)}.parquet"
        pq.write_table(table.slice(cuts[number], cuts[number + 1] - cuts[number]), path)
    return str(folder), table


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_both_layouts_are_read_with_named_parts(tmp_path, version):
    source, table = write_lerobot(tmp_path / "robot", version=version)
    data = read_dataset(source)
    assert data.format == "lerobot"
    assert data.episode_length.tolist() == list(LENGTHS)
    assert data.observation_parts == (("observation.state", 3), ("observation.environment_state", 2))
    state = np.array(table["observation.state"].to_pylist(), np.float32)
    assert (data.observation[:, :3] == state).all()
    assert (data.reward == table["next.reward"].to_numpy()).all()
    ends = np.cumsum(LENGTHS) - 1
    assert data.terminated[ends].tolist() == [True, False, True, True]
    assert data.truncated[ends].tolist() == [False, True, False, False]
    assert np.flatnonzero(~data.has_successor).tolist() == ends.tolist()


def test_tasks_and_source_files_are_labels(tmp_path):
    dataset = open_dataset(write_lerobot(tmp_path / "robot")[0])
    assert "task_index" in dataset.further.labels
    assert dataset.further.label("task_index").tolist() == np.repeat([0, 1, 0, 1], LENGTHS).tolist()
    assert dataset.further.label("source_file").tolist() == ["file-000.parquet"] * 10 + ["file-001.parquet"] * 8


def test_cameras_are_left_out_with_a_note(tmp_path):
    source, _ = write_lerobot(tmp_path / "robot", video=True)
    data = read_dataset(source)
    assert data.observation_size == 5
    assert "cameras are left out, scores are made of the rest: observation.images.top" in data.notes
    for name in ("observation.images.top", "observation.images"):
        dropped = read_dataset(source, ReadOptions(drop_columns=(name,)))
        assert dropped.fingerprint == data.fingerprint
        assert not any("cameras" in note for note in dropped.notes), "it was asked for"
    with pytest.raises(DatasetError, match=r"images are not supported"):
        read_dataset(source, ReadOptions(columns={"observation": "observation.images.top"}))


def test_rewards_may_be_missing_or_have_another_name(tmp_path):
    source, table = write_lerobot(tmp_path / "robot", rewards=False)
    assert not open_dataset(source).has_rewards
    named = open_dataset(source, ReadOptions(columns={"reward": "timestamp"}))
    assert named.has_rewards
    assert (named.read().reward == table["timestamp"].to_numpy()).all()
    with pytest.raises(DatasetError, match="missing column nothing"):
        open_dataset(source, ReadOptions(columns={"reward": "nothing"}))


def test_a_half_downloaded_dataset_is_refused(tmp_path):
    source, _ = write_lerobot(tmp_path / "robot")
    (tmp_path / "robot" / "data" / "chunk-000" / "file-001.parquet").unlink()
    with pytest.raises(DatasetError, match="10 of 18 frames are here"):
        open_dataset(source)


def test_an_older_version_is_refused(tmp_path):
    source, _ = write_lerobot(tmp_path / "robot", version="v1.6")
    with pytest.raises(DatasetError, match=r"version v1\.6"):
        open_dataset(source)


def declare(folder, lengths):
    lines = [json.dumps({"episode_index": number, "length": length}) for number, length in lengths.items()]
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines))


def without_frames(source):
    return [note for note in open_dataset(str(source)).facts["notes"] if note.startswith("without frames")]


def test_episodes_without_frames_are_named(tmp_path):
    source, _ = write_lerobot(tmp_path / "robot")
    declared = dict(enumerate(LENGTHS))
    declare(tmp_path / "robot", declared)
    assert not without_frames(source)
    declare(tmp_path / "robot", declared | {10: 0})
    assert without_frames(source) == ["without frames: episode 10"]
    (tmp_path / "robot" / "meta" / "episodes.jsonl").unlink()
    path = tmp_path / "robot" / "data" / "chunk-000" / "file-001.parquet"
    table = pq.read_table(path)
    moved = pa.array(table["episode_index"].to_numpy() + 2)
    pq.write_table(table.set_column(table.column_names.index("episode_index"), "episode_index", moved), path)
    assert without_frames(source) == ["without frames: episodes 2, 3"]


@pytest.mark.parametrize("part", ["data", "meta", "data/chunk-000", "data/chunk-000/file-000.parquet"])
def test_a_part_of_a_dataset_is_refused_with_the_folder_to_name(tmp_path, part):
    write_lerobot(tmp_path / "robot")
    with pytest.raises(DatasetError, match=r"is a part of a LeRobot dataset") as refused:
        open_dataset(str(tmp_path / "robot" / part))
    assert refused.value.fix == f"name its folder: {tmp_path / 'robot'}"


def test_a_number_that_is_none_is_refused_with_its_episode(tmp_path):
    source, _ = write_lerobot(tmp_path / "robot")
    path = tmp_path / "robot" / "data" / "chunk-000" / "file-001.parquet"
    table = pq.read_table(path)
    rewards = table["next.reward"].to_numpy().copy()
    rewards[4] = np.nan
    place = table.column_names.index("next.reward")
    pq.write_table(table.set_column(place, "next.reward", pa.array(rewards)), path)
    with pytest.raises(DatasetError, match=r"reward is NaN or infinite in row 14 \(episode 3, step 1\)"):
        read_dataset(source)
