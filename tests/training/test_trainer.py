from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import make_transitions, tiny_settings

from vaco_curate.core import transitions
from vaco_curate.core.advantage import Persistence, TDErrors
from vaco_curate.core.fast import native
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.forward import values_and_td_errors
from vaco_curate.core.networks import TwinCritic
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.scaling import fit_scaling
from vaco_curate.core.training import checkpoint, loop
from vaco_curate.core.training.bilevel_update import noise_at
from vaco_curate.core.training.checkpoint import load_checkpoint, save_checkpoint, snapshot
from vaco_curate.core.training.members import Members, create_states
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.phases import BilevelPhase, ValuePhase
from vaco_curate.core.training.settings import BilevelSettings
from vaco_curate.core.training.settling import GROWTH, LOOKS_TO_SETTLE, TARGET_SWEEPS
from vaco_curate.core.training.trainer import network_rows, train
from vaco_curate.errors import DatasetError, RunError


def parameters(training):
    policy = {f"policy.{key}": tensor for key, tensor in training.policy.network.state_dict().items()}
    scorer = training.scorer
    return {
        "scorer": scorer.meta.networks.flat,
        "critic": scorer.critics.flat,
        "value": scorer.values.flat,
    } | policy


def timeless(metrics):
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in metrics]
    return [{k: None if v != v else v for k, v in row.items()} for row in rows]  # nan is no nan's equal


def assert_same(left, right):
    a, b = parameters(left), parameters(right)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert timeless(left.metrics) == timeless(right.metrics)


class Stop(Exception):  # noqa: N818
    pass


def stop_at(phase, update):
    def on_progress(progress):
        if (progress.phase, progress.update) == (phase, update):
            raise Stop

    return on_progress


@pytest.mark.parametrize("stop", [("value", 40), ("bilevel", 20), ("bilevel", 40)])
def test_resume_equals_an_uninterrupted_run(tmp_path, stop):
    data, settings = make_transitions(), tiny_settings()
    whole = train(data, settings, seed=3)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train(data, settings, seed=3, checkpoint=checkpoint, on_progress=stop_at(*stop))
    resumed = train(data, settings, seed=3, checkpoint=checkpoint, resume=True)
    assert_same(whole, resumed)


@pytest.mark.parametrize("allocates", [True, False], ids=["as here", "as on macOS"])
def test_rows_in_a_mapped_file_train_alike_and_leave_no_file(tmp_path, monkeypatch, allocates):
    monkeypatch.setattr(transitions, "BLOCK", 50)
    if not allocates:
        monkeypatch.delattr("os.posix_fallocate")
    data, settings = make_transitions(), tiny_settings()
    assert_same(train(data, settings), train(data, settings, scratch=tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_seed_decides_the_result_and_another_seed_another():
    data, settings = make_transitions(), tiny_settings()
    assert_same(train(data, settings, seed=1), train(data, settings, seed=1))
    other = parameters(train(data, settings, seed=2))
    same = parameters(train(data, settings, seed=1))
    assert not torch.equal(same["scorer"], other["scorer"])


def test_training_leaves_torchs_global_generator_and_threads_alone():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(make_transitions(), tiny_settings())
    assert torch.equal(state, torch.get_rng_state())
    assert threads == torch.get_num_threads()


def test_critics_and_values_are_frozen_in_the_bilevel_phase():
    data = make_transitions()
    few, many = (train(data, tiny_settings(updates=updates)).scorer for updates in (1, 40))
    assert torch.equal(few.critics.flat, many.critics.flat)
    assert torch.equal(few.values.flat, many.values.flat)
    assert not torch.equal(few.meta.networks.flat, many.meta.networks.flat)


def test_rows_without_a_target_do_not_reach_the_value_phase():
    """Rewards of rows without a target may be anything, as long as returns keep their range."""
    data = make_transitions(episodes=6)
    left_out = np.flatnonzero(~data.is_learnable)
    middle = [row for row in left_out if data.episode_return[data.episode_id[row]] not in extremes(data)]
    assert middle, "the test needs such a row in an episode of middling return"
    reward = data.reward.copy()
    reward[middle[0]] += 1e-2
    changed = dataclasses.replace(data, reward=reward)
    assert set(extremes(changed)) == set(extremes(data))
    assert_same(train(data, tiny_settings()), train(changed, tiny_settings()))


def extremes(data):
    return data.episode_return.min(), data.episode_return.max()


def test_terminated_rows_ignore_next_observation():
    data = make_transitions()
    wild = data.next_observation.copy()
    wild[data.terminated] = 50.0
    known = data.has_successor | data.terminated
    with_wild = dataclasses.replace(data, next_observation=wild, has_successor=known)
    assert_same(train(data, tiny_settings()), train(with_wild, tiny_settings()))


def test_sigma_shrinks_linearly_to_its_end():
    settings = BilevelSettings(updates=11, noise=(0.2, 0.1))
    assert [noise_at(settings, update) for update in (0, 5, 10)] == pytest.approx([0.2, 0.15, 0.1])


def test_noise_reaches_the_upper_level():
    data = make_transitions()

    def scorer(noise):
        return train(data, tiny_settings(noise=(noise, noise))).scorer.meta.networks.flat

    assert torch.equal(scorer(0.0), scorer(0.0))
    assert not torch.equal(scorer(0.0), scorer(0.5))


def states(seed, settings):
    value, bilevel = create_states(4, 2, settings, [seed, seed + 1], "cpu")
    return {"value": value, "bilevel": bilevel}


def test_a_checkpoint_holds_every_field_of_a_state(tmp_path):
    settings = tiny_settings()
    kept, fresh = states(5, settings), states(7, settings)
    generator = torch.Generator().manual_seed(0)
    for state in kept.values():
        for field in dataclasses.fields(state):
            for tensor in tensors_of(getattr(state, field.name)):
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
    kept["value"].update, kept["bilevel"].update = 17, 4
    save_checkpoint(tmp_path / "c.safetensors", snapshot(kept), {"note": [1, 2]})
    assert load_checkpoint(tmp_path / "c.safetensors", fresh) == {"note": [1, 2]}
    assert (fresh["value"].update, fresh["bilevel"].update) == (17, 4)
    for name, state in kept.items():
        for field in dataclasses.fields(state):
            mine, loaded = (tensors_of(getattr(s, field.name)) for s in (state, fresh[name]))
            assert all(torch.equal(a, b) for a, b in zip(mine, loaded, strict=True)), field.name


def test_a_checkpoint_of_other_parameter_vectors_is_refused(tmp_path, monkeypatch):
    kept = states(5, tiny_settings())
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "LAYOUT", "1")
        save_checkpoint(tmp_path / "c.safetensors", snapshot(kept), {})
    with pytest.raises(RunError, match="cannot be used") as raised:
        load_checkpoint(tmp_path / "c.safetensors", kept)
    assert "another version" in str(raised.value)


def tensors_of(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, StackedMLP):
        return [value.flat]
    if isinstance(value, Adam):
        return [*value.first, *value.second, value.steps]
    assert isinstance(value, int), f"the test does not know how to compare a {type(value).__name__}"
    return []


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"no")
    with pytest.raises(RunError, match="cannot be used"):
        train(make_transitions(), tiny_settings(), checkpoint=path, resume=True)


def test_a_dataset_without_any_target_is_refused():
    data = make_transitions(
        episodes=4, length=1, columns={"terminated": np.zeros(4, bool), "truncated": np.ones(4, bool)}
    )
    with pytest.raises(DatasetError, match="no row has a successor"):
        train(data, tiny_settings())


def test_a_single_row_can_be_scored():
    data = make_transitions(
        episodes=1, length=1, columns={"terminated": np.ones(1, bool), "truncated": np.zeros(1, bool)}
    )
    scorer = train(data, tiny_settings()).scorer
    assert np.isfinite(scorer.score(data).score).all()


BARE_MACHINE = """
import sys
FORBIDDEN = {"polars", "pyarrow", "h5py", "minari", "gymnasium", "altair", "jinja2", "click", "rich", "scipy"}
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ImportError(f"the training core imported {name}")
sys.meta_path.insert(0, Guard())
import vaco_curate.core.training.trainer, vaco_curate.core.scorer, vaco_curate.core.policy
print("fine")
"""


def test_the_training_core_imports_torch_numpy_and_safetensors_only():
    run = subprocess.run([sys.executable, "-c", BARE_MACHINE], capture_output=True, text=True)
    assert run.stdout.strip() == "fine", run.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_trains_to_finite_scores_on_the_device():
    data = make_transitions()
    training = train(data, tiny_settings(), device="cuda")
    assert np.isfinite(training.scorer.score(data).score).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_cuda_trains_on_mapped_files_as_on_its_own_memory(tmp_path):
    """Updates are captured as graphs, in which nothing can be asked of the host."""
    settings = tiny_settings(updates=200)
    value = dataclasses.replace(settings.value, updates=200)
    settings = dataclasses.replace(settings, value=value, log_every=100, checkpoint_every=100)
    in_memory, mapped = (
        train(make_transitions(), settings, device="cuda", scratch=scratch) for scratch in (None, tmp_path)
    )
    assert torch.equal(in_memory.scorer.meta.networks.flat, mapped.scorer.meta.networks.flat)
    assert torch.equal(in_memory.scorer.critics.flat, mapped.scorer.critics.flat)


def test_members_are_the_trainings_of_their_seeds():
    data, settings = make_transitions(), tiny_settings()
    together = train(data, settings, seed=3, members=3)
    for number in range(3):
        alone = train(data, settings, seed=3 + number)
        for ours, theirs in zip(
            together.scorer.meta.networks.member(number), alone.scorer.meta.networks.member(0), strict=True
        ):
            assert torch.allclose(ours, theirs, atol=1e-4)


@pytest.mark.skipif(native.load() is None, reason="groups run side by side with the native library only")
@pytest.mark.parametrize("members", [2, 5])
def test_how_members_are_grouped_and_run_does_not_change_the_result(members):
    data, settings, threads = make_transitions(), tiny_settings(), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(train(data, settings, members=members))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert torch.equal(results[0].scorer.meta.networks.flat, result.scorer.meta.networks.flat)
        assert torch.equal(results[0].scorer.critics.flat, result.scorer.critics.flat)


@pytest.mark.parametrize("native_library", [True, False])
def test_layers_of_the_two_phases_may_differ(monkeypatch, native_library):
    """Their passes share memory where they can; where they cannot, the result is that of the torch kernels."""
    settings = tiny_settings(hidden=(12, 20))
    settings = dataclasses.replace(settings, value=dataclasses.replace(settings.value, hidden=(33, 17, 9)))
    data = make_transitions()
    expected = train(data, settings).scorer.score(data).score
    if not native_library:
        monkeypatch.setattr(native, "load", lambda: None)
    given = train(data, settings).scorer.score(data).score
    assert given == pytest.approx(expected, abs=2e-2)


def test_a_checkpoint_is_written_also_where_time_has_passed_without_one(tmp_path, monkeypatch):
    data, settings = make_transitions(), dataclasses.replace(tiny_settings(), checkpoint_every=100_000)
    whole = train(data, settings)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train(data, settings, checkpoint=checkpoint, on_progress=stop_at("value", 40))
    assert not checkpoint.exists(), "no minute has passed"
    monkeypatch.setattr(loop, "SAVED_AT_LEAST", 0.0)
    with pytest.raises(Stop):
        train(data, settings, checkpoint=checkpoint, on_progress=stop_at("value", 40))
    resumed = train(data, settings, checkpoint=checkpoint, resume=True)
    assert torch.equal(whole.scorer.critics.flat, resumed.scorer.critics.flat)
    assert torch.equal(whole.scorer.meta.networks.flat, resumed.scorer.meta.networks.flat)


def test_a_checkpoint_resumes_on_another_number_of_cores(tmp_path):
    data, settings, threads = make_transitions(), tiny_settings(), torch.get_num_threads()
    whole = train(data, settings, members=3)
    checkpoint = tmp_path / "checkpoint.safetensors"
    try:
        torch.set_num_threads(2)
        with pytest.raises(Stop):
            train(data, settings, members=3, checkpoint=checkpoint, on_progress=stop_at("value", 40))
        torch.set_num_threads(1)
        resumed = train(data, settings, members=3, checkpoint=checkpoint, resume=True)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whole.scorer.meta.networks.flat, resumed.scorer.meta.networks.flat)


def test_resume_of_several_members_equals_an_uninterrupted_run(tmp_path):
    data, settings = make_transitions(), tiny_settings(settled_at=0.3)
    whole = train(data, settings, members=5)
    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train(data, settings, members=5, checkpoint=checkpoint, on_progress=stop_at("bilevel", 20))
    assert_same(whole, train(data, settings, members=5, checkpoint=checkpoint, resume=True))


def test_the_score_has_the_sample_size_of_the_settings():
    data = make_transitions(episodes=40)
    many, few = (
        train(data, dataclasses.replace(tiny_settings(), sample_size=share)).scorer.trajectory[0].temperature
        for share in (0.6, 0.2)
    )
    assert few.inverse > 1.5 * many.inverse > 0.0


def test_rewards_that_tell_nothing_give_equal_scores():
    data = make_transitions(columns={"reward": np.zeros(120, np.float32)})
    scorer = train(data, tiny_settings()).scorer
    assert scorer.trajectory[0].temperature.inverse == 0.0
    assert np.ptp(scorer.score(data).score) == 0.0


@pytest.mark.parametrize(
    ("lengths", "flag", "tell"),
    [
        ([1001, 1001, 1001], "terminated", False),  # paths are cut, into pieces of other lengths
        ([20, 20, 20], "terminated", False),
        ([20, 30, 40], "terminated", True),
        ([20, 30, 40], "truncated", False),
    ],
)
def test_equal_rewards_tell_paths_apart_by_how_long_they_last_until_they_end_truly(lengths, flag, tell):
    count, last = sum(lengths), np.cumsum(lengths) - 1
    columns = {"reward": np.ones(count, np.float32), "terminated": np.zeros(count, bool)}
    columns["truncated"] = np.zeros(count, bool)
    columns[flag] = np.isin(np.arange(count), last)
    score = train(make_transitions(1, count, columns=columns), tiny_settings(updates=0)).scorer.score(
        make_transitions(1, count, columns=columns)
    )
    assert bool(np.ptp(score.score)) is tell


def test_what_is_exported_is_measured_with_the_settings_and_on_the_whole_dataset():
    value = dataclasses.replace(tiny_settings().value, discount=0.6)
    settings = dataclasses.replace(tiny_settings(), value=value, matmul_precision="highest")
    data = make_transitions()
    scorer = train(data, settings).scorer
    paths = Paths.of(data, LONGEST_PATH)
    _, errors = values_and_td_errors(scorer.values, scorer.scaling, 0.6, data, paths)
    (of_member,) = errors.members()
    expected = Persistence.fit(paths, of_member, data.is_learnable, data.terminated)
    assert scorer.trajectory[0].persistence == expected
    q_value = scorer.score(data).q_value * scorer.scaling.reward_scale
    assert abs(q_value.mean()) > 1e-3, "the test must not be trivial"
    assert scorer.meta.q_mean.item() == pytest.approx(q_value.mean(), rel=1e-4)
    assert scorer.meta.q_std.item() == pytest.approx(q_value.std(ddof=1), rel=1e-4)


def test_values_are_looked_at_when_the_target_critics_have_left_their_start():
    value = dataclasses.replace(tiny_settings().value, updates=600, polyak=0.1, settled_at=1e-6)
    metrics = train(make_transitions(), dataclasses.replace(tiny_settings(), value=value)).metrics
    looks = [row["update"] for row in metrics if row["phase"] == "value" and "rank_correlation" in row]
    assert looks[0] == TARGET_SWEEPS / 0.1
    assert len(looks) == LOOKS_TO_SETTLE + 1
    assert all(later >= GROWTH * earlier for earlier, later in itertools.pairwise(looks))


def test_true_ends_of_the_data_are_those_of_the_score():
    """``expected`` is 0 where all paths end truly, and the mean where none does."""
    flags = np.zeros(120, bool), np.arange(120) % 20 == 19
    for terminated, truncated in (flags, flags[::-1]):
        data = make_transitions(columns={"terminated": terminated, "truncated": truncated})
        (score_of,) = train(data, tiny_settings(updates=0)).scorer.trajectory
        assert (score_of.persistence.expected == 0.0) is bool(terminated.any())


def test_the_value_phase_watches_q_and_smoothed_discounted_td_errors(monkeypatch):
    settings = dataclasses.replace(tiny_settings(), matmul_precision="highest")
    last = np.arange(160) % 20 == 19
    columns = {"terminated": last & (np.arange(160) < 60), "truncated": last & (np.arange(160) >= 60)}
    data = make_transitions(episodes=8, columns=columns)
    scaling = fit_scaling(data, reward_shift=0.0)
    monkeypatch.setattr("vaco_curate.core.training.members.SAMPLE_ROWS", 100)
    paths = Paths.of(data, LONGEST_PATH).drawn(100)
    rows, packed = paths.rows(), paths.packed()
    assert 0 < data.terminated[rows].sum() < data.terminated[: len(rows)].sum(), "the test needs other rows"
    group = Members(data, network_rows(data, scaling, torch.device("cpu")), scaling, settings, [3, 4])
    q_value, advantage = ValuePhase(group).signals().unbind(dim=1)
    _, errors = values_and_td_errors(group.value_state.value, scaling, settings.value.discount, data, paths)
    known, terminated = data.is_learnable[rows], data.terminated[rows]
    assert advantage.shape == q_value.shape == (2, len(rows))
    for member in range(2):
        of_member = TDErrors(*[errors.discounted[member]] * 2)
        persistence = Persistence.fit(packed, of_member, known, terminated)
        expected = persistence.smoothed(packed, of_member, known)
        assert advantage[member].numpy() == pytest.approx(expected, abs=1e-5)
        critic = TwinCritic(4, 2, (32, 32))
        group.value_state.critic.write_to(member, critic.first)
        group.value_state.critic.write_to(2 + member, critic.second)
        pair = (
            torch.from_numpy(scaling.observation(data.observation[rows])),
            torch.from_numpy(scaling.action(data.action[rows])),
        )
        assert torch.allclose(q_value[member], critic(*pair).amin(dim=0), atol=1e-5)


def test_the_bilevel_phase_gives_an_update_its_rows_their_q_values_and_noise():
    data = make_transitions(episodes=8)
    scaling = fit_scaling(data, reward_shift=0.0)
    rows = network_rows(data, scaling, torch.device("cpu"))
    phase = BilevelPhase(Members(data, rows, scaling, tiny_settings(), [3, 4]))
    given = []
    phase.step = lambda *parts, measure: given.append(parts)
    phase.draws.fill(1)
    phase.drawn()
    phase.update(7, False)
    ((batch, features, noisy, pair),) = given
    drawn = phase.draws.rows[7]
    assert torch.equal(batch.values, rows.values[drawn])
    for given_pair in (pair, features[..., :-1]):
        assert torch.equal(given_pair, batch.pair)
    assert phase.draws.noise[7].any()
    assert torch.equal(noisy, batch.observation + phase.draws.noise[7])
    q_value = phase.of.q_values()
    centered = q_value - q_value.mean(dim=-1, keepdim=True)
    q_input = centered / q_value.std(dim=-1, keepdim=True)
    for member in range(2):
        assert torch.allclose(features[member, :, -1], q_input[member, drawn[member]], atol=1e-4)
