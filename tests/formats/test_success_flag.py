"""What a success flag earns, wherever in its episode it is set, and in whatever way rows are read."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vaco_curate.core.rewards import RewardUse
from vaco_curate.data.formats import ReadOptions, open_dataset, read_dataset
from vaco_curate.data.formats.cache import mapped
from vaco_curate.errors import DatasetError, SettingsError
from vaco_curate.stages.inspect import inspect_dataset
from vaco_curate.stages.score_runs import open_scorable

FLAGS = (
    (0, 0, 0, 1, 1, 1),  # set on several last frames
    (1, 1, 1, 1),  # a flag of the episode, on each of its frames
    (0, 0, 0, 0, 0),
    (0, 0, 1),
    (1,),
    (0, 1, 1, 0),  # reached, and left again
)
EARNED = (3, 3, None, 2, 0, 1)
"""The frame that earns the reward, by episode."""


def table(flags=FLAGS):
    generator, rows = np.random.default_rng(0), sum(map(len, flags))
    floats = pa.list_(pa.float32(), 2)
    return pa.table(
        {
            "observation.state": pa.array(generator.standard_normal((rows, 2)).tolist(), floats),
            "action": pa.array(generator.uniform(-1, 1, (rows, 2)).tolist(), floats),
            "next.success": pa.array([bool(flag) for episode in flags for flag in episode]),
            "episode_index": pa.array(np.repeat(np.arange(len(flags)), list(map(len, flags)))),
            "frame_index": pa.array(np.concatenate([np.arange(len(episode)) for episode in flags])),
        }
    )


def lerobot(folder, flags=FLAGS):
    rows = table(flags)
    features = {
        name: {"dtype": "bool" if name == "next.success" else "float32", "shape": [size], "names": None}
        for name, size in (("observation.state", 2), ("action", 2), ("next.success", 1))
    }
    info = {"codebase_version": "v3.0", "total_frames": len(rows), "features": features}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(rows, folder / "data" / "chunk-000" / "file-000.parquet")
    return folder, ReadOptions(success="next.success")


def parquet(folder, flags=FLAGS):
    """Shards of five rows, so that episodes go on in the next."""
    folder.mkdir()
    rows = table(flags)
    for number, start in enumerate(range(0, len(rows), 5)):
        pq.write_table(rows.slice(start, 5), folder / f"{number}.parquet")
    columns = {
        "observation": "observation.state",
        "episode_id": "episode_index",
        "step_index": "frame_index",
    }
    return folder, ReadOptions(columns, success="next.success")


def robomimic(folder, flags=FLAGS):
    folder.mkdir()
    path, generator = folder / "demos.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for number, episode in enumerate(flags):
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/state"] = generator.standard_normal((len(episode), 2))
            demo["actions"] = generator.uniform(-1, 1, (len(episode), 2))
            demo["rewards"], demo["dones"] = np.array(episode, float), np.zeros(len(episode), int)
    return path, ReadOptions(success="rewards")


@pytest.mark.parametrize("write", [lerobot, parquet, robomimic])
@pytest.mark.parametrize("step_cost", [0.0, 0.25])
def test_an_episode_earns_its_success_once(write, step_cost, tmp_path):
    source, options = write(tmp_path / "data")
    options = ReadOptions(options.columns, success=options.success, step_cost=step_cost)
    data = read_dataset(str(source), options)
    start = data.episode_start
    once = np.zeros(len(data), bool)
    once[[first + at for first, at in zip(start, EARNED, strict=True) if at is not None]] = True
    assert data.terminated.tolist() == once.tolist()
    assert data.reward.tolist() == (once - step_cost).tolist()
    last = np.append(start[1:], len(data)) - 1
    assert np.flatnonzero(data.truncated).tolist() == [row for row in last if not once[row]]
    (note,) = [note for note in data.notes if "success flag is set" in note]
    assert "on several frames of 3 episode(s): the first of them earns the reward" in note


@pytest.mark.parametrize("write", [lerobot, parquet, robomimic])
def test_it_does_so_in_whatever_way_rows_are_read(write, tmp_path):
    source, options = write(tmp_path / "data")
    dataset = open_dataset(str(source), options)
    data = dataset.read()
    columns = mapped(dataset, tmp_path / "columns", lambda note: None)
    assert columns.fingerprint == data.fingerprint
    assert columns.notes == data.notes
    pieces = [piece for unit in dataset.units() for piece in unit.pieces(rows=2)]
    for name in ("reward", "terminated", "truncated", "has_successor"):
        assert np.concatenate([getattr(piece, name) for piece in pieces]).tolist() == (
            getattr(data, name).tolist()
        )


def test_a_flag_that_is_set_once_is_no_word_worth(tmp_path):
    source, options = lerobot(tmp_path / "data", [(0, 0, 1), (0, 0, 0), (1,)])
    assert not any("success" in note for note in read_dataset(str(source), options).notes)


def test_episodes_without_a_success_end_at_their_time_limit(tmp_path):
    source, options = lerobot(tmp_path / "data", [(0, 0, 1), (0, 0, 0), (0, 1)])
    found = inspect_dataset(str(source), options)
    assert (found.terminated_rows, found.truncated_rows) == (2, 1)
    assert not any("end without a flag" in problem for problem in found.problems)


@pytest.mark.parametrize("cost", [-0.05, float("nan"), float("inf")])
def test_a_step_cost_that_rewards_slowness_is_refused(cost):
    with pytest.raises(SettingsError, match=r"step_cost (.*) must be (at least 0|a finite number)"):
        ReadOptions(success="next.success", step_cost=cost)


def notes_of(source):
    return " ".join(open_dataset(str(source)).facts["notes"])


def test_a_typing_error_is_answered_with_the_names_that_are_like_it(tmp_path):
    source, _ = lerobot(tmp_path / "robot")
    (source / "meta" / "episodes.jsonl").write_text(
        json.dumps({"episode_index": 0, "length": 6, "was_success": True, "tasks": ["reach"]})
    )
    with pytest.raises(DatasetError, match=r'flags of meta/episodes: was_success\n(.*)success="next.success"'):
        open_dataset(str(source), ReadOptions(success="next.succes"))
    with pytest.raises(DatasetError, match=r'if you mean it: (.*)success="was_success"'):
        open_dataset(str(source), ReadOptions(success="was_succes"))
    folder, options = parquet(tmp_path / "rows")
    with pytest.raises(
        DatasetError, match=r'which (.*)success="next.succes"\) names(.|\n)*mean it: next.success'
    ):
        open_dataset(str(folder), ReadOptions(options.columns, success="next.succes"))
    path, _ = robomimic(tmp_path / "demos")
    with pytest.raises(DatasetError, match=r"which (.*)success(.*) names(.|\n)*mean it: rewards"):
        open_dataset(str(path), ReadOptions(success="reward"))


def test_flags_of_episodes_are_found_in_version_3(tmp_path):
    source, _ = lerobot(tmp_path / "robot")
    chunk = source / "meta" / "episodes" / "chunk-000"
    chunk.mkdir(parents=True)
    numbers = list(range(len(FLAGS)))
    columns = {"episode_index": numbers, "length": list(map(len, FLAGS)), "solved": [True] * len(FLAGS)}
    pq.write_table(pa.table(columns), chunk / "file-000.parquet")
    with pytest.raises(DatasetError, match=r'flags of meta/episodes: solved\n(.*)success="solved"'):
        open_dataset(str(source), ReadOptions(success="solve"))
    assert read_dataset(str(source), ReadOptions(success="solved")).terminated.sum() == len(FLAGS)


def test_a_forgotten_flag_is_named_where_rewards_are_missing(tmp_path):
    source, _ = lerobot(tmp_path / "robot")
    with pytest.raises(DatasetError, match=r'has no rewards(.|\n)*success flag: (.*)success="next\.success"'):
        open_scorable(str(source), ReadOptions(), tmp_path / "run")
    assert "--success next.success" in notes_of(source)
    assert "--column terminated" not in notes_of(source), "that alone would be refused by score"
    folder, options = parquet(tmp_path / "rows")
    with pytest.raises(DatasetError, match=r'missing column reward(.|\n)*success="next\.success"'):
        open_dataset(str(folder), ReadOptions(options.columns))
    path, _ = robomimic(tmp_path / "demos")
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo.move("rewards", "success")
    assert "no rewards: all are read as 0; with the success flag for reward: --success success" in notes_of(
        path
    )
    arrays = {"observations": np.zeros((4, 2)), "actions": np.zeros((4, 2)), "terminals": np.ones(4)}
    np.savez(tmp_path / "play.npz", success=np.ones(4), **arrays)
    assert "read as 0; with the success flag for reward: --success success" in notes_of(tmp_path / "play.npz")


def test_rewards_of_robomimic_that_mark_success_are_what_to_name(tmp_path):
    path, options = robomimic(tmp_path / "demos", [(0, 0, 1), (0, 0, 0, 1), (0, 0)])
    dataset, use = open_dataset(str(path)), RewardUse()
    use.add(dataset.read())
    with pytest.raises(DatasetError, match=r'no value can be learned(.|\n)*success="rewards"\);'):
        use.refuse_unused(str(path), dataset.success_flag)
    use = RewardUse()
    use.add(read_dataset(str(path), options))
    use.refuse_unused(str(path))


LENGTHS = (9, 7, 12, 8, 10, 11)
SUCCEEDS = (True, False, True, False, False, True)


def recorded_by_flags(folder, form, marks, frames):
    """Episodes told by flags: the last of ``frames`` frames of a success have the flag of success.

    Args:
        marks: what ends an episode in the file: terminals, timeouts, or those of failures alone.
    """
    generator, rows = np.random.default_rng(0), sum(LENGTHS)
    last = np.cumsum(LENGTHS) - 1
    success, ends = np.zeros(rows, bool), np.zeros(rows, bool)
    for row, succeeds in zip(last, SUCCEEDS, strict=True):
        success[row - frames + 1 : row + 1] = succeeds
        ends[row] = marks != "failures" or not succeeds
    arrays = {
        "observations": generator.standard_normal((rows, 3)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "terminals": ends & (marks == "terminals"),
        "timeouts": ends & (marks != "terminals"),
        "success": success,
    }
    path = folder / f"rows.{form}"
    if form == "hdf5":
        with h5py.File(path, "w") as file:
            for name, values in arrays.items():
                file[name] = values
    elif form == "npz":
        np.savez(path, **arrays)
    else:
        ours = dict(zip(arrays, ("observation", "action", "terminated", "truncated", "success"), strict=True))
        pq.write_table(pa.table({ours[name]: values.tolist() for name, values in arrays.items()}), path)
    return str(path)


@pytest.mark.parametrize("form", ["hdf5", "npz", "parquet"])
@pytest.mark.parametrize(
    ("marks", "frames"), [("terminals", 1), ("terminals", 4), ("timeouts", 1), ("timeouts", 4), ("failures", 1)]
)
def test_other_flags_end_episodes_beside_the_flag_of_success(tmp_path, form, marks, frames):
    data = read_dataset(recorded_by_flags(tmp_path, form, marks, frames), ReadOptions(success="success"))
    assert data.episode_length.tolist() == list(LENGTHS)
    assert data.episode_return.tolist() == [float(succeeds) for succeeds in SUCCEEDS]
    last = np.cumsum(LENGTHS) - 1
    assert data.truncated[last[~np.array(SUCCEEDS)]].all()
    assert np.flatnonzero(data.terminated).tolist() == (last[np.array(SUCCEEDS)] - frames + 1).tolist()


@pytest.mark.parametrize("form", ["hdf5", "parquet"])
def test_a_step_limit_ends_episodes_beside_the_flag_of_success(tmp_path, form):
    source = recorded_by_flags(tmp_path, form, "terminals", 1)
    if form == "hdf5":
        with h5py.File(source, "a") as file:
            del file["timeouts"]
    else:
        pq.write_table(pq.read_table(source).drop_columns("truncated"), source)
    data = read_dataset(source, ReadOptions(success="success", max_episode_steps=8))
    assert data.episode_length.tolist() == [8, 1, 7, 8, 4, 8, 8, 2, 8, 3]
