"""Real simulator data with known behaviors, where it is at hand; the suite passes without it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers import SHARED_DATA, tiny_settings

from vaco_curate import (
    apply_scorer,
    convert_dataset,
    filter_dataset,
    inspect_dataset,
    load_curated,
    read_dataset,
    score_dataset,
)
from vaco_curate.curation import Cut
from vaco_curate.stages.runs import open_run

pytestmark = pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the shared datasets are not at hand")

FILES = {
    "hopper-mixed": ("Hopper-v5", 201_861, 11, 3),
    "hopper-medium-expert": ("Hopper-v5", None, 11, 3),
    "halfcheetah-mixed": ("HalfCheetah-v5", 200_000, 17, 6),
    "halfcheetah-medium-expert": ("HalfCheetah-v5", None, 17, 6),
    "pointmaze-umaze-stitch": ("PointMaze_UMaze-v3", None, 4, 2),
}


def path(name):
    return SHARED_DATA / f"{name}.hdf5"


@pytest.mark.parametrize("name", FILES)
def test_every_file_reads_with_the_rows_and_ends_that_it_holds(name):
    env_id, rows, observation_size, action_size = FILES[name]
    data = read_dataset(str(path(name)))
    with h5py.File(path(name)) as file:
        assert len(data) == len(file["rewards"])
        ends = file["terminals"][:] | file["timeouts"][:]
        has_next = "next_observations" in file
    assert rows is None or len(data) == rows
    assert (data.env_id, data.observation_size, data.action_size) == (env_id, observation_size, action_size)
    assert len(data.episode_start) == ends[:-1].sum() + 1
    assert data.has_successor.all() if has_next else (data.has_successor[:-1] == ~ends[:-1]).all()
    assert np.abs(data.action).max() <= 1.0 + 1e-6


def test_stored_and_derived_successors_agree_inside_episodes():
    stored = read_dataset(str(path("hopper-medium-expert")))
    inside = np.flatnonzero(stored.episode_id[1:] == stored.episode_id[:-1])
    assert (stored.next_observation[inside] == stored.observation[inside + 1]).all()


def test_inspect_counts_the_rows_that_td_leaves_out():
    found = inspect_dataset(str(path("hopper-mixed")))
    assert found.rows_without_successor == found.episodes == 2150
    assert found.rows_without_target == 71


@pytest.mark.parametrize("name", ["pointmaze-umaze-stitch", "hopper-medium-expert"])
def test_d4rl_minari_and_parquet_form_of_a_dataset_give_identical_scores(tmp_path, name):
    """Minari leaves out the last row of an episode whose successor is unknown, and no other."""
    source = str(path(name))
    first = score_dataset(source, out=tmp_path / "d4rl.vaco", settings=tiny_settings(), device="cpu")
    mine, data = open_run(first.run).scores, read_dataset(source)
    for file_format in ("parquet", "minari"):
        convert_dataset(source, tmp_path / file_format, file_format=file_format)
        run = tmp_path / f"{file_format}.vaco"
        apply_scorer(str(tmp_path / file_format), first.run, out=run, device="cpu")
        theirs = open_run(run).scores
        kept = data.is_learnable if file_format == "minari" else np.ones(len(data), bool)
        assert file_format == "minari" or mine.fingerprint == theirs.fingerprint
        for column in ("score", "q_value", "advantage", "reward"):
            assert np.array_equal(mine.column(column)[kept], theirs.column(column)), column
    filter_dataset(first.run, Cut(rows=10**9), out=tmp_path / "all")
    assert len(load_curated(tmp_path / "all")) == first.rows
