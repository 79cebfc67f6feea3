"""Datasets that were never saved are read, scored and filtered as those that were."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from fractions import Fraction

import minari
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from formats.test_minari import ACTIONS, BOX, create, episode, vectors
from helpers import make_transitions, tiny_settings, write_d4rl

from vaco_curate import (
    Cut,
    ReadOptions,
    Scorer,
    apply_scorer,
    convert_dataset,
    filter_dataset,
    inspect_dataset,
    load_scores,
    open_dataset,
    read_dataset,
    score_dataset,
    score_stream,
)
from vaco_curate.data.formats.in_memory import on_disk
from vaco_curate.errors import CurateError, DatasetError, SettingsError

DATA = make_transitions(episodes=6)
D4RL = {
    "observations": DATA.observation,
    "actions": DATA.action,
    "rewards": DATA.reward,
    "terminals": DATA.terminated,
    "timeouts": DATA.truncated,
}
OURS = {
    "observation": DATA.observation,
    "action": DATA.action,
    "reward": DATA.reward,
    "terminated": DATA.terminated,
    "truncated": DATA.truncated,
    "episode_id": DATA.episode_id,
    "step_index": DATA.step_index,
}
LISTS = {name: list(values) if values.ndim == 2 else values for name, values in OURS.items()}


def d3rlpy_buffer():
    d3rlpy = pytest.importorskip("d3rlpy", reason="the d3rlpy extra is not installed")
    return d3rlpy.dataset.MDPDataset(*D4RL.values(), action_space=d3rlpy.ActionSpace.CONTINUOUS)


SOURCES = {
    "a dict by D4RL's names": lambda: D4RL,
    "a dict with infos, of tensors": lambda: (
        {name: torch.as_tensor(values) for name, values in D4RL.items()}
        | {"infos": {"row": np.arange(120), "operator": np.array(["a", "bb"] * 60)}}
    ),
    "a dict by our names": lambda: OURS,
    "polars": lambda: pl.DataFrame(OURS),
    "pandas": lambda: pytest.importorskip("pandas").DataFrame(LISTS),
    "pandas, some rows": lambda: (
        pytest.importorskip("pandas").DataFrame(LISTS | {"x": range(120)}).query("x >= 0").sort_values("x")
    ),
    "pyarrow": lambda: pl.DataFrame(OURS).to_arrow(),
    "d3rlpy": d3rlpy_buffer,
    "transitions": lambda: DATA,
}


@pytest.mark.parametrize("name", SOURCES)
def test_the_rows_are_those_of_a_file(name):
    read = read_dataset(SOURCES[name]())
    for column in ("observation", "action", "reward", "terminated", "episode_id", "step_index"):
        assert np.array_equal(getattr(read, column), getattr(DATA, column)), column
    assert np.array_equal(read.is_learnable, DATA.is_learnable)


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
def test_a_selection_of_huggingfaces_is_read_in_its_order(tmp_path):
    """In a process of its own: another module of this name lies on the path of the tests."""
    pl.DataFrame(OURS).write_parquet(tmp_path / "rows.parquet")
    code = """if True:
        import datasets, sys, numpy as np
        from vaco_curate import read_dataset
        table = datasets.Dataset.from_parquet(sys.argv[1]).filter(lambda row: row["episode_id"] >= 3)
        np.save(sys.argv[2], read_dataset(table).observation)
    """
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", "-c", code, str(tmp_path / "rows.parquet"), str(tmp_path / "read.npy")]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "read.npy"), DATA.observation[60:])


def test_other_names_are_given_as_for_files():
    named = {"obs": DATA.observation, "act": DATA.action, "rew": DATA.reward, "end": DATA.terminated}
    options = ReadOptions({"observation": "obs", "action": "act", "reward": "rew", "terminated": "end"}, 20)
    assert np.array_equal(read_dataset(pl.DataFrame(named), options).episode_id, DATA.episode_id)


def test_a_minari_dataset_is_read_where_it_lies_and_a_part_of_it_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    create("test/rows-v0", [episode(number, 5 + number, vectors(number, 5 + number)) for number in range(4)])
    whole = minari.load_dataset("test/rows-v0")
    assert whole.observation_space == BOX
    assert whole.action_space == ACTIONS
    assert read_dataset(whole).fingerprint == read_dataset("test/rows-v0").fingerprint
    part = read_dataset(whole.filter_episodes(lambda one: one.id in (1, 3)))
    rows = np.isin(read_dataset(whole).episode_id, (1, 3))
    assert np.array_equal(part.observation, read_dataset(whole).observation[rows])
    assert np.array_equal(part.next_observation, read_dataset(whole).next_observation[rows])
    result = score_dataset(whole, out=tmp_path / "m.vaco", settings=tiny_settings(), device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.vaco", "test"], "no copy"
    assert result.rows == 26


def test_a_run_on_a_dict_is_that_of_its_file_and_can_be_filtered(tmp_path):
    settings = tiny_settings()
    write_d4rl(tmp_path / "file.hdf5", DATA)
    of_file = score_dataset(tmp_path / "file.hdf5", out=tmp_path / "file.vaco", settings=settings, device="cpu")
    result = score_dataset(D4RL, out=tmp_path / "memory.vaco", settings=settings, device="cpu")
    assert result.scores.equals(of_file.scores)
    assert result.scores.equals(load_scores(tmp_path / "memory.vaco"))
    assert result.scores["index"].to_list() == list(range(120))
    filter_dataset(result.run, Cut(share=Fraction(1, 4)), out=tmp_path / "best")
    kept = pq.read_table(tmp_path / "best" / "data")
    expected = result.scores.top_k(30, by="score")["index"].sort().to_list()
    assert kept["index"].to_pylist() == expected
    applied = apply_scorer(pl.DataFrame(OURS), result.run, out=tmp_path / "again.vaco", device="cpu")
    assert np.array_equal(applied.scores["score"], result.scores["score"])
    streamed = pa.Table.from_batches(score_stream(OURS, Scorer.load(result.run)))
    assert np.array_equal(streamed["score"], result.scores["score"])


def test_the_file_of_a_run_replaces_no_other(tmp_path):
    def score(data, **options):
        return score_dataset(data, out=tmp_path / "x.vaco", settings=tiny_settings(), device="cpu", **options)

    first = score(D4RL)
    (before,) = tmp_path.glob("x-*.hdf5")
    with pytest.raises(CurateError, match="exists already"):
        score(D4RL | {"rewards": DATA.reward + 1})
    broken = D4RL | {"rewards": np.full(120, np.nan)}
    with pytest.raises(DatasetError, match="the dataset in memory: reward is NaN"):
        score(broken, if_exists="replace")
    filter_dataset(first.run, Cut(rows=30), out=tmp_path / "best")
    assert before.exists()
    score(D4RL | {"rewards": DATA.reward + 1}, if_exists="replace")
    assert score(D4RL, if_exists="replace").rows == 120, "the same data, the same file"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.partition("-")[0] for name in names] == ["best", "x", "x", "x.vaco"]


@pytest.mark.parametrize(
    "change",
    [
        {"rewards": DATA.truncated.astype(float)},
        {"observations": np.zeros((120, 4)), "actions": np.zeros((120, 2))},
    ],
)
def test_a_refusal_leaves_no_file_of_the_rows(tmp_path, change):
    with pytest.raises(DatasetError, match="the dataset in memory: "):
        score_dataset(D4RL | change, out=tmp_path / "x.vaco", settings=tiny_settings(), device="cpu")
    assert not list(tmp_path.glob("x-*"))
    result = score_dataset(D4RL, out=tmp_path / "run.vaco", settings=tiny_settings(), device="cpu")
    with pytest.raises(CurateError, match="exists already"):
        score_dataset(D4RL, out=result.run, settings=tiny_settings(), device="cpu")
    with pytest.raises(CurateError, match="observation"):
        apply_scorer(
            D4RL | {"observations": DATA.observation[:, :2]}, result.run, out=tmp_path / "y.vaco", device="cpu"
        )
    (kept,) = tmp_path.glob("run-*.hdf5")
    assert not list(tmp_path.glob("y-*"))
    filter_dataset(result, "50%", out=tmp_path / "half")
    assert kept.exists(), "what was there before is never removed"


def test_an_interrupted_training_says_what_is_kept_and_its_file_stays(tmp_path):
    def stop(progress):
        if progress.update == 40:
            raise KeyboardInterrupt

    arguments = {"out": tmp_path / "x.vaco", "settings": tiny_settings(), "device": "cpu"}
    with pytest.raises(KeyboardInterrupt) as raised:
        score_dataset(D4RL, on_progress=stop, **arguments)
    (note,) = raised.value.__notes__
    assert "40 of at most 60 updates of the value phase" in note
    assert "resume=True" in note
    (file,) = tmp_path.glob("x-*.hdf5")
    with pytest.raises(CurateError, match="other values of: settings"):
        score_dataset(D4RL, resume=True, **arguments | {"settings": tiny_settings(updates=0)})
    assert file.exists(), "the training needs it"
    begun = []
    assert score_dataset(D4RL, resume=True, on_progress=begun.append, **arguments).rows == 120
    assert begun[0].update == 40


def test_a_run_may_lie_where_no_folder_is_yet(tmp_path):
    out = tmp_path / "runs" / "today" / "x.vaco"
    assert score_dataset(D4RL, out=out, settings=tiny_settings(), device="cpu").run == out
    with pytest.raises(SettingsError, match="is scored on this machine"):
        score_dataset(D4RL, out="s3://bucket/x.vaco")


@pytest.mark.parametrize(
    "change",
    [
        {"terminals": torch.zeros(120, dtype=torch.bfloat16)},
        {"rewards": torch.ones(120, requires_grad=True)},
        {"infos/task": np.array(["pl\u00e2ce", "b"] * 60)},
        {"infos/task": np.array(["pl\u00e2ce", "b"] * 60, dtype=object)},
    ],
)
def test_tensors_of_any_kind_and_words_are_taken(change):
    assert len(read_dataset(D4RL | change)) == 120


@pytest.mark.parametrize(
    "change",
    [
        {"infos/task": np.array([None, "b"] * 60)},
        {"infos/when": np.array(["2026-01-01"] * 120, "M8[s]")},
        {"infos/huge": [10**30] * 120},
        {"infos/a": np.zeros(120), "infos/a/b": np.zeros(120)},
        {"rewards": [[1.0], [1.0, 2.0]] * 60},
    ],
)
def test_what_no_file_can_hold_is_refused_by_name(change, tmp_path):
    with pytest.raises(DatasetError, match="the dataset in memory"):
        score_dataset(D4RL | change, out=tmp_path / "x.vaco")
    assert not list(tmp_path.iterdir())


def test_polars_own_types_are_taken():
    frame = pl.DataFrame(OURS).with_columns(
        word=pl.lit("a"), kind=pl.Series(["x", "y"] * 60, dtype=pl.Categorical), level=pl.Series([None, 1] * 60)
    )
    with on_disk(frame) as address:
        assert set(open_dataset(address).further.types) == {"word", "kind", "level"}


def test_what_is_no_dataset_is_refused_with_what_is_one(tmp_path):
    for wrong in ([1, 2], None, object(), 7):
        with pytest.raises(DatasetError, match="cannot be written to a file"):
            read_dataset(wrong)
    for wrong in (
        {"observation": np.zeros((3, 2)), "action": np.zeros((2, 1))},
        {},
        {"observation": np.zeros((2, 2, 2))},
    ):
        with pytest.raises(DatasetError, match="an entry for every row"):
            read_dataset(wrong)
    with pytest.raises(SettingsError, match="no name to call the run by"):
        score_dataset(D4RL)
    with pytest.raises(DatasetError, match="missing column"):
        read_dataset(pa.table({"a": [1]}))


def test_a_description_and_a_conversion_need_no_file(tmp_path):
    assert inspect_dataset(D4RL).rows == 120
    convert_dataset(OURS, tmp_path / "out")
    assert read_dataset(tmp_path / "out").fingerprint == read_dataset(D4RL).fingerprint
