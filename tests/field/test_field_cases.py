"""Situations that people have, each with the rows as they truly are or a refusal.

Every case with a truth goes through inspect, convert, filter, reweight and load_curated, and is compared with
it row by row; every other is refused in one message.
"""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
from field.episodes import CASES
from field.table import PAGE, with_table
from helpers import tiny_settings

from vaco_curate import load_curated
from vaco_curate.data.formats import read_dataset
from vaco_curate.data.formats.parquet import table_facts

TRUE = [case for case in CASES.values() if "refused" not in case.outcome]
REFUSED = [case for case in CASES.values() if "refused" in case.outcome]
names = {"ids": lambda case: case.name}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.json"
    facts = tiny_settings().to_json()
    facts["value"] |= {"updates": 10, "hidden": [8, 8]}
    facts["bilevel"] |= {"updates": 10, "hidden": [8, 8]}
    path.write_text(json.dumps(facts))
    return path


def check_rows(data, truth):
    """All that a source holds, bit for bit."""
    for name in ("observation", "action", "reward", "terminated", "truncated", "step_index"):
        ours, true = getattr(data, name), getattr(truth, name)
        assert (ours == true.reshape(ours.shape)).all(), name
    true_episodes = np.concatenate([[False], np.diff(truth.episode) != 0])
    our_episodes = np.concatenate([[False], np.diff(data.episode_id) != 0])
    assert np.flatnonzero(our_episodes).tolist() == np.flatnonzero(true_episodes).tolist()
    assert (data.has_successor == truth.has_successor).all()
    known = truth.has_successor
    assert (data.next_observation[known] == truth.next_observation[known]).all()


def returns_of(truth):
    starts = np.concatenate([[0], np.flatnonzero(np.diff(truth.episode)) + 1])
    return np.add.reduceat(truth.reward.astype(np.float64), starts)


@pytest.mark.parametrize("case", TRUE, **names)
def test_inspect_sees_the_rows_as_they_are_and_says_what_is_odd(vaco, tmp_path, case):
    source, truth = case.make(tmp_path)
    check_rows(read_dataset(str(source), options_of(case)), truth)
    outcome = vaco("inspect", source, "--json", *case.options)
    assert outcome.code == 0, outcome.stderr
    facts = json.loads(outcome.stdout)
    returns = returns_of(truth)
    assert (facts["rows"], facts["episodes"]) == (len(truth), len(returns))
    spread = facts["episode_return"]
    assert (spread["minimum"], spread["maximum"]) == pytest.approx((returns.min(), returns.max()))
    assert facts["terminated_rows"] == truth.terminated.sum()
    if case.says is not None:
        assert re.search(case.says, "\n".join(facts["problems"])), facts["problems"]


def options_of(case):
    """``ReadOptions`` as the command line makes them."""
    from vaco_curate.data.formats import ReadOptions

    given = dict(zip(case.options[::2], case.options[1::2], strict=True))
    pairs = [pair.split("=") for pair in given.get("--column", "").split(",") if pair]
    dropped = tuple(name for name in given.get("--drop-columns", "").split(",") if name)
    limit = given.get("--max-episode-steps")
    return ReadOptions(dict(pairs), int(limit) if limit else None, dropped)


@pytest.mark.parametrize("case", TRUE, **names)
def test_what_is_converted_is_what_the_source_holds(vaco, tmp_path, case):
    source, truth = case.make(tmp_path)
    for file_format in ("parquet", "d4rl"):
        out = tmp_path / f"as-{file_format}"
        outcome = vaco("convert", source, out, "--format", file_format, *case.options)
        assert outcome.code == 0, outcome.stderr
        check_rows(read_dataset(str(out)), truth)
    check_plain_reader(tmp_path / "as-d4rl" / "data" / "part-00000.hdf5", truth)
    outcome = vaco("convert", source, tmp_path / "as-minari", "--format", "minari", *case.options)
    assert outcome.code == 0, outcome.stderr
    check_minari(read_dataset(str(tmp_path / "as-minari")), truth)


def follows(truth):
    """Whether the next row is in the state that a row led to, up to rounding and a twentieth of a step."""
    two_decimals = np.allclose(truth.next_observation, truth.next_observation.round(2), atol=1e-6)
    step = np.abs(np.diff(truth.observation.astype(float), axis=0)).mean(axis=0)
    apart = np.abs(truth.next_observation[:-1].astype(float) - truth.observation[1:].astype(float))
    near = (apart <= 0.05 * step + 1e-6 + 0.0051 * two_decimals).all(axis=1)
    same = (np.diff(truth.episode) == 0) & truth.has_successor[:-1] & ~truth.terminated[:-1]
    return np.append(same & near, False)


def check_plain_reader(path, truth):
    """A reader of D4RL's layout takes the next row for the successor just where no flag stands."""
    with h5py.File(path) as file:
        assert (file["terminals"][()] == truth.terminated).all()
        timeouts = truth.truncated | (~follows(truth) & ~truth.terminated)
        assert np.flatnonzero(file["timeouts"][()]).tolist() == np.flatnonzero(timeouts).tolist()


def check_minari(data, truth):
    """An episode for each run of rows that follow one another, without a last row of unknown outcome."""
    lengths, kept = [], []
    for run in np.split(np.arange(len(truth)), np.flatnonzero(~follows(truth))[:-1] + 1):
        last = run[-1]
        rows = run if truth.has_successor[last] or truth.terminated[last] else run[:-1]
        lengths += [len(rows)] if len(rows) else []
        kept.append(rows)
    assert data.episode_length.tolist() == lengths
    expected = truth.take(np.concatenate(kept))
    for name in ("observation", "action", "reward", "terminated"):
        ours = getattr(data, name)
        assert (ours == getattr(expected, name).reshape(ours.shape)).all(), name


@pytest.mark.parametrize("case", TRUE, **names)
def test_what_is_filtered_and_weighted_are_rows_of_the_source(vaco, tmp_path, case, config):
    source, truth = case.make(tmp_path)
    run = tmp_path / "run.vaco"
    outcome = vaco("score", source, "--out", run, "--config", config, "--device", "cpu", *case.options)
    assert outcome.code == 0, outcome.stderr
    for share in ("60%", "100%"):
        outcome = vaco("filter", run, "--top", share, "--level", "episode", "--out", tmp_path / "best")
        if outcome.code == 0:
            break
        assert "keeps nothing" in outcome.stderr, outcome.stderr  # the best episode alone is more
    best = load_curated(tmp_path / "best")
    kept = truth.take(best.index)
    check_rows(best.transitions, kept)
    sizes = np.bincount(truth.episode)
    counts = np.bincount(kept.episode, minlength=len(sizes))
    assert set(np.flatnonzero((counts != 0) & (counts != sizes))) == set()
    assert vaco("reweight", run, "--out", tmp_path / "weighted").code == 0
    weighted = load_curated(tmp_path / "weighted")
    check_rows(weighted.transitions, truth)
    assert np.isfinite(weighted.score).all()
    assert (weighted.weight > 0).all()
    assert weighted.weight.mean() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("case", REFUSED, **names)
def test_what_cannot_be_read_is_refused_in_one_message(vaco, tmp_path, case):
    source, truth = case.make(tmp_path)
    assert truth is None
    assert case.says is not None
    for command in (("inspect", source), ("score", source, "--out", tmp_path / "run.vaco")):
        outcome = vaco(*command, *case.options)
        assert outcome.code == 1
        assert re.search(case.says, outcome.stderr), outcome.stderr
    assert not (tmp_path / "run.vaco").exists()
    assert not (tmp_path / "run.vaco.partial").exists()


def test_rows_beside_a_hole_are_not_said_to_be_consecutive(vaco, tmp_path, config):
    source, _ = CASES["dropped_frames"].make(tmp_path)
    whole, _ = CASES["both_flags"].make(tmp_path)
    for name, path, consecutive in (("holes", source, False), ("whole", whole, True)):
        run, out = tmp_path / f"{name}.vaco", tmp_path / f"{name}.best"
        assert vaco("score", path, "--out", run, "--config", config, "--device", "cpu").code == 0
        assert vaco("filter", run, "--top", "100%", "--level", "episode", "--out", out).code == 0
        (file,) = (out / "data").iterdir()
        assert table_facts(pq.read_schema(file))["rows_consecutive"] is consecutive


def test_the_page_on_formats_shows_these_cases():
    text = PAGE.read_text()
    assert with_table(text) == text, "python tests/field/table.py"
    for other in ("README.md", "CHANGELOG.md"):
        assert f"{len(CASES)} situations" in (PAGE.parents[1] / other).read_text(), other


def test_every_case_says_what_it_is_refused_for():
    assert all(case.says is not None for case in REFUSED)
