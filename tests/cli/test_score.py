from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate.core.fast import native
from vaco_curate.curation.advice import Standing
from vaco_curate.data.formats import read_dataset
from vaco_curate.store.folders import newest_run
from vaco_curate.store.manifest import read_manifest


def test_score_writes_a_complete_run_and_filter_uses_it_without_an_argument(vaco, here, pendulum):
    shutil.copy(pendulum, here / "pendulum.hdf5")
    (here / "tiny.json").write_text(CONFIG)
    scored = vaco("score", "pendulum.hdf5", "--config", "tiny.json")
    assert scored.code == 0, scored.stderr
    assert "actions are scaled to [-1, 1] by the action space" in scored.stderr
    names = sorted(path.name for path in (here / "pendulum.vaco").iterdir())
    assert names == ["_manifest.json", "_times", "metrics.parquet", "policy", "scorer", "scores"]
    assert not (here / "pendulum.vaco.partial").exists()

    kept = vaco("filter", "--top", "50%")
    assert kept.code == 0, kept.stderr
    assert "using the newest run here: pendulum.vaco" in kept.stderr
    assert "effective rows" in kept.stdout
    assert read_manifest(here / "pendulum.top50pct")["rows"] == {
        "kept": 2000,
        "dropped": 2000,
        "reasons": {"outside the cut": 2000},
    }


def test_scores_have_one_row_for_every_raw_row_in_order(scored, pendulum):
    frame = pl.read_parquet(scored / "pendulum.vaco" / "scores/pendulum.parquet")
    data = read_dataset(str(pendulum))
    assert frame.columns == [
        "index", "episode_id", "step_index", "reward",
        "score", "score_std", "vaco_score", "q_value", "advantage", "goes_on",
    ]  # fmt: skip
    assert frame["index"].to_list() == list(range(len(data)))
    assert (frame["step_index"].to_numpy() == data.step_index).all()
    assert (frame["reward"].to_numpy() == data.reward).all()
    assert frame["score_std"].null_count() == len(frame), "one member has no spread"
    assert frame.drop("score_std").null_count().sum_horizontal().item() == 0
    assert np.isfinite(frame.select("score", "vaco_score", "q_value", "advantage").to_numpy()).all()


def test_the_manifest_says_what_made_the_run(scored, pendulum):
    manifest = read_manifest(scored / "pendulum.vaco")
    assert manifest["complete"] is True
    (recording,) = manifest["dataset"]["recordings"]
    (file,) = recording["files"]
    assert file["bytes"] == pendulum.stat().st_size
    assert len(file["sha256"]) == 64
    assert manifest["settings"] == json.loads(CONFIG)
    assert {"python", "torch", "vaco-curate"} <= set(manifest["versions"])
    assert manifest["seed"] == 0
    times = json.loads((scored / "pendulum.vaco" / "_times").read_text())
    assert set(times["seconds"]) == {"read", "train", "score"}
    assert times["started"] <= times["finished"]


def test_an_applied_scorer_gives_the_scores_of_its_training(vaco, scored):
    outcome = vaco("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "again.vaco", "--json")
    assert outcome.code == 0, outcome.stderr
    mine = pl.read_parquet(scored / "again.vaco" / "scores/pendulum.parquet")
    assert mine.equals(pl.read_parquet(scored / "pendulum.vaco" / "scores/pendulum.parquet"))
    assert newest_run(scored).name == "again.vaco"
    assert vaco("filter", "--top", "5", "--dry-run").code == 0
    assert vaco("report", "again.vaco").code == 0


def test_foreign_parquet_runs_through_the_pipeline_by_a_column_map(vaco, here, pendulum):
    data = read_dataset(str(pendulum))
    frame = {
        "obs": data.observation.tolist(),
        "act": data.action.tolist(),
        "rew": data.reward,
        "end": data.truncated,
    }
    pl.DataFrame(frame).write_parquet(here / "log.parquet")
    (here / "tiny.json").write_text(CONFIG)
    columns = "observation=obs,action=act,reward=rew,truncated=end"
    outcome = vaco("score", "log.parquet", "--config", "tiny.json", "--column", columns)
    assert outcome.code == 0, outcome.stderr
    assert "by the data range" in outcome.stderr
    assert vaco("filter", "--top", "10%", "--json").json["after"]["rows"] == 400


def test_a_run_is_not_written_into_its_dataset_nor_elsewhere_unasked(vaco, scored, monkeypatch):
    vaco("filter", "--top", "100%", "--out", "shards")
    (scored / "tiny.json").write_text(CONFIG)
    monkeypatch.chdir(scored / "shards")
    refused = vaco("score", ".", "--config", "../tiny.json")
    assert refused.code == 1
    (fix,) = re.findall(r"--out (\S+)", refused.stderr)
    outcome = vaco("score", ".", "--config", "../tiny.json", "--out", fix)
    assert outcome.code == 0, outcome.stderr
    assert (scored / "shards.vaco" / "scores/pendulum.parquet").is_file()


def test_training_again_alike_gives_the_same_scorer(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "kept")
    (scored / "tiny.json").write_text(CONFIG)
    assert vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--if-exists", "replace").code == 0
    arguments = ("--against", "", "--updates", 5, "--seeds", 1, "--episodes", 1)
    outcome = vaco("eval", "kept", *arguments)
    assert outcome.code == 0, outcome.stderr


def test_without_the_library_a_note_says_why_training_was_slow(vaco, here, pendulum, monkeypatch):
    monkeypatch.setattr(native, "load", lambda: None)
    monkeypatch.setattr(native, "why_not", lambda: "there is no C compiler named cc")
    (here / "short.json").write_text(CONFIG)
    outcome = vaco("score", str(pendulum), "--config", "short.json")
    assert outcome.code == 0
    assert "torch's own kernels were used" in outcome.stderr
    assert "no C compiler named cc" in outcome.stderr


def test_several_members_give_a_spread_and_a_report_of_what_is_uncertain(vaco, here, pendulum):
    (here / "short.json").write_text(CONFIG)
    assert (
        vaco("score", str(pendulum), "--config", "short.json", "--members", "3", "--out", "three.vaco").code
        == 0
    )
    assert read_manifest(here / "three.vaco")["members"] == 3
    frame = pl.read_parquet(here / "three.vaco" / "scores/pendulum.parquet")
    assert frame["score_std"].null_count() == 0
    assert frame["score_std"].min() > 0
    assert vaco("report", "three.vaco").code == 0
    assert "Which scores are uncertain" in (here / "three.vaco" / "report.html").read_text()
    assert vaco("score", str(pendulum), "--scorer", "three.vaco", "--out", "again.vaco").code == 0
    again = pl.read_parquet(here / "again.vaco" / "scores/pendulum.parquet")
    assert again.equals(frame)


def test_data_above_the_memory_limit_is_scored_alike_from_a_cache(vaco, scored, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(scored / "cache"))
    (scored / "tiny.json").write_text(CONFIG)
    arguments = ("score", "pendulum.hdf5", "--config", "tiny.json", "--memory-limit", "0.1MB")
    whole = pl.read_parquet(scored / "pendulum.vaco" / "scores" / "pendulum.parquet")
    first = vaco(*arguments, "--out", "mapped.vaco")
    assert first.code == 0, first.stderr
    assert re.search(
        r"writing the dataset's columns once, 0 MB, to .*/cache/vaco-curate/columns/", first.stderr
    )
    again = vaco(*arguments, "--out", "again.vaco")
    assert "columns once" not in again.stderr, "they are there"
    (columns,) = (scored / "cache" / "vaco-curate" / "columns").iterdir()
    shutil.rmtree(columns)
    assert vaco(*arguments, "--out", "none.vaco", "--no-cache").code == 0
    assert not any(path.name.startswith(".") for path in scored.iterdir())
    assert not any((scored / "cache" / "vaco-curate" / "columns").iterdir())
    for run in ("mapped", "again", "none"):
        assert pl.read_parquet(scored / f"{run}.vaco" / "scores" / "pendulum.parquet").equals(whole)
        fingerprint = read_manifest(scored / f"{run}.vaco")["dataset"]["fingerprint"]
        assert fingerprint == read_manifest(scored / "pendulum.vaco")["dataset"]["fingerprint"]


def test_a_full_cache_disk_is_refused_before_anything_is_written(vaco, here, pendulum, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    outcome = vaco("score", str(pendulum), "--memory-limit", "0.1MB", "--out", "x.vaco")
    assert outcome.code == 1
    assert "are free" in outcome.stderr
    assert not (here / "x.vaco").exists()


def test_rows_without_trajectories_are_told(vaco, here):
    """As in a shuffled replay buffer: every row by itself."""
    write_d4rl(here / "shuffled.hdf5", make_transitions(episodes=200, length=1))
    (here / "settings.json").write_text(CONFIG)
    outcome = vaco("score", "shuffled.hdf5", "--config", "settings.json")
    assert outcome.code == 0, outcome.stderr
    assert "100% of the rows are followed by no step" in outcome.stderr
    assert "filter by q_value" in outcome.stderr
    assert "vaco-curate filter" not in outcome.stderr
    assert "no behavior persists here" in outcome.stderr
    assert "what earned most" not in outcome.stderr + vaco("filter", "--top", "10%").stderr


def test_score_and_filter_say_over_what_behavior_persists_and_what_serves_there(vaco, here):
    """Four actors, one an episode, whose rewards differ from first to last: few episodes carry the weight."""
    data = make_transitions(
        episodes=40, columns={"reward": np.repeat(np.arange(40.0) % 4, 20).astype(np.float32)}
    )
    write_d4rl(here / "mixture.hdf5", data)
    (here / "settings.json").write_text(CONFIG)
    outcome = vaco("score", "mixture.hdf5", "--config", "settings.json")
    assert "persists over whole episodes here, so all rows of an episode have the same score" in outcome.stderr
    assert "effective episodes of 40" in outcome.stderr
    assert "what earned most" not in outcome.stderr
    assert "next: vaco-curate filter mixture.vaco --top 25%\n" in outcome.stderr
    made = vaco("filter", "--top", "25%", "--dry-run").stderr
    assert "effective episodes" not in made, (
        "what is proposed keeps enough of them, and a filter uses no weights"
    )
    assert re.search(
        "what is kept comes from .* effective episodes of 40", vaco("filter", "--top", "1%").stderr
    )
    assert "the weight lies on" in vaco("reweight").stderr
    assert "the weight lies on" not in vaco("reweight", "--temperature", "1000", "--out", "all").stderr


def test_where_actors_take_turns_the_steps_are_told(vaco, here):
    turns = np.repeat(np.random.default_rng(0).random(200) < 0.5, 50)
    data = make_transitions(
        episodes=20, length=500, columns={"reward": np.where(turns, 1, -1).astype(np.float32)}
    )
    write_d4rl(here / "turns.hdf5", data)
    (here / "settings.json").write_text(CONFIG)
    outcome = vaco("score", "turns.hdf5", "--config", "settings.json")
    assert re.search(r"persists over \d+ steps here: good and bad rows can lie in one episode", outcome.stderr)
    (advice,) = Standing("some steps", (), False, None, 1_000, 0.15, 10).advice
    assert advice in outcome.stderr
    assert "next: vaco-curate reweight turns.vaco\n" in outcome.stderr
    assert advice in vaco("filter", "--top", "10%").stderr
    assert advice not in vaco("filter", "--top", "20%", "--by", "return").stderr
    assert "what earned most" not in vaco("filter", "--bottom", "10%").stderr
