from __future__ import annotations

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from helpers import make_transitions, tiny_settings, write_d4rl

from vaco_curate import native
from vaco_curate.folders import newest_run
from vaco_curate.formats import read_dataset
from vaco_curate.manifest import read_manifest
from vaco_curate_cli.main import COMMANDS

CONFIG = json.dumps(tiny_settings().to_json())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(vaco, command):
    outcome = vaco(command, "--help")
    assert outcome.code == 0
    assert f"vaco-curate {command}" in outcome.stdout
    assert "Example" in outcome.stdout
    assert "--json" in outcome.stdout
    assert "--quiet" in outcome.stdout


def test_the_group_lists_the_exit_codes(vaco):
    assert "130 interrupted" in vaco("--help").stdout


def test_score_writes_a_complete_run_and_filter_uses_it_without_an_argument(vaco, here, pendulum):
    shutil.copy(pendulum, here / "pendulum.hdf5")
    (here / "tiny.json").write_text(CONFIG)
    scored = vaco("score", "pendulum.hdf5", "--config", "tiny.json")
    assert scored.code == 0, scored.stderr
    assert "actions are scaled to [-1, 1] by the action space" in scored.stderr
    names = sorted(path.name for path in (here / "pendulum.vaco").iterdir())
    assert names == ["manifest.json", "metrics.parquet", "policy", "scorer", "scores"]
    assert not (here / "pendulum.vaco.partial").exists()

    kept = vaco("filter", "--top", "50%")
    assert kept.code == 0, kept.stderr
    assert "using the newest run here: pendulum.vaco" in kept.stderr
    assert "effective sample size" in kept.stdout
    assert read_manifest(here / "pendulum.top50pct")["rows"] == {
        "kept": 2000,
        "dropped": 2000,
        "reasons": {"below the cut": 2000},
    }


def test_scores_have_one_row_for_every_raw_row_in_order(scored, pendulum):
    frame = pl.read_parquet(scored / "pendulum.vaco" / "scores/pendulum.parquet")
    data = read_dataset(str(pendulum))
    assert frame.columns == [
        "index", "episode_id", "step_index", "reward", "score", "score_std", "q_value", "advantage",
    ]  # fmt: skip
    assert frame["index"].to_list() == list(range(len(data)))
    assert (frame["step_index"].to_numpy() == data.step_index).all()
    assert (frame["reward"].to_numpy() == data.reward).all()
    assert frame["score_std"].null_count() == len(frame), "one member has no spread"
    assert frame.drop("score_std").null_count().sum_horizontal().item() == 0
    assert np.isfinite(frame.select("score", "q_value", "advantage").to_numpy()).all()


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
    assert set(manifest["seconds"]) == {"read", "train", "score"}


def test_inspect_describes_the_dataset(vaco, scored):
    outcome = vaco("inspect", "pendulum.hdf5")
    assert outcome.code == 0
    for text in ("d4rl", "Pendulum-v1", "4,000", "20 rows", "float32"):
        assert text in outcome.stdout
    facts = vaco("inspect", "pendulum.hdf5", "--json").json
    assert (facts["rows"], facts["episodes"], facts["rows_without_target"]) == (4000, 20, 20)


def test_inspect_names_problems(vaco, here):
    data = make_transitions(columns={"truncated": np.zeros(120, bool), "reward": np.zeros(120, np.float32)})
    write_d4rl(here / "d.hdf5", data, actions=np.zeros((120, 2), np.float32))
    text = vaco("inspect", "d.hdf5").stdout
    assert "1 episode(s) have no end flag" in text
    assert "same return" in text


@pytest.mark.parametrize(
    ("arguments", "folder", "rows"),
    [
        (["--top", "10%"], "pendulum.top10pct", 400),
        (["--top", "12.5%"], "pendulum.top12.5pct", 500),
        (["--top", "7"], "pendulum.top7", 7),
        (["--top", "450", "--level", "episode"], "pendulum.top450-episodes", 400),
        (["--threshold", "-100"], "pendulum.above-100", 4000),
    ],
)
def test_filter_keeps_what_it_is_told(vaco, scored, arguments, folder, rows):
    outcome = vaco("filter", *arguments, "--json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["out"] == folder
    assert outcome.json["after"]["rows"] == rows
    table = pq.read_table(scored / folder / "data" / "pendulum.parquet")
    assert len(table) == rows
    assert table.column_names == [
        "observation", "action", "reward", "next_observation", "terminated", "truncated",
        "index", "episode_id", "step_index", "score", "rank",
    ]  # fmt: skip


def test_the_rank_is_a_whole_number_by_which_readers_can_skip_row_groups(vaco, scored):
    """Polars prunes no row group by a float: NaN would count as larger."""
    assert vaco("filter", "--top", "10%", "--out", "out").code == 0
    for file in ("selection.parquet", "data/pendulum.parquet"):
        schema = pq.read_schema(scored / "out" / file)
        assert str(schema.field("rank").type) == "int64"
        assert not schema.field("rank").nullable
        assert (
            pl.scan_parquet(scored / "out" / file).filter(pl.col("rank") < 400).collect()["rank"] < 400
        ).all()
    selection = pl.read_parquet(scored / "out" / "selection.parquet")
    assert (selection["keep"] == (selection["rank"] < 400)).all()


def test_excluded_rows_are_written_with_their_reason(vaco, scored):
    assert vaco("filter", "--top", "30%", "--excluded", "dropped").code == 0
    kept, dropped = (
        pq.read_table(scored / folder / "data" / "pendulum.parquet")
        for folder in ("pendulum.top30pct", "dropped")
    )
    assert set(dropped.column("reason").to_pylist()) == {"below the cut"}
    together = kept.column("index").to_pylist() + dropped.column("index").to_pylist()
    assert sorted(together) == list(range(4000))


def test_a_dry_run_writes_nothing(vaco, scored):
    before = sorted(scored.iterdir())
    outcome = vaco("filter", "--top", "50%", "--dry-run")
    assert "nothing written" in outcome.stdout
    assert sorted(scored.iterdir()) == before


def test_the_same_filter_writes_the_same_bytes(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "one")
    vaco("filter", "--top", "50%", "--out", "two")
    assert (scored / "one/data/pendulum.parquet").read_bytes() == (
        scored / "two/data/pendulum.parquet"
    ).read_bytes()


def test_reweight_writes_every_row_with_weights_of_mean_one(vaco, scored):
    outcome = vaco("reweight", "--clip", "3")
    assert outcome.code == 0, outcome.stderr
    assert "after clipping at 3" in outcome.stdout
    weight = (
        pq.read_table(scored / "pendulum.weighted" / "data" / "pendulum.parquet").column("weight").to_numpy()
    )
    assert len(weight) == 4000
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    assert weight.max() <= 3.0


def test_an_applied_scorer_gives_the_scores_of_its_training(vaco, scored):
    outcome = vaco("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "again.vaco", "--json")
    assert outcome.code == 0, outcome.stderr
    mine = pl.read_parquet(scored / "again.vaco" / "scores/pendulum.parquet")
    assert mine.equals(pl.read_parquet(scored / "pendulum.vaco" / "scores/pendulum.parquet"))
    assert newest_run(scored).name == "again.vaco"
    assert vaco("filter", "--top", "5", "--dry-run").code == 0
    assert vaco("report", "again.vaco").code == 0


def test_eval_compares_the_curated_policy_and_records_it(vaco, scored):
    vaco("filter", "--top", "25%", "--level", "episode", "--out", "kept")
    for target in ("pendulum.vaco", "kept"):
        outcome = vaco(
            "eval", target, "--against", "uniform,random,return,advantage",
            "--updates", 20, "--seeds", 2, "--episodes", 2, "--json",
        )  # fmt: skip
        assert outcome.code == 0, outcome.stderr
        policies = outcome.json["policies"]
        assert [policy["name"] for policy in policies] == [
            "curated",
            "uniform",
            "random",
            "return",
            "advantage",
        ]
        assert np.shape(policies[0]["returns"]) == (2, 2)
        assert policies[0]["interval"][0] <= policies[0]["mean"] <= policies[0]["interval"][1]
        assert (scored / target / "evaluated_policy" / "policy.safetensors").is_file()
    assert outcome.json["policies"][0]["rows"] == 1000
    assert len(json.loads((scored / "pendulum.vaco" / "evaluations.json").read_text())) == 2
    vaco("report")
    assert "What a cloned policy earns" in (scored / "pendulum.vaco" / "report.html").read_text()


def test_report_is_one_file_that_needs_no_network(vaco, scored):
    outcome = vaco("report", "--json")
    assert outcome.code == 0, outcome.stderr
    page = (scored / "pendulum.vaco" / "report.html").read_text()
    assert 'src="http' not in page
    for text in ("Every episode", "Scores of all rows", "top 10 % of transitions", "Spearman", "Lower level"):
        assert text in page
    assert outcome.json["correlations"][0]["signal"] == "score"


def test_json_is_all_that_stands_on_stdout_and_quiet_silences_the_rest(vaco, scored):
    loud = vaco("filter", "--top", "50%", "--dry-run", "--json")
    json.loads(loud.stdout)
    assert "using the newest run" in loud.stderr
    quiet = vaco("filter", "--top", "50%", "--dry-run", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


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


def test_the_demo_runs_every_command_and_leaves_a_report(vaco, here, monkeypatch):
    from vaco_curate_cli.commands import demo

    short = {"4000": "20", "20": "2"}
    steps = [
        (command, name, tuple(short.get(a, a) for a in arguments)) for command, name, arguments in demo.STEPS
    ]
    monkeypatch.setattr(demo, "STEPS", steps)
    monkeypatch.setattr(demo, "SHORT", json.loads(CONFIG))
    outcome = vaco("demo", "--json")
    assert outcome.code == 0, outcome.stderr
    assert (here / outcome.json["report"]).is_file()
    assert len(json.loads((here / "demo/pendulum-mixed.vaco/evaluations.json").read_text())) == 2
    assert vaco("demo").code == 1, "a second run needs --force"
    assert vaco("demo", "--force").code == 0


def test_a_run_and_its_curated_folder_can_move_together(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "kept")
    (scored / "moved").mkdir()
    for name in ("kept", "pendulum.vaco", "pendulum.hdf5"):
        shutil.move(scored / name, scored / "moved" / name)
    arguments = ("--against", "", "--updates", 5, "--seeds", 1, "--episodes", 1)
    outcome = vaco("eval", "moved/kept", "--dataset", "moved/pendulum.hdf5", *arguments)
    assert outcome.code == 0, outcome.stderr


def test_an_interrupted_demo_exits_with_130_and_can_be_started_again(vaco, here, monkeypatch):
    from vaco_curate_cli.commands import demo

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "record_pendulum", interrupted)
        assert vaco("demo").code == 130
    with monkeypatch.context() as patch:
        patch.setattr("vaco_curate_cli.commands.score.score_dataset", interrupted)
        assert vaco("demo", "--force").code == 130


def test_a_report_of_few_long_episodes_says_where_none_fits(vaco, here):
    write_d4rl(here / "few.hdf5", make_transitions(episodes=3, length=40))
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", "few.hdf5", "--config", "tiny.json").code == 0
    outcome = vaco("report")
    assert outcome.code == 0, outcome.stderr
    assert "only 3 episodes" in outcome.stderr
    assert "the best episode alone is larger" in (here / "few.vaco" / "report.html").read_text()


def test_names_with_spaces_and_brackets_work_throughout(vaco, tmp_path, monkeypatch, pendulum):
    folder = tmp_path / "we [b] x"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(pendulum, folder / "da[t]a 1.hdf5")
    (folder / "tiny.json").write_text(CONFIG)
    commands = [["score", "da[t]a 1.hdf5", "--config", "tiny.json"], ["filter", "--top", "50%"], ["report"]]
    for command in [*commands, ["reweight"], ["inspect", "da[t]a 1.hdf5"]]:
        outcome = vaco(*command)
        assert outcome.code == 0, outcome.stderr
    assert "da[t]a 1.hdf5" in outcome.stdout


def test_a_folder_of_shards_is_scored_from_within_beside_itself(vaco, scored, monkeypatch):
    vaco("filter", "--top", "100%", "--out", "shards")
    (scored / "tiny.json").write_text(CONFIG)
    monkeypatch.chdir(scored / "shards")
    outcome = vaco("score", ".", "--config", "../tiny.json", "--json")
    assert outcome.code == 0, outcome.stderr
    assert (scored / "shards.vaco" / "scores/pendulum.parquet").is_file()


def test_a_run_may_lie_behind_a_link(vaco, scored):
    (scored / "disk").mkdir()
    (scored / "link.vaco").symlink_to(scored / "disk")
    (scored / "tiny.json").write_text(CONFIG)
    for force in ([], ["--force"]):
        outcome = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--out", "link.vaco", *force)
        assert outcome.code == 0, outcome.stderr
    assert (scored / "disk" / "scores/pendulum.parquet").is_file()
    assert (scored / "link.vaco").is_symlink()


def test_training_again_alike_gives_the_same_scorer(vaco, scored):
    vaco("filter", "--top", "50%", "--out", "kept")
    (scored / "tiny.json").write_text(CONFIG)
    assert vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--force").code == 0
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


def test_several_files_are_scored_and_filtered_each_into_one_of_its_name(vaco, here):
    record = [make_transitions(episodes=4, seed=seed) for seed in range(3)]
    for number, data in enumerate(record):
        write_d4rl(here / f"log-{number}.hdf5", data, **{"infos/task": np.full(80, number % 2)})
    (here / "tiny.json").write_text(CONFIG)
    assert vaco("score", "log-*.hdf5", "--config", "tiny.json", "--out", "logs.vaco").code == 0
    names = ["log-0.parquet", "log-1.parquet", "log-2.parquet"]
    assert sorted(path.name for path in (here / "logs.vaco" / "scores").iterdir()) == names
    outcome = vaco("filter", "--top", "25%", "--per", "source_file", "--json")
    assert outcome.code == 0, outcome.stderr
    folder = here / outcome.json["out"]
    assert sorted(path.name for path in (folder / "data").iterdir()) == names
    assert [pq.read_metadata(folder / "data" / name).num_rows for name in names] == [20, 20, 20]
    kept = pl.read_parquet(folder / "data" / "log-2.parquet")
    assert kept["index"].min() >= 160
    assert (kept["reward"].to_numpy() == record[2].reward[kept["index"].to_numpy() - 160]).all()
    selection = pl.read_parquet(folder / "selection.parquet")
    assert selection.columns == [
        "index",
        "episode_id",
        "step_index",
        "score",
        "rank",
        "weight",
        "keep",
        "reason",
    ]
    assert selection["keep"].sum() == 60
    assert set(selection.filter(~pl.col("keep"))["reason"]) == {"below the cut"}
    per_task = vaco("filter", "--top", "10%", "--per", "infos/task", "--dry-run", "--json")
    assert per_task.json["after"]["rows"] == 16 + 8
    missing = vaco("filter", "--top", "10%", "--per", "task")
    assert missing.code == 1
    assert "infos/task" in missing.stderr


def test_the_decision_alone_needs_no_dataset(vaco, scored):
    (scored / "pendulum.hdf5").rename(scored / "away.hdf5")
    outcome = vaco("filter", "--budget", "100", "--selection-only", "--out", "decision")
    assert outcome.code == 0, outcome.stderr
    assert sorted(path.name for path in (scored / "decision").iterdir()) == [
        "manifest.json",
        "selection.parquet",
    ]
    assert pl.read_parquet(scored / "decision" / "selection.parquet")["keep"].sum() == 100


@pytest.mark.parametrize("by", ["score", "q_value", "advantage", "return", "random"])
def test_rows_can_be_ordered_by_other_things_for_comparison(vaco, scored, by):
    outcome = vaco("filter", "--top", "10%", "--by", by, "--json")
    assert outcome.code == 0, outcome.stderr
    folder = scored / outcome.json["out"]
    selection = pl.read_parquet(folder / "selection.parquet")
    frame = pl.read_parquet(scored / "pendulum.vaco" / "scores" / "pendulum.parquet")
    returns = frame.group_by("episode_id", maintain_order=True).agg(pl.col("reward").sum().alias("return"))
    values = frame.join(returns, on="episode_id", maintain_order="left")
    if by != "random":
        kept = selection["keep"].to_numpy()
        assert values[by].to_numpy()[kept].min() >= values[by].to_numpy()[~kept].max()
    else:
        other = vaco("filter", "--top", "10%", "--by", by, "--seed", "1", "--out", "other").code
        assert other == 0
        assert not selection["keep"].equals(pl.read_parquet(scored / "other" / "selection.parquet")["keep"])
