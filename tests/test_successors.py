"""Whether the next row is the state that a row led to; field cases hold the situations that people have."""

from __future__ import annotations

import numpy as np
import pytest
from field.episodes import episodes, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st

from vaco_curate.core.paths import Paths
from vaco_curate.data.columns import checked_columns, continuity_of, transitions_from_columns
from vaco_curate.data.episodes import EpisodeNumbers, whole_episodes
from vaco_curate.data.successors import FEW_STEPS, SAME_STEP, Findings, StateScale
from vaco_curate.errors import DatasetError

COLUMNS = ("observation", "action", "reward", "terminated", "truncated", "next_observation")


def columns_of(truth, *left_out):
    return {name: getattr(truth, name) for name in COLUMNS if name not in left_out}


def read(columns):
    return transitions_from_columns(columns, source="log", format_name="test")


def test_states_are_the_same_up_to_rounding_and_not_up_to_a_step():
    observation = np.cumsum(np.random.default_rng(0).normal(size=(400, 3)), axis=0)
    scale = StateScale.of(observation, np.diff(observation, axis=0))
    assert scale.step == pytest.approx(np.ones(3), rel=0.2)
    assert scale.same_state(observation, observation.astype(np.float32)).all()
    assert scale.same_state(observation, observation.round(2)).all()
    assert not scale.same_state(observation[:-1], observation[1:]).any()
    beyond = observation.copy()
    beyond[:, 1] += 3 * SAME_STEP + 0.1 * observation.std()
    assert not scale.same_state(observation, beyond).any()


def test_a_jump_is_counted_in_steps_of_the_dimension_that_changes_most():
    observation = np.stack([np.arange(50.0), 10 * np.arange(50.0)], axis=1)
    scale = StateScale.of(observation, np.diff(observation, axis=0))
    moved = np.array([3.0, 20.0])
    assert scale.jump(observation, observation + moved) == pytest.approx(np.full(50, 3.0))


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    batch=st.integers(1, 40),
    kind=st.sampled_from(["timeout", "none", "late", "autoreset"]),
)
@settings(max_examples=100)
def test_batches_of_any_size_find_what_all_rows_at_once_find(lengths, batch, kind):
    truth = truth_of(episodes(np.random.default_rng(len(lengths)), lengths, "none"), last_known=True)
    last = np.append(np.diff(truth.episode) != 0, True)
    if kind != "none":
        truth.truncated = np.roll(last, 1) if kind == "late" else last
    if kind == "autoreset":
        truth.next_observation[last] = np.roll(truth.observation, -1, axis=0)[last]
    columns = checked_columns(columns_of(truth), "log")
    continuity, found, at_once = continuity_of(columns, "log"), Findings(), Findings()
    whole = EpisodeNumbers(0, None, continuity, at_once).of(columns)
    parts = [{n: v[at : at + batch] for n, v in columns.items()} for at in range(0, len(truth), batch)]
    numbers = EpisodeNumbers(0, None, continuity, found)
    pairs = zip(parts, [*parts[1:], None], strict=True)
    pieces = list(whole_episodes((numbers.of(part, after) for part, after in pairs), "log"))
    for name in ("episode_id", "truncated", "followed", "is_reset"):
        assert (np.concatenate([piece[name] for piece in pieces]) == whole[name]).all(), name
    assert found == at_once


def test_training_does_not_bootstrap_from_a_reset_and_paths_end_before_it():
    truth = truth_of(episodes(np.random.default_rng(7), [40] * 10), last_known=True)
    starts = np.arange(40, 400, 40)
    truth.next_observation[starts - 1] = truth.observation[starts]
    data = read(columns_of(truth))
    assert np.flatnonzero(data.is_reset).tolist() == (starts - 1).tolist()
    assert np.flatnonzero(~data.is_learnable).tolist() == (starts - 1).tolist()
    assert data.has_successor.all()
    paths = Paths.of(data, 1000)
    assert paths.length.tolist() == [40] * 10
    assert data.is_learnable[paths.last].tolist() == [False] * 9 + [True]


def test_a_hole_within_an_episode_ends_a_path_and_not_the_episode():
    truth = truth_of(episodes(np.random.default_rng(10), [60] * 6), last_known=True)
    kept = truth.take(np.flatnonzero(truth.step_index != 20))
    data = read(columns_of(kept))
    assert data.episode_length.tolist() == [59] * 6
    assert data.path_start.tolist() == sorted([*range(0, 354, 59), *range(20, 354, 59)])
    assert any("frames are missing" in note for note in data.notes)


def test_an_unflagged_end_is_an_end_where_starts_are_alike_however_small_the_jump():
    """Episodes of a system that hardly moves from its start, as HalfCheetah under a random policy."""
    rng = np.random.default_rng(1)
    found = episodes(rng, [8] * 40, "none", d=2)
    for one in found:
        one.observation = one.observation - one.observation[0] + rng.normal(size=2).astype("f4") * 0.01
    truth = truth_of(found, last_known=True)
    scale = StateScale.of(truth.observation, truth.next_observation - truth.observation)
    last = np.arange(7, 319, 8)
    assert scale.smooth
    assert np.median(scale.jump(truth.next_observation[last], truth.observation[last + 1])) < FEW_STEPS
    data = read(columns_of(truth, "truncated"))
    assert data.episode_length.tolist() == [8] * 40


def test_rows_in_no_order_are_episodes_of_one_row_and_it_is_said():
    truth = truth_of(episodes(np.random.default_rng(3), [50] * 4), last_known=True)
    shuffled = truth.take(np.random.default_rng(0).permutation(200))
    data = read(columns_of(shuffled))
    assert (data.episode_length <= 3).all()
    assert any("are not followed by their stored successor" in note for note in data.notes)


@pytest.mark.parametrize("copies", [2, 4, 50])
def test_environments_that_alternate_are_counted_in_the_refusal(copies):
    found = episodes(np.random.default_rng(4), [30] * copies, "none")
    truth = truth_of(found, last_known=True)
    order = np.arange(30 * copies).reshape(copies, 30).T.reshape(-1)
    with pytest.raises(DatasetError, match=f"rows of {copies} environments alternate"):
        read(columns_of(truth.take(order)))


def test_what_parts_find_adds_up():
    total = Findings()
    total.add(Findings(ends=2, resets=1, first="row 7 of a.hdf5"))
    total.add(Findings(ends=1, gaps=3, late=4, reset_rows=5, unknown=6, first="row 2 of b.hdf5"))
    everything = {"ends": 3, "gaps": 3, "late": 4, "resets": 1, "reset_rows": 5, "unknown": 6}
    assert total == Findings(**everything, first="row 7 of a.hdf5")
    assert Findings(**total.to_json()) == total
    assert len(total.notes()) == 6
    assert "first row 7 of a.hdf5" in total.notes()[0]


def test_states_that_never_change_within_an_episode_are_no_trouble():
    """A goal that is drawn for every episode, and one observation everywhere."""
    truth = truth_of(episodes(np.random.default_rng(0), [20] * 6, "none"), last_known=True)
    truth.observation = np.repeat(np.arange(6.0), 20)[:, None]
    truth.next_observation = truth.observation.copy()
    assert read(columns_of(truth, "truncated")).episode_length.tolist() == [20] * 6
    truth.observation = truth.next_observation = np.ones((120, 1))
    assert len(read(columns_of(truth, "truncated")).episode_start) == 1


def test_a_next_observation_that_is_not_stored_ends_an_episode_and_it_is_said():
    truth = truth_of(episodes(np.random.default_rng(0), [20] * 6, "none"))
    columns = columns_of(truth, "truncated") | {"has_successor": truth.has_successor}
    data = read(columns)
    assert data.episode_length.tolist() == [20] * 6
    assert any("5 row(s) without a flag have no next observation" in note for note in data.notes)
