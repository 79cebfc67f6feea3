"""What a source holds beside transitions goes with the rows into every output."""

from __future__ import annotations

import datetime

import h5py
import minari
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import CONFIG, make_transitions, tiny_settings, write_d4rl
from minari.data_collector import EpisodeBuffer

from vaco_curate import (
    Cut,
    convert_dataset,
    filter_dataset,
    inspect_dataset,
    load_curated,
    load_scores,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.data.formats import dataset as dataset_module
from vaco_curate.data.formats import open_dataset
from vaco_curate.errors import DatasetError

ROWS = 120
NUMBERS = np.arange(ROWS)
POSITION = np.random.default_rng(0).standard_normal((ROWS, 3))
WORDS = [f"operator {row % 3}" for row in range(ROWS)]


def d4rl_file(folder):
    """With a scalar, a vector, words, a name of ours, and arrays that are no columns."""
    path = write_d4rl(folder / "rows.hdf5", make_transitions(), **{"infos/qpos": POSITION, "score": NUMBERS})
    with h5py.File(path, "r+") as file:
        file["infos/operator"] = WORDS
        file["metadata/weight"], file["few"], file["infos/pictures"] = NUMBERS, [1, 2], np.zeros((ROWS, 2, 2))
    return path, {"infos/qpos": POSITION, "source_score": NUMBERS, "infos/operator": WORDS}


def parquet_file(folder):
    """Also with times, nulls and categories, which Arrow holds; and with a picture, which is not copied."""
    convert_dataset(d4rl_file(folder)[0], folder / "plain", columns=[])
    table = pq.read_table(folder / "plain" / "data" / "part-00000.parquet")
    times = [datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=row) for row in range(ROWS)]
    holes = [None if row % 7 == 0 else row for row in range(ROWS)]
    columns = {
        "qpos": pa.array(POSITION.tolist()),
        "time": pa.array(times),
        "grade": pa.array(holes),
        "operator": pa.array(WORDS).dictionary_encode(),
    }
    for name, column in (columns | {"picture": pa.array([{"bytes": b"x"}] * ROWS)}).items():
        table = table.append_column(name, column)
    pq.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet", {
        "qpos": POSITION, "time": times, "grade": holes, "operator": WORDS, "source_index": NUMBERS,
    }  # fmt: skip


def lerobot_folder(folder):
    from test_lerobot import write_lerobot

    source, table = write_lerobot(folder / "robot")
    task, frame = table["task_index"].to_pylist(), table["timestamp"].to_pylist()
    return source, {"task_index": task, "timestamp": frame, "source_index": np.arange(len(task))}


def robomimic_file(folder):
    """The simulator's states, and filter keys; demo_10 comes after demo_9."""
    path, states, train = folder / "lift.hdf5", [], []
    with h5py.File(path, "w") as file:
        for number in range(11):
            length = 3 + number % 4
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/state"], demo["actions"] = np.ones((length, 2)), np.zeros((length, 1))
            demo["rewards"] = np.arange(length)
            demo["states"] = number * 100 + np.arange(length * 3).reshape(length, 3)
            demo["sometimes" if number else "once"] = np.zeros(length)
            states.append(demo["states"][()])
            train += [number in (2, 10)] * length
        file["mask/train"] = np.array([b"demo_2", b"demo_10"])
    return path, {"states": np.concatenate(states), "mask/train": train}


def minari_folder(folder):
    generator, lengths, grip, pose = np.random.default_rng(0), (4, 6), [], []
    buffers = []
    for number, length in enumerate(lengths):
        infos = {"grip": generator.integers(9, size=length), "pose": {"at": generator.random((length + 1, 2))}}
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=generator.random((length + 1, 3)),
                actions=generator.uniform(-1, 1, (length, 1)).astype(np.float32),
                rewards=[0.0] * (length - 1) + [1.0],
                terminations=[False] * (length - 1) + [True],
                truncations=[False] * length,
                infos=infos,
            )
        )
        grip.append(infos["grip"])
        pose.append(infos["pose"]["at"][:length])
    from test_minari import ACTIONS, BOX

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "store"))
        patch.setattr("warnings.warn", lambda *a, **k: None)
        minari.create_dataset_from_buffers("pose/grip-v0", buffers, observation_space=BOX, action_space=ACTIONS)
    columns = {"infos/grip": np.concatenate(grip), "infos/pose.at": np.concatenate(pose)}
    return folder / "store" / "pose" / "grip-v0", columns


def ogbench_file(folder):
    from test_ogbench import write_ogbench

    source, arrays = write_ogbench(folder / "play.npz", button=np.arange(20))
    return source, {"qpos": arrays["qpos"], "button": arrays["button"]}


SOURCES = [d4rl_file, parquet_file, lerobot_folder, robomimic_file, minari_folder, ogbench_file]


def same(column, expected):
    found = column.to_pylist()
    return found == expected if isinstance(expected, list) else np.array_equal(np.array(found), expected)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_further_columns_are_written_row_by_row(source, tmp_path):
    path, expected = source(tmp_path)
    result = convert_dataset(path, tmp_path / "out", rows_per_shard=50)
    table = pq.read_table(tmp_path / "out" / "data")
    further = table.column_names[10:]
    assert sorted(further) == sorted(expected)
    for name, values in expected.items():
        assert same(table.column(name), values), name
    assert ("index as source_index" in " ".join(result.notes)) == ("source_index" in expected)


@pytest.mark.parametrize("file_format", ["d4rl", "minari"])
def test_formats_that_hold_numbers_get_the_same(file_format, tmp_path):
    path, expected = d4rl_file(tmp_path)
    columns = ["infos/qpos", "score"] + ["infos/operator"] * (file_format == "d4rl")
    convert_dataset(path, tmp_path / "out", file_format=file_format, columns=columns)
    dataset = open_dataset(str(tmp_path / "out"))
    rows = dataset.further.label("infos/index")
    assert len(rows) == {"d4rl": ROWS, "minari": ROWS - 3}[file_format], "three have no successor"
    assert dataset.further.label("infos/source_score").tolist() == rows.tolist()
    table = dataset.further.rows(["infos/qpos"]).read(len(rows))
    assert np.array_equal(np.array(table.column(0).to_pylist()), POSITION[rows])
    if file_format == "d4rl":
        assert dataset.further.label("infos/operator").tolist() == expected["infos/operator"]


def test_a_column_that_a_file_lacks_is_named_with_the_file(tmp_path):
    for name, further in (
        ("a", {"site": ["lab"] * 20}),
        ("b", {"note": [1] * 20}),
        ("c", {"site": ["home"] * 20}),
    ):
        table = {"observation": np.random.default_rng(0).random((20, 2)).tolist(), "action": [0.5] * 20}
        table |= {"reward": np.arange(20.0), "terminated": [False] * 19 + [True]}
        pl.DataFrame(table | further).write_parquet(tmp_path / f"{name}.parquet")
    problems = inspect_dataset(str(tmp_path)).problems
    assert any("site is not carried along: not in b.parquet" in problem for problem in problems)
    assert any("note is not carried along: not in a.parquet" in problem for problem in problems)
    (note,) = [note for note in convert_dataset(tmp_path, tmp_path / "out").notes if "not written" in note]
    assert note == "columns that are not written: site (not in b.parquet), note (not in a.parquet)"


def test_what_a_format_cannot_hold_is_refused_by_name(tmp_path):
    path, _ = parquet_file(tmp_path)
    for file_format in ("d4rl", "npz", "minari"):
        with pytest.raises(DatasetError, match=r"time: it holds timestamp\[us\], which this format cannot"):
            convert_dataset(path, tmp_path / "out", file_format=file_format, columns=["time"])
        with pytest.raises(DatasetError, match="column grade cannot be an array: it holds int64 and nulls"):
            convert_dataset(path, tmp_path / "out", file_format=file_format, columns=["grade"])
        result = convert_dataset(path, tmp_path / file_format, file_format=file_format)
        assert "columns that are not written: qpos, time, grade, picture" in result.notes
    with h5py.File(tmp_path / "rows.hdf5", "r+") as file:
        file["infos/text"] = ["x" * 300] * ROWS
    with pytest.raises(DatasetError, match="words of more than 256 bytes"):
        convert_dataset(tmp_path / "rows.hdf5", tmp_path / "out", file_format="d4rl")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("",), ("a//b",)])
def test_names_that_hdf5_has_none_for_are_refused(names, tmp_path):
    path, _ = parquet_file(tmp_path)
    table = pq.read_table(path)
    for name in names:
        table = table.append_column(name, pa.array(NUMBERS))
    pq.write_table(table, path)
    with pytest.raises(DatasetError, match="cannot have this name in HDF5"):
        convert_dataset(path, tmp_path / "out", file_format="d4rl")
    assert not (tmp_path / "out").exists()
    convert_dataset(path, tmp_path / "out")
    assert np.array_equal(pq.read_table(tmp_path / "out" / "data")[names[-1]].to_numpy(), NUMBERS)


def test_pictures_stay_behind_with_a_note(tmp_path):
    result = convert_dataset(parquet_file(tmp_path)[0], tmp_path / "out")
    assert "columns that are not written: picture" in result.notes


def test_files_with_other_columns_share_those_that_all_have(tmp_path):
    (tmp_path / "logs").mkdir()
    for number in range(2):
        extra = {"infos/both": NUMBERS + 1000 * number, f"infos/only{number}": NUMBERS}
        write_d4rl(tmp_path / "logs" / f"{number}.hdf5", make_transitions(seed=number), **extra)
    result = convert_dataset(tmp_path / "logs", tmp_path / "out")
    assert pq.read_table(tmp_path / "out" / "data")["infos/both"].to_pylist()[::ROWS] == [0, 1000]
    assert (
        "columns that are not written: infos/only0 (not in 1.hdf5), infos/only1 (not in 0.hdf5)" in result.notes
    )
    write_d4rl(tmp_path / "logs" / "1.hdf5", make_transitions(seed=1), **{"infos/both": POSITION})
    result = convert_dataset(tmp_path / "logs", tmp_path / "other")
    assert (
        "columns that are not written: infos/both (of several types), infos/only0 (not in 1.hdf5)"
        in result.notes
    )


def logs(folder, *columns):
    """Files of 120 rows with a column x each; of no rows, where it is None."""
    (folder / "logs").mkdir()
    for number, values in enumerate(columns):
        data = make_transitions(seed=number)
        if values is None:
            none = {name: np.zeros((0, 4), "f4") for name in ("observations", "actions")}
            write_d4rl(folder / "logs" / f"{number}.hdf5", data, **none, rewards=[], terminals=[], timeouts=[])
        else:
            write_d4rl(folder / "logs" / f"{number}.hdf5", data, x=values)
    return folder / "logs"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (NUMBERS.astype("f4") / 3, NUMBERS / 3, "float64"),
        (NUMBERS, NUMBERS / 3, "float64"),
        (NUMBERS.astype("i4"), NUMBERS, "int64"),
        (NUMBERS > 5, NUMBERS, None),
        (NUMBERS, np.array(WORDS, "S"), None),
    ],
)
def test_a_column_has_one_type_that_loses_nothing_in_whatever_order(one, other, expected, tmp_path):
    for place, columns in (("a", (one, other)), ("b", (other, one)), ("c", (None, one, other))):
        (tmp_path / place).mkdir()
        source = logs(tmp_path / place, *columns)
        result = convert_dataset(source, tmp_path / place / "out")
        table = pq.read_table(tmp_path / place / "out" / "data")
        if expected is None:
            assert "x" not in table.column_names
            assert "columns that are not written: x (of several types)" in result.notes
        else:
            assert open_dataset(str(source)).further.types["x"] == pa.from_numpy_dtype(np.dtype(expected))
            values = np.concatenate([values for values in columns if values is not None])
            assert np.array_equal(table["x"].to_numpy(), values.astype(expected))


def test_what_a_unit_writes_does_not_depend_on_the_files_beside(tmp_path, monkeypatch):
    source = logs(tmp_path, NUMBERS.astype("f4"), NUMBERS / 3, NUMBERS / 7)
    run = score_dataset(source, out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu").run
    reweight_dataset(run, out=tmp_path / "together")
    monkeypatch.setattr(dataset_module, "UNIT_ROWS", 1)
    reweight_dataset(run, out=tmp_path / "alone")
    for number in range(3):
        files = [
            (tmp_path / folder / "data" / f"{number}.parquet").read_bytes() for folder in ("together", "alone")
        ]
        assert files[0] == files[1]


@pytest.mark.parametrize("file_format", ["parquet", "d4rl", "npz", "minari"])
def test_odd_columns_are_written_or_left_with_a_note(file_format, tmp_path):
    contact = NUMBERS[:, None] % [2, 3, 5] == 0
    extra = {"contact": contact, "none": np.zeros((ROWS, 0)), "cube": np.zeros((ROWS, 2, 2)), "few": [1, 2]}
    source = write_d4rl(tmp_path / "rows.hdf5", make_transitions(), **extra)
    result = convert_dataset(source, tmp_path / "out", file_format=file_format)
    assert "columns that are not written: cube, none" in result.notes
    dataset = open_dataset(str(tmp_path / "out"))
    rows = dataset.further.label("index" if "index" in dataset.further.labels else "infos/index")
    name = "contact" if file_format == "parquet" else "infos/contact"
    found = np.array(dataset.further.rows([name]).read(len(rows)).column(name).to_pylist())
    assert np.array_equal(found, contact[rows])


def test_robomimics_odd_arrays_do_not_end_the_process(tmp_path):
    path, _ = robomimic_file(tmp_path)
    with h5py.File(path, "r+") as file:
        for number in range(11):
            demo = file[f"data/demo_{number}"]
            length = len(demo["actions"])
            demo["width"], demo["nothing"] = np.zeros((length, 1 + number % 2)), h5py.Empty("f4")
            demo["zero"] = np.zeros((length, 0))
    result = convert_dataset(path, tmp_path / "out")
    assert "columns that are not written: width, zero" in result.notes


@pytest.mark.parametrize("file_format", ["parquet", "d4rl", "npz"])
def test_a_first_piece_without_kept_rows_changes_nothing(file_format, tmp_path, monkeypatch):
    source = write_d4rl(tmp_path / "rows.hdf5", make_transitions(), **{"infos/qpos": POSITION})
    run = score_dataset(source, out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu").run
    monkeypatch.setattr(dataset_module, "PIECE_ROWS", 20)
    best = load_scores(run).top_k(5, by="score")["index"]
    lowest = load_scores(run).filter(pl.col("index") >= 60).top_k(5, by="score")["score"].min()
    cut = Cut(threshold=lowest) if best.min() >= 60 else Cut(rows=5)
    filter_dataset(run, cut, out=tmp_path / "out", file_format=file_format)
    curated = load_curated(tmp_path / "out")
    assert np.array_equal(curated.column("infos/qpos"), POSITION[curated.index])


def test_a_column_called_weights_is_not_taken_for_ours(tmp_path):
    source = write_d4rl(tmp_path / "rows.hdf5", make_transitions(), weights=NUMBERS + 700.0)
    run = score_dataset(source, out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu").run
    for file_format in ("parquet", "d4rl", "npz"):
        filter_dataset(run, Cut(rows=50), out=tmp_path / f"kept-{file_format}", file_format=file_format)
        assert (load_curated(tmp_path / f"kept-{file_format}").weight == 1).all()
        reweight_dataset(run, out=tmp_path / file_format, file_format=file_format)
        curated = load_curated(tmp_path / file_format)
        assert curated.weight.max() < 120
        assert np.array_equal(curated.column("source_weights"), curated.index + 700.0)


def test_a_filter_carries_the_columns_that_are_asked_for(vaco, here):
    source, expected = d4rl_file(here)
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", source, "--config", "tiny.json").code == 0
    outcome = vaco("filter", "--top", "25%", "--excluded", "dropped", "--out", "all")
    assert "columns that are written under other names: score as source_score" in outcome.stderr
    for folder in ("all", "dropped"):
        table = pq.read_table(here / folder / "data")
        rows = table["index"].to_numpy()
        for name, values in expected.items():
            assert same(table.column(name), [values[row] for row in rows] if isinstance(values, list)
                        else values[rows]), (folder, name)  # fmt: skip
    assert vaco("filter", "--top", "25%", "--columns", "infos/operator", "--out", "one").code == 0
    assert pq.read_schema(next((here / "one" / "data").iterdir())).names[-1:] == ["infos/operator"]
    assert vaco("reweight", "--columns", "", "--out", "none").code == 0
    assert pq.read_schema(next((here / "none" / "data").iterdir())).names[-1:] == ["weight"]
    refused = vaco("filter", "--top", "25%", "--columns", "operator", "--out", "x")
    assert refused.code == 1
    assert "found: " in refused.stderr
    refused = vaco("reweight", "--format", "npy", "--columns", "infos/qpos", "--out", "x")
    assert "--columns has nothing to write" in refused.stderr
    assert not (here / "x").exists()


def test_curated_rows_give_their_further_columns(tmp_path):
    source, expected = d4rl_file(tmp_path)
    run = score_dataset(str(source), out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu").run
    for file_format in ("parquet", "d4rl"):
        reweight_dataset(run, file_format=file_format, out=tmp_path / file_format)
        curated = load_curated(tmp_path / file_format)
        assert np.array_equal(curated.column("infos/qpos"), POSITION)
        assert curated.column("infos/operator").tolist() == WORDS
        assert not np.array_equal(curated.score, expected["source_score"]), "its own column"
