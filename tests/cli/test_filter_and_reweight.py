from __future__ import annotations

import json

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate.curation import ORDERS


@pytest.mark.parametrize(
    ("arguments", "folder", "rows"),
    [
        (["--top", "10%"], "pendulum.top10pct", 400),
        (["--top", "12.5%"], "pendulum.top12.5pct", 500),
        (["--top", "7"], "pendulum.top7", 7),
        (["--top", "450", "--level", "episode"], "pendulum.top450-episodes", 400),
        (["--top", "25%ep"], "pendulum.top25pctep", 1000),
        (["--bottom", "3ep"], "pendulum.bottom3ep", 600),
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
        "observation", "action", "reward", "next_observation", "has_successor", "terminated", "truncated",
        "index", "episode_id", "step_index", "score", "rank", "weight", "infos/behavior",
    ]  # fmt: skip


def test_the_rank_is_a_whole_number_by_which_readers_can_skip_row_groups(vaco, scored):
    """Polars prunes no row group by a float: NaN would count as larger."""
    assert vaco("filter", "--top", "10%", "--out", "out").code == 0
    for file in ("_selection.pq", "data/pendulum.parquet"):
        schema = pq.read_schema(scored / "out" / file)
        assert str(schema.field("rank").type) == "int64"
        assert not schema.field("rank").nullable
        assert (
            pl.scan_parquet(scored / "out" / file).filter(pl.col("rank") < 400).collect()["rank"] < 400
        ).all()
    selection = pl.read_parquet(scored / "out" / "_selection.pq")
    assert (selection["keep"] == (selection["rank"] < 400)).all()


def test_excluded_rows_are_written_with_their_reason(vaco, scored):
    assert vaco("filter", "--top", "30%", "--excluded", "dropped").code == 0
    kept, dropped = (
        pq.read_table(scored / folder / "data" / "pendulum.parquet")
        for folder in ("pendulum.top30pct", "dropped")
    )
    assert set(dropped.column("reason").to_pylist()) == {"outside the cut"}
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


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["reweight", "--format", "minari"], 2, "have no weights"),
        (["reweight", "--format", "robomimic"], 2, "without weights"),
        (["reweight", "--format", "lerobot"], 1, "goes with a LeRobot dataset, and d4rl was scored"),
        (["filter", "--top", "9%", "--format", "lerobot"], 1, "belong to a LeRobot dataset"),
    ],
)
def test_formats_that_do_not_fit_are_refused_with_the_reason(vaco, scored, arguments, code, reason):
    outcome = vaco(*arguments, "--out", "out")
    assert outcome.code == code
    assert reason in " ".join(outcome.stderr.split())
    assert not (scored / "out").exists()


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
    selection = pl.read_parquet(folder / "_selection.pq")
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
    assert set(selection.filter(~pl.col("keep"))["reason"]) == {"outside the cut"}
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
        "_manifest.json",
        "_selection.pq",
        "_times",
    ]
    assert pl.read_parquet(scored / "decision" / "_selection.pq")["keep"].sum() == 100


def test_the_networks_score_is_refused_where_it_was_not_trained(vaco, scored, tmp_path):
    settings = json.loads(CONFIG)
    settings["bilevel"]["updates"] = 0
    (scored / "values.json").write_text(json.dumps(settings))
    assert vaco("score", "pendulum.hdf5", "--config", "values.json", "--out", "values").code == 0
    frame = pl.read_parquet(scored / "values" / "scores" / "pendulum.parquet")
    assert frame["vaco_score"].null_count() == len(frame)
    assert not (scored / "values" / "policy").exists()
    outcome = vaco("filter", "values", "--top", "10%", "--by", "vaco_score")
    assert outcome.code == 1
    assert "left the bi-level phase out" in outcome.stderr
    assert "--preset standard" in outcome.stderr


@pytest.mark.parametrize("by", ORDERS)
def test_rows_can_be_ordered_by_other_things_for_comparison(vaco, scored, by):
    outcome = vaco("filter", "--top", "10%", "--by", by, "--json")
    assert outcome.code == 0, outcome.stderr
    folder = scored / outcome.json["out"]
    selection = pl.read_parquet(folder / "_selection.pq")
    frame = pl.read_parquet(scored / "pendulum.vaco" / "scores" / "pendulum.parquet")
    returns = frame.group_by("episode_id", maintain_order=True).agg(pl.col("reward").sum().alias("return"))
    values = frame.join(returns, on="episode_id", maintain_order="left")
    if by != "random":
        kept = selection["keep"].to_numpy()
        assert values[by].to_numpy()[kept].min() >= values[by].to_numpy()[~kept].max()
    else:
        other = vaco("filter", "--top", "10%", "--by", by, "--seed", "1", "--out", "other").code
        assert other == 0
        assert not selection["keep"].equals(pl.read_parquet(scored / "other" / "_selection.pq")["keep"])
