from __future__ import annotations

import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from helpers import make_transitions, tiny_settings

from vaco_curate import apply_scorer, score_dataset, score_stream
from vaco_curate.core import artifacts
from vaco_curate.core.advantage import Persistence, TDErrors
from vaco_curate.core.forward import CPU_HEIGHT, height_for, values_and_td_errors, values_of
from vaco_curate.core.networks import ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.scaling import Scaling, fit_scaling
from vaco_curate.core.scorer import RowScores, Scorer
from vaco_curate.core.training.trainer import train
from vaco_curate.core.trajectory_score import TrajectoryScore
from vaco_curate.core.transitions import ROW_COLUMNS
from vaco_curate.curation import Candidates, Cut, select
from vaco_curate.data.formats import Target, dataset, parquet_writer
from vaco_curate.errors import DatasetError, RunError


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return train(make_transitions(), tiny_settings()).scorer


def test_scoring_leaves_the_threads_of_torch_as_they_were(scorer):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        scorer.score(make_transitions())
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def episodes_of(data, first, last):
    """The rows of some episodes."""
    rows = (data.episode_id >= first) & (data.episode_id < last)
    return dataclasses.replace(data, **{name: getattr(data, name)[rows] for name in ROW_COLUMNS}), rows


def test_scores_do_not_depend_on_the_episodes_beside_them(scorer):
    data = make_transitions(episodes=2 * CPU_HEIGHT // 20 + 3, seed=1)
    whole = scorer.score(data)
    for first, last in ((0, 1), (5, 8), (3, 60), (100, 105)):
        part, rows = episodes_of(data, first, last)
        alone = scorer.score(part)
        assert (alone.score == whole.score[rows]).all()
        assert (alone.q_value == whole.q_value[rows]).all()


def test_passes_of_another_height_give_the_same_scores(scorer, monkeypatch):
    """As on a GPU, whose passes are of more rows, and of fewer where there are more networks."""
    data = make_transitions(episodes=70, seed=1)
    before = scorer.score(data)
    with monkeypatch.context() as patch:
        patch.setattr("vaco_curate.core.forward.CPU_HEIGHT", 100)
        after = scorer.score(data)
    for field in dataclasses.fields(RowScores):
        given, expected = (getattr(scores, field.name) for scores in (after, before))
        assert given == pytest.approx(expected, abs=1e-4, nan_ok=True)
    cuda = torch.device("cuda")
    assert height_for(cuda, 1) == 2 * height_for(cuda, 2) > height_for(cuda, 1000) == CPU_HEIGHT


def test_the_score_is_that_of_the_trajectorys_td_errors_and_the_networks_is_beside_it():
    scorer = train(make_transitions(), tiny_settings()).scorer
    data = make_transitions(episodes=3, seed=1)
    observation = torch.from_numpy(scorer.scaling.observation(data.observation))
    action = torch.from_numpy(scorer.scaling.action(data.action))
    sizes = (scorer.observation_size, scorer.action_size)
    critic, network = TwinCritic(*sizes, (32, 32)), ScorerNetwork(*sizes, (32, 32))
    value = ValueNetwork(sizes[0], (32, 32))
    scorer.critics.write_to(0, critic.first)
    scorer.critics.write_to(1, critic.second)
    scorer.meta.networks.write_to(0, network.layers)
    scorer.values.write_to(0, value.layers)
    with torch.no_grad():
        q_value, state_value = critic(observation, action).amin(dim=0), value(observation)
        output = network(observation, action, (q_value - scorer.meta.q_mean) / scorer.meta.q_std)
    # no successor is known at a time limit of these data: its row counts for nothing
    following = np.where(data.terminated, 0.0, np.append(state_value[1:], 0.0))
    without_discount = scorer.scaling.reward(data.reward) + following - state_value.numpy()
    errors = TDErrors(without_discount - (1.0 - scorer.discount) * following, without_discount)
    (score_of,) = scorer.trajectory
    expected = score_of(Paths.of(data, LONGEST_PATH), errors, data.is_learnable)
    assert expected.std() > 0.1, "the test needs paths that differ"
    assert abs(scorer.meta.q_mean.item()) > 1e-3, "the test needs statistics that matter"
    given = scorer.score(data)
    assert given.score == pytest.approx(expected, abs=1e-4)
    assert given.vaco_score == pytest.approx(torch.nn.functional.logsigmoid(output).numpy(), abs=1e-4)
    advantage = (q_value - state_value).numpy() / scorer.scaling.reward_scale
    assert given.advantage == pytest.approx(advantage, abs=1e-4)


def test_a_path_that_a_time_limit_cuts_goes_on_to_its_stored_successor():
    """The last row's TD error has V of the state that it led to, also where it is no other row's."""
    data = make_transitions(episodes=2, length=5)
    after = np.roll(data.observation, -1, axis=0)
    after[[4, 9]] = np.random.default_rng(5).standard_normal((2, 4))
    stored = dataclasses.replace(data, next_observation=after, has_successor=np.ones(10, bool))
    scorer = train(make_transitions(), tiny_settings()).scorer
    paths = Paths.of(stored, LONGEST_PATH)
    value, errors = values_and_td_errors(scorer.values, scorer.scaling, 0.9, stored, paths)
    (reached,) = values_of(scorer.values, scorer.scaling, after)
    following = np.where(stored.terminated, 0.0, reached)
    for discount, found in ((0.9, errors.discounted), (1.0, errors.undiscounted)):
        expected = scorer.scaling.reward(stored.reward) + discount * following - value[0]
        assert found[0] == pytest.approx(expected, abs=1e-5)
    assert abs(following[9]) > 1e-3, "the test needs a successor that matters"


def test_a_long_episode_is_scored_in_pieces(scorer):
    whole_paths = Persistence(scale=np.inf, shrinkage=1.0, low=-9.0, high=9.0, expected=0.0, predicted=0.5)
    temperature = dataclasses.replace(scorer.trajectory[0].temperature, inverse=1.0, lowest=-99.0, highest=99.0)
    scorer = dataclasses.replace(scorer, trajectory=(TrajectoryScore(whole_paths, temperature),))
    score = scorer.score(make_transitions(episodes=1, length=2500)).score
    assert len(np.unique(score)) == 3
    assert (np.flatnonzero(np.diff(score)) + 1).tolist() == [833, 1666]


def test_training_fits_what_scoring_applies():
    """The scores of the training data have the range that training found, and weights of mean one."""
    data = make_transitions(episodes=40)
    scorer = train(data, tiny_settings(), members=2).scorer
    alone = [train(data, tiny_settings(), seed=seed).scorer for seed in (0, 1)]
    for one, member in zip(alone, scorer.trajectory, strict=True):
        score = one.score(data).score
        assert np.exp(score.astype(np.float64)).mean() == pytest.approx(1.0, rel=1e-4)
        assert (score.min(), score.max()) == pytest.approx(
            (member.temperature.lowest, member.temperature.highest), abs=1e-3
        )


def test_without_a_bilevel_phase_there_is_no_score_of_the_network():
    training = train(make_transitions(), tiny_settings(updates=0))
    assert training.policy is None
    assert training.scorer.meta is None
    scores = training.scorer.score(make_transitions(seed=1))
    assert np.isnan(scores.vaco_score).all()
    assert np.isfinite(scores.score).all()
    with_phase = train(make_transitions(), tiny_settings()).scorer.score(make_transitions(seed=1))
    assert (with_phase.score == scores.score).all(), "the phase has no say in the score"
    assert np.isfinite(with_phase.vaco_score).all()


def test_q_is_standardized_by_its_mean_and_deviation_on_the_training_data():
    data = make_transitions()
    scorer = train(data, tiny_settings()).scorer
    raw = scorer.score(data).q_value * scorer.scaling.reward_scale
    assert scorer.meta.q_mean.item() == pytest.approx(raw.mean(), rel=1e-3)
    assert scorer.meta.q_std.item() == pytest.approx(raw.std(ddof=1), rel=1e-3)


def test_members_are_averaged_and_their_spread_is_told():
    data = make_transitions()
    together = train(data, tiny_settings(), seed=4, members=3).scorer
    alone = [train(data, tiny_settings(), seed=seed).scorer for seed in (4, 5, 6)]
    by_member = [scorer.score(data) for scorer in alone]
    given = together.score(data)
    for name in ("score", "vaco_score", "q_value", "advantage"):
        scores = np.stack([getattr(scores, name) for scores in by_member])
        assert scores.std(axis=0).mean() > 1e-3, "the test needs members that differ"
        assert getattr(given, name) == pytest.approx(scores.mean(axis=0), abs=1e-3)
    scores = np.stack([scores.score for scores in by_member])
    assert given.score_std == pytest.approx(scores.std(axis=0, ddof=1), abs=1e-3)
    assert np.isnan(alone[0].score(data).score_std).all()


@pytest.mark.parametrize("updates", [0, 40])
def test_a_saved_scorer_scores_the_same(tmp_path, updates):
    scorer = train(make_transitions(), tiny_settings(updates=updates), members=2).scorer
    scorer.save(tmp_path)
    scorer.save(tmp_path / "run" / "scorer")
    loaded = Scorer.load(str(tmp_path / "run"))
    assert Scorer.load(tmp_path).trajectory == loaded.trajectory
    data = make_transitions(seed=1)
    for field in dataclasses.fields(RowScores):
        ours, theirs = (getattr(one.score(data), field.name) for one in (scorer, loaded))
        assert np.array_equal(ours, theirs, equal_nan=True), field.name
    assert loaded.trajectory == scorer.trajectory
    assert loaded.provenance == scorer.provenance


def test_nothing_saved_is_a_pickle(scorer, tmp_path):
    scorer.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scorer.json", "scorer.safetensors"]


def test_scores_do_not_depend_on_the_unit_of_rewards_and_q_values_are_in_it():
    data = make_transitions()
    scaled = dataclasses.replace(data, reward=data.reward * 100)
    plain, large = (train(d, tiny_settings()).scorer for d in (data, scaled))
    assert large.score(scaled).q_value == pytest.approx(100 * plain.score(data).q_value, rel=1e-3)
    assert large.score(scaled).score == pytest.approx(plain.score(data).score, abs=1e-3)


def test_vectors_of_other_sizes_are_refused_with_both_sizes(scorer):
    with pytest.raises(DatasetError, match=r"observation 4, action 2\n.*observation 5, action 2"):
        scorer.score(make_transitions(observation_size=5))


@pytest.mark.parametrize("part", ["critics", "values", "meta"])
def test_a_diverged_scorer_is_refused_and_not_exported_as_nan(part):
    scorer = train(make_transitions(), tiny_settings()).scorer
    stack = scorer.meta.networks if part == "meta" else getattr(scorer, part)
    stack.bias[-1].fill_(np.nan)
    with pytest.raises(DatasetError, match="score of row 1000 is not finite"):
        scorer.score(dataclasses.replace(make_transitions(), first_row=1000))


@pytest.mark.parametrize("name", ["scorer.json", "scorer.safetensors"])
def test_a_damaged_scorer_is_refused(scorer, tmp_path, name):
    scorer.save(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(RunError, match=name):
        Scorer.load(tmp_path)


@pytest.mark.parametrize("fact", ["members", "hidden", "scaling", "discount", "provenance"])
@pytest.mark.parametrize("other", ["left out", None, "many"])
def test_facts_that_a_scorer_cannot_have_are_refused(scorer, tmp_path, fact, other):
    scorer.save(tmp_path)
    facts = json.loads((tmp_path / "scorer.json").read_text()) | {fact: other}
    del facts["sha256"]
    if other == "left out":
        del facts[fact]
    networks = safetensors.torch.load_file(tmp_path / "scorer.safetensors")
    artifacts.save_artifact(tmp_path, "scorer", networks, facts)
    with pytest.raises(RunError, match=r"scorer\.json: damaged, a fact is missing"):
        Scorer.load(tmp_path)


def test_actions_are_scaled_by_the_action_space_when_it_is_known_else_by_the_range():
    data = make_transitions()
    known = dataclasses.replace(data, action_low=np.array([-4.0, -2]), action_high=np.array([4.0, 6]))
    scaling = fit_scaling(known, reward_shift=0.0)
    assert scaling.action_bounds_from == "action space"
    assert scaling.action(np.array([[4.0, -2.0], [0.0, 2.0]])).tolist() == [[1, -1], [0, 0]]
    by_range = fit_scaling(data, reward_shift=0.0)
    assert by_range.action_bounds_from == "data range"
    assert np.abs(by_range.action(data.action)).max() == pytest.approx(1.0)
    unbounded = dataclasses.replace(data, action_low=np.full(2, -np.inf), action_high=np.full(2, np.inf))
    assert fit_scaling(unbounded, reward_shift=0.0).action_bounds_from == "data range"


def test_raw_action_is_the_inverse_of_action():
    scaling = fit_scaling(make_transitions(), reward_shift=0.0)
    a = make_transitions(seed=1).action
    assert scaling.raw_action(scaling.action(a)) == pytest.approx(a, abs=1e-6)


def test_observations_are_standardized_and_constant_dimensions_become_zero():
    data = make_transitions()
    observation = data.observation.copy()
    observation[:, 1] = 3.0
    scaled = fit_scaling(dataclasses.replace(data, observation=observation), reward_shift=0.0).observation(
        observation
    )
    assert scaled.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-6)
    assert scaled.std(axis=0) == pytest.approx([1, 0, 1, 1], abs=1e-6)


def test_rewards_scale_as_in_iql_for_the_longest_episode():
    data = make_transitions()
    spread = np.ptp(data.episode_return)
    assert fit_scaling(data, reward_shift=0.0).reward_scale == pytest.approx(20 / spread)
    shifted = fit_scaling(data, reward_shift=-1.0)
    assert shifted.reward(np.array([1.0])).tolist() == [0.0]


def test_rewards_that_are_all_zero_are_not_scaled():
    data = make_transitions(columns={"reward": np.zeros(120, np.float32)})
    assert fit_scaling(data, reward_shift=0.0).reward_scale == 1.0


def test_scaling_round_trips_through_json_exactly():
    scaling = fit_scaling(make_transitions(), reward_shift=0.0)
    again = Scaling.from_json(scaling.to_json())
    data = make_transitions(seed=1)
    assert (again.observation(data.observation) == scaling.observation(data.observation)).all()
    assert (again.action(data.action) == scaling.action(data.action)).all()


def test_a_stream_gives_the_scores_of_the_whole(tmp_path, monkeypatch):
    data = make_transitions(episodes=40)
    scorer = train(data, tiny_settings(), members=2).scorer
    (tmp_path / "rows").mkdir()
    writer = parquet_writer.ParquetWriter(Target(tmp_path / "rows", ["0", "1", "2"], [300, 300, 200], {}))
    writer.write(data, np.arange(len(data)), {})
    writer.close()
    monkeypatch.setattr(dataset, "PIECE_ROWS", 130)
    batches = list(score_stream(tmp_path / "rows", scorer))
    assert len(batches) > 4, "the test needs several shards and several batches of each"
    table = pa.Table.from_batches(batches)
    whole = scorer.score(data)
    assert table["index"].to_pylist() == list(range(len(data)))
    assert (table["reward"].to_numpy() == data.reward).all()
    for name in ("score", "score_std", "vaco_score", "q_value", "advantage"):
        assert (table[name].to_numpy() == getattr(whole, name)).all(), name


def test_a_stream_of_something_else_is_refused(scorer, tmp_path):
    with pytest.raises(DatasetError, match="no such file or folder"):
        next(score_stream(tmp_path / "nothing", scorer))
    pq.write_table(pa.table({"observation": [[1.0] * 4]}), tmp_path / "half.parquet")
    with pytest.raises(DatasetError, match="missing column action"):
        next(score_stream(tmp_path / "half.parquet", scorer))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not readable as Parquet"):
        next(score_stream(tmp_path / "broken.parquet", scorer))


def test_adroit_cloned_episodes_that_occur_twice_tie_and_are_cut_by_row_number(scorer):
    """Half of Adroit's cloned datasets repeats the other half."""
    once = make_transitions(episodes=6)
    columns = {name: np.concatenate([getattr(once, name)] * 2) for name in ("observation", "action", "reward")}
    columns |= {name: np.concatenate([getattr(once, name)] * 2) for name in ("terminated", "truncated")}
    score = scorer.score(make_transitions(columns=columns)).score
    assert (score[:120] == score[120:]).all()
    candidates = Candidates.of(make_transitions(columns=columns), score)
    selection = select(candidates, Cut(rows=75))
    best = np.argsort(-score, kind="stable")[:75]
    assert selection.kept_rows.tolist() == sorted(best)


def test_a_training_reads_its_file_once_and_scores_what_it_has_in_memory(pendulum, tmp_path, monkeypatch):
    """Opened to tell the format, for the names of its arrays, for one row, and to be read."""
    opened, real = [], h5py.File.__init__

    def counted(file, name, *arguments, **options):
        if isinstance(name, (str, Path)):
            opened.append(name)
        real(file, name, *arguments, **options)

    source = tmp_path / "data.hdf5"
    shutil.copy(pendulum, source)
    monkeypatch.setattr(h5py.File, "__init__", counted)
    result = score_dataset(str(source), out=tmp_path / "run", settings=tiny_settings(), device="cpu")
    assert len(opened) <= 4
    again = apply_scorer(str(source), result.run, out=tmp_path / "again")
    (left,), (right,) = ((run / "scores").glob("*.parquet") for run in (result.run, again.run))
    assert left.read_bytes() == right.read_bytes()
