from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import polars as pl
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import torch
from helpers import make_transitions, tiny_settings, write_d4rl

from vaco_curate import Cut, filter_dataset, load_curated, read_dataset, reweight_dataset, score_dataset
from vaco_curate.errors import CurateError, RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on episodes with both kinds of ends."""
    folder = tmp_path_factory.mktemp("curated")
    source = write_d4rl(folder / "data.hdf5", make_transitions(episodes=12))
    out = folder / "data.vaco"
    score_dataset(str(source), out=out, settings=tiny_settings(), device="cpu")
    return out


@pytest.fixture(scope="module")
def source(run):
    return read_dataset(str(run.parent / "data.hdf5"))


@pytest.fixture(scope="module")
def half(run):
    filter_dataset(run, Cut(share=Fraction(1, 2)), out=run.parent / "half")
    return load_curated(run.parent / "half")


@pytest.fixture(scope="module")
def weighted(run):
    reweight_dataset(run, temperature=0.02, out=run.parent / "weighted")
    return load_curated(run.parent / "weighted")


def test_kept_rows_are_those_of_the_source(half, source):
    assert len(half) == len(source) / 2
    for name in ("observation", "action", "reward", "terminated", "truncated", "has_successor"):
        assert (getattr(half.transitions, name) == getattr(source, name)[half.index]).all(), name
    assert (half.rank < len(half)).all()
    assert (half.weight == 1).all()


def test_the_range_of_returns_is_that_of_the_source(half, weighted, source, run):
    expected = source.episode_return.min(), source.episode_return.max()
    assert half.return_range == weighted.return_range == expected
    assert half.transitions.episode_return.min() > expected[0], "the filter has cut it"
    metadata = pq.read_schema(run.parent / "half" / "data" / "data.parquet").metadata[b"vaco_curate"]
    assert tuple(json.loads(metadata)["return_range"]) == expected


def test_dropped_rows_are_not_taken_for_kept_ones(run):
    filter_dataset(run, Cut(share=Fraction(1, 4)), out=run.parent / "best", excluded=run.parent / "rest")
    with pytest.raises(RunError, match="holds the rows that a filter dropped"):
        load_curated(run.parent / "rest")


def _by_datasets(folder):
    """In a process of its own: another module of this name lies on the path of the tests."""
    code = "import datasets, sys; datasets.load_dataset(sys.argv[1], split='train').to_parquet(sys.argv[2])"
    read = folder.parent / "read.parquet"
    environment = os.environ | {"HF_HOME": str(folder.parent / "huggingface"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-P", "-c", code, str(folder), str(read)]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder.parent)
    return pl.read_parquet(read)


def _by_duckdb(folder):
    import duckdb

    return pl.from_arrow(duckdb.connect().sql(f"from '{folder}/**/*.parquet'").to_arrow_table())


READERS = {
    "pyarrow": lambda folder: pl.from_arrow(pyarrow.dataset.dataset(folder).to_table()),
    "pandas": lambda folder: pl.from_pandas(pytest.importorskip("pandas").read_parquet(folder)),
    "polars": lambda folder: pl.read_parquet(folder / "**" / "*.parquet"),
    "duckdb": _by_duckdb,
    "datasets": _by_datasets,
}


@pytest.mark.parametrize("reader", READERS)
def test_the_folder_is_a_dataset_for_others_of_kept_rows_and_nothing_else(half, run, reader):
    if importlib.util.find_spec(reader) is None:
        pytest.skip(f"{reader} is not installed")
    frame = READERS[reader](run.parent / "half").sort("index")
    assert frame["index"].to_list() == half.index.tolist()
    assert frame.null_count().sum_horizontal().item() == 0
    assert np.array_equal(np.stack(frame["observation"].to_list()), half.transitions.observation)
    assert frame["has_successor"].to_list() == half.transitions.has_successor.tolist()


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}], ids=["here", "by workers"])
def test_a_loader_gives_the_batches(weighted, options):
    batches = list(weighted.batches(16, 4, 1))
    loaded = list(weighted.loader(16, 4, 1, **options))
    assert len(batches) == len(loaded) == len(weighted.loader(16, 4)) == 4
    assert batches[0]["observation"].shape == (16, 4)
    for one, other in zip(batches, loaded, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    first = weighted.draw(64, np.random.default_rng(1))[:16]
    for name, column in batches[0].items():
        assert torch.equal(column, torch.stack([weighted[int(row)][name] for row in first])), name


def test_a_draw_is_in_no_order(weighted):
    drawn = weighted.draw(10_000)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.05


def test_only_rows_with_a_target_are_drawn(half):
    drawn = np.unique(half.draw(20_000))
    assert np.array_equal(drawn, np.flatnonzero(half.transitions.is_learnable))
    assert len(drawn) < len(half), "some have none"


def test_rows_are_drawn_in_proportion_to_their_weights_or_alike(weighted):
    weight = weighted.weight[weighted.learnable]
    expected = (weight**2).sum() / weight.sum()
    assert expected > 1.02 * weight.mean(), "the weights must differ for the test to say anything"
    assert weighted.weight[weighted.draw(40_000)].mean() == pytest.approx(expected, rel=0.01)
    alike = weighted.weight[weighted.draw(400_000, weighted=False)].mean()
    assert alike == pytest.approx(weight.mean(), rel=0.02)
    assert weighted.weight.mean() == pytest.approx(1.0, abs=1e-6)


def test_the_qlearning_dict_has_a_target_in_every_row(half):
    arrays = half.qlearning_dict()
    lengths = {len(values) for values in arrays.values()}
    assert lengths == {int(half.transitions.is_learnable.sum())}
    data = half.transitions
    known = data.has_successor[data.is_learnable]
    expected = data.next_observation[data.has_successor]
    assert (arrays["next_observations"][known] == expected).all()
    assert arrays["terminals"][~known].all()


def test_npz_holds_the_qlearning_dict(weighted, run, source):
    result = reweight_dataset(run, temperature=0.02, out=run.parent / "arrays", file_format="npz")
    with np.load(run.parent / "arrays" / "data" / "arrays.npz") as file:
        arrays = dict(file)
    expected = weighted.qlearning_dict()
    for name, values in expected.items():
        assert arrays[name].dtype == values.dtype, name
        assert np.array_equal(arrays[name], values), name
    assert np.array_equal(arrays["index"], weighted.index[weighted.learnable])
    assert tuple(arrays["return_range"]) == weighted.return_range
    assert result.notes == ("6 row(s) are left out: no true end, and their successor is not known",)
    loaded = load_curated(run.parent / "arrays")
    assert np.array_equal(loaded.weight, expected["weights"])
    assert np.array_equal(loaded.transitions.next_observation[loaded.learnable], expected["next_observations"])
    assert source.reward[loaded.index].tolist() == loaded.transitions.reward.tolist()


def test_weights_of_every_row_can_be_written_without_the_rows(run, source):
    import polars as pl

    result = reweight_dataset(run, file_format="weights", out=run.parent / "weights", clip=2.0)
    frame = pl.read_parquet(run.parent / "weights" / "weights.parquet")
    assert frame.columns == ["index", "weight"]
    assert frame["index"].to_list() == list(range(len(source)))
    assert frame["weight"].mean() == pytest.approx(1.0, abs=1e-6)
    assert frame["weight"].max() <= 2.0
    assert result.effective_sample_share_before_clipping is not None
    with pytest.raises(RunError, match="weights only"):
        load_curated(run.parent / "weights")


def test_loading_needs_no_simulator_nor_what_draws_reports(half, run):
    without = ("gymnasium", "mujoco", "minari", "altair", "jinja2", "polars", "rich", "click")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({without}))\n"
        "from vaco_curate import load_curated\n"
        f"print(len(load_curated({str(run.parent / 'half')!r})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == str(len(half)), done.stderr


def test_only_curated_folders_are_loaded(run, tmp_path):
    with pytest.raises(RunError, match="not curated data"):
        load_curated(run)
    with pytest.raises(RunError, match="not a folder that vaco-curate wrote"):
        load_curated(tmp_path)


class TestD3rlpy:
    """d3rlpy is a test dependency; it draws what we wrote, and trains from it."""

    @pytest.fixture(autouse=True)
    def _quiet(self, recwarn):
        pytest.importorskip("d3rlpy", reason="the d3rlpy extra is not installed")

    @staticmethod
    def drawn(buffer, count=600):
        np.random.seed(0)
        return [buffer.sample_transition() for _ in range(count)]

    @pytest.mark.parametrize("kind", ["half", "weighted"])
    def test_every_drawn_transition_has_its_own_successor(self, kind, request, source):
        curated = request.getfixturevalue(kind)
        rows = {source.observation[row].tobytes(): row for row in range(len(source))}
        seen = set()
        for drawn in self.drawn(curated.d3rlpy_replay_buffer(), count=3000):
            row = rows[drawn.observation.tobytes()]
            seen.add(row)
            assert row in set(curated.index)
            assert drawn.reward[0] == source.reward[row]
            assert (drawn.action == source.action[row]).all()
            assert drawn.terminal == float(source.terminated[row])
            if not source.terminated[row]:
                assert (drawn.next_observation == source.next_observation[row]).all()
        assert len(seen) > (30 if kind == "half" else 5)

    @pytest.mark.parametrize("kind", ["half", "weighted"])
    def test_a_batch_is_what_d3rlpy_makes_of_the_same_draws(self, kind, request):
        from d3rlpy.dataset import TransitionMiniBatch

        buffer = request.getfixturevalue(kind).d3rlpy_replay_buffer()
        np.random.seed(0)
        batch = buffer.sample_transition_batch(600)
        expected = TransitionMiniBatch.from_transitions(self.drawn(buffer))
        if kind == "half":
            assert 0 < expected.terminals.sum() < 600, "the test says something where both kinds are drawn"
        for name in ("observations", "actions", "rewards", "next_observations", "next_actions"):
            assert getattr(batch, name).dtype == np.float32
            assert (getattr(batch, name) == getattr(expected, name)).all(), name
        assert (batch.terminals == expected.terminals).all()
        assert (batch.intervals == expected.intervals).all()
        assert len(batch.transitions) == 600
        for made, wanted in zip(batch.transitions[7:9], expected.transitions[7:9], strict=True):
            assert (made.observation == wanted.observation).all()
            assert (made.rewards_to_go == wanted.rewards_to_go).all()

    def test_it_holds_every_row_that_has_a_target_and_no_other(self, half):
        buffer = half.d3rlpy_replay_buffer()
        assert buffer.transition_count == half.transitions.is_learnable.sum()

    def test_trajectories_are_refused_for_rows_have_holes(self, half):
        with pytest.raises(CurateError, match="no trajectories"):
            half.d3rlpy_replay_buffer().sample_trajectory_batch(2, 5)

    def test_draws_follow_the_weights_unless_told_otherwise(self, weighted):
        data = weighted.transitions
        learnable = weighted.weight[data.is_learnable]
        expected = (learnable**2).sum() / learnable.sum()
        weight_of = {data.observation[i].tobytes(): weighted.weight[i] for i in range(len(data))}

        def mean_weight(buffer):
            return np.mean([weight_of[drawn.observation.tobytes()] for drawn in self.drawn(buffer, 4000)])

        assert expected > 1.5 * learnable.mean(), "the weights must differ for the test to say anything"
        assert mean_weight(weighted.d3rlpy_replay_buffer()) == pytest.approx(expected, rel=0.2)
        uniform = mean_weight(weighted.d3rlpy_replay_buffer(weighted=False))
        assert uniform == pytest.approx(learnable.mean(), rel=0.2)

    def test_d3rlpy_trains_from_the_written_parquet(self, half, tmp_path):
        import d3rlpy
        from d3rlpy.logging import NoopAdapterFactory

        algorithm = d3rlpy.algos.IQLConfig(batch_size=32).create(device="cpu:0")
        algorithm.build_with_dataset(half.d3rlpy_replay_buffer())
        before = algorithm.predict(half.transitions.observation[:8])
        algorithm.fit(
            half.d3rlpy_replay_buffer(),
            n_steps=20,
            n_steps_per_epoch=20,
            show_progress=False,
            logger_adapter=NoopAdapterFactory(),
        )
        after = algorithm.predict(half.transitions.observation[:8])
        assert np.isfinite(after).all()
        assert (before != after).any()


def test_scored_curated_data_reads_as_a_dataset_again(half, run, tmp_path):
    """A curated folder is Parquet in our own schema: it can be scored like any other."""
    shutil.copytree(run.parent / "half", tmp_path / "half")
    result = score_dataset(str(tmp_path / "half"), out=tmp_path / "again.vaco", settings=tiny_settings())
    assert result.rows == len(half)

    def test_what_would_lose_the_weights_is_refused(self, half, tmp_path):
        buffer = half.d3rlpy_replay_buffer()
        with pytest.raises(CurateError, match="never be drawn"):
            buffer.append(np.zeros(4), np.zeros(2), 0.0)
        with pytest.raises(CurateError, match="never be drawn"):
            buffer.append_episode(buffer.episodes[0])
        with (tmp_path / "buffer.h5").open("wb") as file, pytest.raises(CurateError, match="hold no weights"):
            buffer.dump(file)
