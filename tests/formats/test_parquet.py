from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import make_transitions

from vaco_curate.core.transitions import COLUMNS
from vaco_curate.data.formats import ReadOptions, Target, parquet_writer, read_dataset, tables
from vaco_curate.errors import DatasetError


def write_all(folder, data, **extra):
    return write_rows(folder, data, np.arange(len(data)), extra)


def write_rows(folder, data, rows, extra=None, shards=None):
    """Rows as a file for each recording: one, or shards of so many rows of the dataset."""
    folder.mkdir()
    counts = shards or [len(data)]
    names = [f"part-{number:05d}" for number in range(len(counts))]
    writer = parquet_writer.ParquetWriter(Target(folder, names, counts, {}))
    writer.write(data, rows, extra or {})
    writer.close()
    return [folder / f"{name}.parquet" for name in names]


def test_keep_all_round_trips_every_column_bit_for_bit(tmp_path):
    data = make_transitions(
        env_id="Pendulum-v1", action_low=np.array([-2.0, -2]), action_high=np.array([2.0, 2])
    )
    write_all(tmp_path / "p", data)
    read = read_dataset(str(tmp_path / "p"))
    for name in COLUMNS:
        assert getattr(read, name).dtype == getattr(data, name).dtype, name
        assert (getattr(read, name) == getattr(data, name)).all(), name
    assert read.fingerprint == data.fingerprint
    assert read.env_id == "Pendulum-v1"
    assert read.action_high.tolist() == [2.0, 2.0]


def test_float64_columns_round_trip_as_float64(tmp_path):
    data = make_transitions(columns={"observation": np.random.default_rng(1).standard_normal((120, 4))})
    write_all(tmp_path / "p", data)
    assert read_dataset(str(tmp_path / "p")).fingerprint == data.fingerprint


def test_several_shards_read_as_one_dataset(tmp_path):
    data = make_transitions()
    files = write_rows(tmp_path / "p", data, np.arange(120), shards=[50, 0, 50, 20])
    assert [pq.read_metadata(file).num_rows for file in files] == [50, 0, 50, 20]
    assert read_dataset(str(tmp_path / "p")).fingerprint == data.fingerprint


def test_rows_without_a_successor_say_so_and_repeat_the_observation(tmp_path):
    data = make_transitions()
    (file,) = write_all(tmp_path / "p", data)
    table = pq.read_table(file)
    assert table.column("has_successor").to_pylist() == data.has_successor.tolist()
    following = np.stack(table.column("next_observation").to_numpy())
    assert np.array_equal(following[~data.has_successor], data.observation[~data.has_successor])
    assert np.array_equal(following[data.has_successor], data.next_observation[data.has_successor])


def test_no_column_can_hold_nulls(tmp_path):
    (file,) = write_all(tmp_path / "p", make_transitions())
    assert not any(field.nullable for field in pq.read_schema(file))


def test_vectors_are_fixed_size_lists_and_split_into_byte_streams(tmp_path):
    (file,) = write_all(tmp_path / "p", make_transitions())
    schema = pq.read_schema(file)
    assert pa.types.is_fixed_size_list(schema.field("observation").type)
    assert not schema.field("observation").nullable
    group = pq.ParquetFile(file).metadata.row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    for name in ("observation", "action", "next_observation"):
        assert "BYTE_STREAM_SPLIT" in encodings[f"{name}.list.element"].encodings
        assert encodings[f"{name}.list.element"].compression == "ZSTD"


def test_a_selection_with_holes_does_not_take_the_next_row_for_a_successor(tmp_path):
    data = make_transitions()
    rows = np.flatnonzero(np.arange(len(data)) % 3 != 1)
    write_rows(tmp_path / "p", data, rows)
    read = read_dataset(str(tmp_path / "p"))
    known = read.has_successor
    assert (known == data.has_successor[rows]).all()
    assert (read.next_observation[known] == data.next_observation[rows][known]).all()
    assert (read.step_index == data.step_index[rows]).all()


def test_another_schema_is_read_through_a_column_map(tmp_path):
    data = make_transitions(episodes=2)
    table = pa.table(
        {
            "obs": data.observation.tolist(),
            "act": data.action.tolist(),
            "rew": data.reward,
            "done": data.terminated.astype(np.int64),
            "timeout": data.truncated,
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    names = {
        "observation": "obs",
        "action": "act",
        "reward": "rew",
        "terminated": "done",
        "truncated": "timeout",
    }
    read = read_dataset(str(tmp_path / "log.parquet"), ReadOptions(columns=names))
    assert (read.episode_id == data.episode_id).all()
    assert (read.observation == data.observation).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "missing column observation"),
        ({"observation": "nothing"}, "missing column nothing"),
        ({"observation": "ragged", "action": "x", "reward": "x"}, "differ in length, from 1 to 2"),
        (
            {"observation": "holes", "action": "x", "reward": "x"},
            r"observation is null, first in row 1",
        ),
        (
            {"observation": "x", "action": "x", "reward": "gaps"},
            r"reward is null, first in row 2",
        ),
        ({"observation": "x", "action": "whole", "reward": "x"}, "continuous control"),
        ({"colour": "x"}, r'ReadOptions\(columns={"colour": ...}\): not a column'),
        ({"observation": "x", "action": "x", "reward": "text"}, "not numbers"),
        ({"observation": "words", "action": "x", "reward": "x"}, "expected a list of numbers"),
        ({"observation": "x", "action": "x", "reward": "x", "episode_id": "odd"}, "episode_id is nan in row 1"),
    ],
)
def test_a_bad_column_map_or_column_is_refused(tmp_path, names, message):
    table = pa.table(
        {
            "x": [0.0, 1.0, 2.0],
            "whole": [0, 1, 2],
            "ragged": [[0.0], [1.0, 2.0], [3.0]],
            "holes": [[0.0], None, [1.0]],
            "gaps": [0.0, 1.0, None],
            "text": ["a", "b", "c"],
            "words": [["a"], ["b"], ["c"]],
            "odd": [0.0, float("nan"), 1.0],
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(DatasetError, match=message):
        read_dataset(str(tmp_path / "log.parquet"), ReadOptions(columns=names))


def test_a_truncated_shard_is_refused(tmp_path):
    (file,) = write_all(tmp_path / "p", make_transitions())
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DatasetError, match="not readable as Parquet"):
        read_dataset(str(tmp_path / "p"))


def test_nan_in_an_extra_column_is_refused(tmp_path):
    data = make_transitions()
    score = np.zeros(len(data), np.float32)
    score[3] = np.nan
    with pytest.raises(DatasetError, match="score would hold NaN"):
        write_all(tmp_path / "p", data, score=score)


@pytest.mark.parametrize("sizes", [[120], [50, 70], [1, 119], [40] * 3])
def test_the_bytes_of_a_file_do_not_depend_on_the_pieces_it_was_written_in(tmp_path, monkeypatch, sizes):
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 32)
    data = make_transitions()
    (whole,) = write_all(tmp_path / "whole", data)
    writer = parquet_writer.ParquetWriter(Target(tmp_path, ["pieces"], [120], {}))
    for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
        writer.write(data, np.arange(start, start + size), {})
    writer.close()
    assert (tmp_path / "pieces.parquet").read_bytes() == whole.read_bytes()
    assert pq.read_metadata(whole).num_row_groups == 4


def test_rows_of_which_none_has_a_successor_round_trip(tmp_path):
    data = make_transitions(
        episodes=4, length=1, columns={"terminated": np.ones(4, bool), "truncated": np.zeros(4, bool)}
    )
    write_all(tmp_path / "p", data)
    assert read_dataset(str(tmp_path / "p")).fingerprint == data.fingerprint


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    data = make_transitions()
    (source,) = write_all(tmp_path / "p", data)
    table = pq.read_table(source)
    (tmp_path / "q").mkdir()
    for number in range(12):
        pq.write_table(table.slice(10 * number, 10), tmp_path / "q" / f"part-{number}.parquet")
    assert read_dataset(str(tmp_path / "q")).fingerprint == data.fingerprint


def test_a_column_that_occurs_twice_is_refused(tmp_path):
    (file,) = write_all(tmp_path / "p", make_transitions())
    table = pq.read_table(file)
    pq.write_table(table.append_column("reward", table.column("reward")), tmp_path / "twice.parquet")
    with pytest.raises(DatasetError, match="several columns reward"):
        read_dataset(str(tmp_path / "twice.parquet"))


def frame_of(data):
    return {
        "observation": data.observation.tolist(),
        "action": data.action.tolist(),
        "reward": data.reward,
        "terminated": data.terminated,
        "truncated": data.truncated,
        "episode_id": data.episode_id,
        "step_index": data.step_index,
    }


@pytest.mark.parametrize("kind", ["list", "array"])
def test_what_polars_writes_is_read_as_it_is(tmp_path, kind):
    data = make_transitions()
    vectors = {"observation": 4, "action": 2}
    types = {
        name: pl.List(pl.Float32) if kind == "list" else pl.Array(pl.Float32, size)
        for name, size in vectors.items()
    }
    pl.DataFrame(frame_of(data), schema_overrides=types).write_parquet(tmp_path / "rows.parquet")
    read = read_dataset(str(tmp_path / "rows.parquet"))
    assert read.fingerprint == data.fingerprint
    assert read.notes == ()


def test_what_pandas_writes_is_read_as_it_is(tmp_path):
    pandas = pytest.importorskip("pandas", reason="the ray extra, which brings pandas, is not installed")
    data = make_transitions()
    vectors = {name: list(getattr(data, name)) for name in ("observation", "action")}
    pandas.DataFrame(frame_of(data) | vectors, index=np.arange(120) * 2).to_parquet(tmp_path / "rows.parquet")
    read = read_dataset(str(tmp_path / "rows.parquet"))
    assert read.fingerprint == data.fingerprint
    assert read.notes == ()


def test_whole_rewards_of_many_digits_are_read_exactly(tmp_path):
    reward = [16777217, 16777218, 16777219]
    pq.write_table(
        pa.table({"observation": [0.0, 1, 2], "action": [0.0, 1, 2], "reward": reward}), tmp_path / "x.parquet"
    )
    assert read_dataset(str(tmp_path / "x.parquet")).reward.tolist() == reward
