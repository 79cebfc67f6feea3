"""Arguments of other kinds than are meant, and results given for paths."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make_transitions, tiny_settings

from vaco_curate import (
    Cut,
    EvaluationSettings,
    ReadOptions,
    TrainSettings,
    ValueSettings,
    apply_scorer,
    convert_dataset,
    evaluate_policy,
    filter_dataset,
    inspect_dataset,
    kept_episodes,
    load_curated,
    load_scores,
    load_weights,
    open_dataset,
    read_dataset,
    report_run,
    reweight_dataset,
    score_dataset,
    score_stream,
    verify_folder,
)
from vaco_curate.errors import CurateError
from vaco_curate.store.manifest import read_manifest


def test_numbers_of_numpy_are_numbers(tmp_path, pendulum, pendulum_run):
    score = load_scores(pendulum_run)["score"].to_numpy()
    kept = filter_dataset(
        pendulum_run,
        Cut(threshold=np.quantile(score, np.float32(0.5)).astype(np.float32)),
        min_episode_length=np.int64(2),
        keep_successors=np.int64(1),
        out=tmp_path / "kept",
    )
    assert kept.after.rows >= 2000
    assert filter_dataset(pendulum_run, Cut(rows=np.int64(50)), out=tmp_path / "rows").after.rows == 50
    assert filter_dataset(pendulum_run, Cut(episodes=np.int32(3)), out=tmp_path / "ep").after.episodes == 3
    reweight_dataset(pendulum_run, temperature=np.float32(2), clip=np.float64(9), out=tmp_path / "weighted")
    options = ReadOptions(max_episode_steps=np.int64(200), step_cost=np.float32(0.5))
    settings = dataclasses.replace(
        tiny_settings(), value=dataclasses.replace(tiny_settings().value, updates=np.int64(20))
    )
    again = {"out": tmp_path / "run", "settings": settings, "seed": np.int64(3), "members": np.int8(1)}
    score_dataset(pendulum, **again, read_options=options, device="cpu")
    assert score_dataset(pendulum, **again, read_options=options, device="cpu", if_exists="skip").skipped
    convert_dataset(pendulum, tmp_path / "converted", rows_per_shard=np.int64(1000))


def test_results_are_paths(tmp_path, pendulum, pendulum_run):
    run = apply_scorer(pendulum, pendulum_run, out=tmp_path / "run", device="cpu")
    kept = filter_dataset(run, "50%", out=tmp_path / "kept")
    assert len(load_curated(kept)) == len(load_weights(kept).nonzero()[0]) == kept.after.rows
    assert kept_episodes(kept) is not None
    assert not verify_folder(run).failed
    assert not verify_folder(kept).failed
    assert report_run(run, compare_with=run).run == Path(run)
    assert inspect_dataset(convert_dataset(kept, tmp_path / "converted")).rows == kept.after.rows
    rows = sum(len(batch) for batch in score_stream(pendulum, run))
    assert rows == apply_scorer(pendulum, run, out=tmp_path / "again", device="cpu").rows == run.rows
    with pytest.raises(CurateError, match="a dry run wrote nothing"):
        load_curated(filter_dataset(run, "50%", dry_run=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: ReadOptions(columns="observation=obs"), "a name of the source's is needed for each"),
        (lambda run: ReadOptions(columns={"observation": ["a", "b"]}), "a name of the source's is needed"),
        (lambda run: ReadOptions(columns=None), "a name of the source's is needed"),
        (lambda run: ReadOptions(success=True), "the name of a flag is needed"),
        (lambda run: ReadOptions(max_episode_steps=-5), "max_episode_steps -5 must be at least 1"),
        (lambda run: ReadOptions(max_episode_steps=10.5), "max_episode_steps 10.5 must be a whole number"),
        (lambda run: ReadOptions(step_cost="x"), "step_cost 'x' must be a finite number"),
        (lambda run: ReadOptions(drop_columns=[1]), "names are needed"),
        (lambda run: read_dataset("d.hdf5", {"columns": {}}), "ReadOptions are needed, not dict"),
        (lambda run: open_dataset({"observations": []}), "a path is needed, not dict"),
        (lambda run: filter_dataset(None, "50%"), "a path is needed, not NoneType"),
        (lambda run: filter_dataset(run, "50%", out=5), "a path is needed, not int"),
        (lambda run: filter_dataset(run, "50%", min_episode_length=2.5), "must be a whole number"),
        (lambda run: filter_dataset(run, "50%", min_episode_length=9999), "give a lower min_episode_length"),
        (lambda run: filter_dataset(run, None), 'give "50%", "20000" or "80%ep"'),
        (lambda run: filter_dataset(run, Cut(rows="500")), "rows '500' must be a whole number"),
        (lambda run: filter_dataset(run, "50%", out=run / "best"), "would lie in the run"),
        (lambda run: filter_dataset(run, "50%", dry_run=True, dataset="gone.hdf5"), "no such file"),
        (lambda run: reweight_dataset(run, temperature="a"), "temperature 'a' must be a finite number"),
        (lambda run: score_dataset("d.hdf5", members=2.5), "members 2.5 must be a whole number"),
        (lambda run: score_dataset("d.hdf5", seed="a"), "seed 'a' must be a whole number"),
        (lambda run: score_dataset("d.hdf5", memory_limit="2GiB"), "memory_limit '2GiB' must be a whole"),
        (lambda run: TrainSettings(value={"updates": 3}), "setting value must be ValueSettings, not"),
        (lambda run: TrainSettings(value=ValueSettings(updates=10.5)), "value.updates must be a finite int"),
        (
            lambda run: EvaluationSettings(environment=5),
            "environment takes the Gymnasium id of an environment, not 5",
        ),
        (lambda run: EvaluationSettings(episodes="x"), "episodes 'x' must be a whole number"),
        (lambda run: EvaluationSettings(against="chance"), "against chance: unknown"),
        (lambda run: evaluate_policy(run, {"episodes": 3}), "EvaluationSettings are needed, not dict"),
        (lambda run: verify_folder("nowhere"), "nowhere: there is no such folder"),
        (lambda run: load_scores("nowhere"), "there is no such folder"),
    ],
)
def test_arguments_of_another_kind_are_one_message_and_leave_nothing(pendulum_run, here, call, message):
    with pytest.raises(CurateError, match=re.escape(message)):
        call(pendulum_run)
    assert not list(here.iterdir())


def test_one_name_may_be_given_for_several(tmp_path, pendulum_run):
    kept = filter_dataset(pendulum_run, "50%", columns="infos/behavior", out=tmp_path / "kept")
    assert "infos/behavior" in read_manifest(kept.out)["request"]["columns"]
    assert ReadOptions(drop_columns="images").drop_columns == ("images",)


def test_what_an_output_was_made_with_is_told_where_other_values_are_asked_for(tmp_path, pendulum_run):
    filter_dataset(pendulum_run, "50%", out=tmp_path / "kept")
    with pytest.raises(CurateError, match="made with other values of: top") as raised:
        filter_dataset(pendulum_run, "10%", out=tmp_path / "kept", if_exists="skip")
    assert "share: 1/2 there, 1/10 asked for" in str(raised.value)


def test_data_in_memory_are_called_so(tmp_path):
    data = make_transitions()
    arrays = {"observations": data.observation, "actions": data.action, "rewards": data.reward}
    found = inspect_dataset({**arrays, "terminals": data.terminated})
    assert repr(found).startswith("<Inspection the dataset in memory: d4rl")
    with pytest.raises(CurateError, match="mend the arrays that were given"):
        read_dataset({**arrays, "terminals": data.terminated[1:]})
