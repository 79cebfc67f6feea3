"""Demonstrations whose only reward is a flag of success: failures score below what succeeds."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata

from vaco_curate import (
    Cut,
    apply_scorer,
    filter_dataset,
    kept_episodes,
    load_curated,
    load_scores,
    load_weights,
    open_dataset,
    read_dataset,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.core.advantage import Persistence
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import ValueSettings
from vaco_curate.curation.advice import kind_of
from vaco_curate.data.formats import ReadOptions
from vaco_curate.errors import CurateError, DatasetError, RunError, SettingsError
from vaco_curate.stages.runs import open_run
from vaco_curate.stages.score_runs import note_on_persistence
from vaco_curate.store.manifest import read_manifest

SETTINGS = dataclasses.replace(
    PRESETS["quick"], value=ValueSettings(updates=4_000, batch_size=128, hidden=(64, 64), settled_at=None)
)
KINDS = ("good",) * 32 + ("slow",) * 16 + ("wobbly",) * 16 + ("failing",) * 16
LIMIT = 60


def reach(kind, generator):
    """(observations, actions, success) of a point on its way to the origin."""
    position, observations, actions = (
        generator.uniform(-1, 1, 2) + np.sign(generator.standard_normal(2)),
        [],
        [],
    )
    drift = generator.uniform(0.4, 1.2, 2) * np.sign(generator.standard_normal(2))
    for step in range(LIMIT):
        target = drift if kind == "failing" else np.zeros(2)
        way = target - position
        action = 0.12 * way / max(np.linalg.norm(way), 0.12)
        if kind == "slow":
            action *= 0.5
        if kind == "wobbly":
            action += 0.08 * np.sin(step) * np.array([-way[1], way[0]]) / max(np.linalg.norm(way), 0.1)
        observations.append(position)
        actions.append(action + generator.normal(0, 0.005, 2))
        position = position + actions[-1]
        if np.linalg.norm(position) < 0.1:
            return observations, actions, True
    return observations, actions, False


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A LeRobot dataset with next.success on last frames, and the same flag in meta/episodes.jsonl."""
    folder, generator = tmp_path_factory.mktemp("robot"), np.random.default_rng(0)
    rows, flags, lengths = {}, [], []
    for number, kind in enumerate(KINDS):
        observations, actions, success = reach(kind, generator)
        assert success == (kind != "failing")
        count = len(actions)
        parts = {
            "observation.state": observations,
            "action": actions,
            "next.success": [success and step == count - 1 for step in range(count)],
            "episode_index": [number] * count,
            "frame_index": list(range(count)),
        }
        for name, values in parts.items():
            rows.setdefault(name, []).extend(values)
        flags.append(success)
        lengths.append(count)
    vector = {"dtype": "float32", "shape": [2], "names": None}
    info = {
        "codebase_version": "v2.1",
        "total_frames": sum(lengths),
        "features": {
            "observation.state": vector,
            "action": vector,
            "next.success": {"dtype": "bool", "shape": [1], "names": None},
        },
    }
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    facts = zip(lengths, flags, strict=True)
    lines = [{"episode_index": n, "length": length, "solved": flag} for n, (length, flag) in enumerate(facts)]
    (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    floats = pa.list_(pa.float32(), 2)
    columns = {
        name: pa.array([list(map(float, value)) for value in values], floats)
        if name in ("observation.state", "action")
        else pa.array(values)
        for name, values in rows.items()
    }
    (folder / "data" / "chunk-000").mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "data" / "chunk-000" / "file-000.parquet")
    return folder


def episode_scores(recorded, out, **options):
    score_dataset(recorded, out=out, settings=SETTINGS, device="cpu", read_options=ReadOptions(**options))
    table = open_run(out).scores
    episode, score = table.column("episode_id"), table.column("score")
    means = np.bincount(episode, score) / np.bincount(episode)
    return {kind: means[np.array(KINDS) == kind] for kind in ("good", "slow", "wobbly", "failing")}


def quick_score(source, out, **options):
    """Scores that are no good, in a second."""
    settings = dataclasses.replace(SETTINGS, value=dataclasses.replace(SETTINGS.value, updates=100))
    return score_dataset(source, out=out, settings=settings, device="cpu", read_options=ReadOptions(**options))


def area_under_curve(good, bad):
    ranks = rankdata(np.concatenate([good, bad]))
    return (ranks[: len(good)].sum() - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad))


def test_failures_score_below_every_kind_of_success(recorded, tmp_path):
    scores = episode_scores(recorded, tmp_path / "run", success="next.success")
    succeeded = np.concatenate([scores[kind] for kind in ("good", "slow", "wobbly")])
    assert area_under_curve(succeeded, scores["failing"]) > 0.95


def test_the_report_of_outcomes_shows_them_and_no_correlation_of_two_bars(recorded, tmp_path, vaco):
    scores = episode_scores(recorded, tmp_path / "run", success="next.success", step_cost=0.05)
    succeeded = np.concatenate([scores[kind] for kind in ("good", "slow", "wobbly")])
    outcome = vaco("report", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.stderr
    assert outcome.json["successes"] == 64
    found = {row["signal"]: row["auc"] for row in outcome.json["correlations"]}
    assert found["score"] == pytest.approx(area_under_curve(succeeded, scores["failing"]), abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "AUC of success" in page
    assert "mean score against length" in page
    assert "Correlation of episode means with episode returns" not in page
    assert "64 successes against failures" in vaco("report", tmp_path / "run").stdout


def test_a_step_cost_puts_fast_successes_before_slow_ones(recorded, tmp_path):
    plain = episode_scores(recorded, tmp_path / "plain", success="next.success")
    scores = episode_scores(recorded, tmp_path / "run", success="next.success", step_cost=0.05)
    slower = [area_under_curve(found["good"], found["slow"]) for found in (plain, scores)]
    assert slower[1] > max(0.8, slower[0] + 0.1)
    succeeded = np.concatenate([scores[kind] for kind in ("good", "slow", "wobbly")])
    assert area_under_curve(succeeded, scores["failing"]) > 0.95


def test_a_flag_of_episodes_is_that_of_their_last_frames(recorded):
    frames = read_dataset(str(recorded), ReadOptions(success="next.success"))
    episodes = read_dataset(str(recorded), ReadOptions(success="solved"))
    assert frames.fingerprint == episodes.fingerprint
    assert frames.reward.sum() == 64
    assert np.array_equal(frames.terminated, frames.reward == 1)
    costly = read_dataset(str(recorded), ReadOptions(success="solved", step_cost=0.25))
    assert np.array_equal(costly.reward, frames.reward - 0.25)


def test_what_is_missing_is_said_with_the_option_that_mends_it(recorded, tmp_path):
    with pytest.raises(DatasetError, match=r'no rewards(.|\n)*success="next.success"'):
        score_dataset(recorded, out=tmp_path / "run", device="cpu")
    assert "--success next.success" in " ".join(open_dataset(str(recorded)).facts["notes"])
    named = ReadOptions(columns={"reward": "next.success"})
    with pytest.raises(DatasetError, match=r'no value can be learned(.|\n)*success="next.success"\);'):
        score_dataset(recorded, out=tmp_path / "run", device="cpu", read_options=named)
    with pytest.raises(
        CurateError, match=r"\(success=.won.\): neither a feature of frames nor a flag of every episode"
    ):
        open_dataset(str(recorded), ReadOptions(success="won"))
    with pytest.raises(
        SettingsError, match=r"makes reward and terminated, and read_options\.columns names reward"
    ):
        ReadOptions({"reward": "next.reward"}, success="next.success")


def test_a_filter_of_episodes_says_how_lerobot_deletes_the_others(recorded, tmp_path, vaco):
    episode_scores(recorded, tmp_path / "run", success="next.success")
    out = tmp_path / "kept"
    made = vaco("filter", tmp_path / "run", "--top", "50%", "--level", "episode", "--out", out)
    assert made.code == 0, made.stderr
    command = shlex.split((out / "_lerobot.txt").read_text())
    assert command[0] == "lerobot-edit-dataset"
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--root"] == str(recorded)
    assert options["--operation.type"] == "delete_episodes"
    dropped = json.loads(options["--operation.episode_indices"])
    kept = kept_episodes(out)
    assert json.loads((out / "_episodes.json").read_text()) == kept
    assert sorted(kept + dropped) == list(range(80))
    assert set(read_dataset(str(out)).episode_id.tolist()) == set(kept)
    assert options["--new_repo_id"] == str(tmp_path / "kept.lerobot"), "an absolute path, beside the folder"
    assert "_lerobot.txt makes a copy without the" in made.stderr
    assert vaco("verify", out).code == 0
    rows = vaco("filter", tmp_path / "run", "--top", "50%", "--out", tmp_path / "rows")
    assert "_lerobot.txt" not in rows.stderr
    assert not (tmp_path / "rows" / "_lerobot.txt").exists()


def test_episodes_without_frames_are_deleted_with_the_dropped_ones(recorded, tmp_path, vaco):
    folder = tmp_path / "robot"
    shutil.copytree(recorded, folder)
    with (folder / "meta" / "episodes.jsonl").open("a") as file:
        file.write(json.dumps({"episode_index": 80, "length": 0, "solved": False}) + "\n")
    scored = quick_score(folder, tmp_path / "run", success="next.success")
    assert "without frames: episode 80" in scored.notes
    made = vaco("filter", tmp_path / "run", "--top", "50%", "--level", "episode", "--out", tmp_path / "kept")
    assert "dropped episodes and 1 without frames, kept.lerobot" in made.stderr
    command = shlex.split((tmp_path / "kept" / "_lerobot.txt").read_text())
    dropped = json.loads(command[command.index("--operation.episode_indices") + 1])
    assert sorted(kept_episodes(tmp_path / "kept") + dropped) == list(range(81))


def test_a_scorer_is_told_of_rows_that_are_read_otherwise_than_its_own(recorded, tmp_path):
    quick_score(recorded, tmp_path / "run", success="next.success", step_cost=0.05)

    def warnings(out, **options):
        found = apply_scorer(
            recorded, tmp_path / "run", out=tmp_path / out, device="cpu", read_options=ReadOptions(**options)
        )
        told = [warning for warning in found.warnings if "the scorer was trained" in warning]
        kept = [sign["text"] for sign in read_manifest(tmp_path / out)["warnings"]]
        assert {warning.on_command_line for warning in told} <= set(kept)
        return told

    assert not warnings("same", success="next.success", step_cost=0.05)
    assert not warnings("of_episodes", success="solved", step_cost=0.05)
    assert warnings("plain", success="next.success") == [
        "the scorer was trained with read_options.step_cost 0.05, and these rows are read without: their "
        "scores are not comparable"
    ]
    flagless, dearer, named = warnings(
        "rewards", columns={"reward": "next.success", "terminated": "next.success"}, step_cost=0.1
    )
    assert 'trained with ReadOptions(success="next.success"), and these rows are read without:' in flagless
    assert "with --step-cost 0.05, and these rows are read with --step-cost 0.1:" in dearer.on_command_line
    assert "without --column, and these rows are read with --column reward=" in named.on_command_line


def test_one_episode_is_too_few_and_no_note_reaches_beyond_it(recorded, tmp_path):
    folder = tmp_path / "robot"
    shutil.copytree(recorded, folder)
    (file,) = (folder / "data").glob("*/*.parquet")
    table = pq.read_table(file)
    table = table.filter(pa.compute.equal(table["episode_index"], 0))
    pq.write_table(table, file)
    info = json.loads((folder / "meta" / "info.json").read_text())
    (folder / "meta" / "info.json").write_text(json.dumps(info | {"total_frames": len(table)}))
    scored = quick_score(folder, tmp_path / "run", success="next.success")
    assert "there is only 1 episode: too few to tell what is good from what is chance" in scored.warnings
    assert scored.proposed is None
    (note,) = [note for note in scored.notes if "behavior persists" in note]
    assert all(int(number) <= len(table) for number in re.findall(r"(\d+) steps", note))


@pytest.mark.parametrize(
    ("scale", "note"),
    [
        (np.inf, "so all rows of an episode have the same score (over at most 60 steps)"),
        (
            300.0,
            "over at least 60 steps here, the length of the longest episode: rows of an episode have similar",
        ),
        (10.0, "behavior persists over 10 steps here: good and bad rows can lie in one episode"),
    ],
)
def test_the_note_on_persistence_is_of_no_more_steps_than_an_episode_has(scale, note):
    members = [Persistence(scale, shrinkage=1.0, low=-1.0, high=1.0, expected=0.0, predicted=0.5)]
    assert note in note_on_persistence(kind_of(members), members, longest=60)


def test_lerobot_gets_weights_and_rlinf_flags_of_frames(recorded, tmp_path, vaco):
    episode_scores(recorded, tmp_path / "run", success="next.success")
    reweight_dataset(tmp_path / "run", out=tmp_path / "weights", file_format="lerobot")
    weights = load_weights(tmp_path / "weights")
    assert np.allclose(weights, load_scores_weights(tmp_path / "run"), rtol=1e-5)
    progress = pq.read_table(tmp_path / "weights" / "sarm_progress.parquet")
    assert set(range(len(weights))) <= set(progress["index"].to_pylist())
    made = vaco("filter", tmp_path / "run", "--top", "40%", "--format", "lerobot", "--out", tmp_path / "flags")
    assert made.code == 0, made.stderr
    flags = pq.read_table(tmp_path / "flags" / "data" / "advantages_flags.parquet")
    frames = pq.read_table(recorded / "data")
    for name in ("episode_index", "frame_index"):
        assert flags[name].to_pylist() == frames[name].to_pylist()
    assert np.array_equal(flags["advantage"].to_numpy(), load_weights(tmp_path / "flags") == 1)
    assert vaco("verify", tmp_path / "flags").code == 0


def test_frames_that_are_not_counted_from_0_get_no_file_of_lerobots(recorded, tmp_path):
    """LeRobot looks weights up by the column index."""
    folder = tmp_path / "robot"
    shutil.copytree(recorded, folder)
    file = folder / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("index", pa.array(np.arange(len(table)) + 4)), file)
    episode_scores(folder, tmp_path / "run", success="next.success")
    with pytest.raises(SettingsError, match="does not count its frames from 0"):
        reweight_dataset(tmp_path / "run", out=tmp_path / "weights", file_format="lerobot")


def load_scores_weights(run):
    score = load_scores(run)["score"].to_numpy().astype(np.float64)
    return np.exp(score - score.max()) / np.exp(score - score.max()).mean()


def test_weights_are_those_of_the_rows_of_the_source(recorded, tmp_path):
    episode_scores(recorded, tmp_path / "run", success="next.success")
    source = read_dataset(str(recorded))
    filter_dataset(tmp_path / "run", Cut(share=Fraction(1, 2)), out=tmp_path / "half")
    curated, weights = load_curated(tmp_path / "half"), load_weights(tmp_path / "half")
    assert len(weights) == len(source)
    assert np.array_equal(np.flatnonzero(weights), curated.index)
    reweight_dataset(tmp_path / "run", out=tmp_path / "rows")
    for form in ("npy", "weights"):
        reweight_dataset(tmp_path / "run", out=tmp_path / form, file_format=form)
        alone = load_weights(tmp_path / form)
        assert np.array_equal(alone, load_weights(tmp_path / "rows"))
        assert np.allclose(alone, load_curated(tmp_path / "rows").weight)
        with pytest.raises(RunError, match="holds weights, no decision"):
            kept_episodes(tmp_path / form)
