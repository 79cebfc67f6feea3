"""Real simulator data with known behaviors, where it is at hand; the suite passes without it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from helpers import SHARED_DATA, tiny_settings

from vaco_curate import filter_dataset, load_curated, read_dataset, score_dataset
from vaco_curate.curation import Cut
from vaco_curate.stages import inspect_dataset

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


def test_d4rl_and_parquet_form_of_a_dataset_give_identical_scores(tmp_path):
    """Scored, kept whole as Parquet, and scored again: the same fingerprint and the same scores."""
    source = str(path("pointmaze-umaze-stitch"))
    first = score_dataset(source, out=tmp_path / "d4rl.vaco", settings=tiny_settings(), device="cpu")
    filter_dataset(first.run, Cut(rows=10**9), out=tmp_path / "all")
    again = score_dataset(
        str(tmp_path / "all"), out=tmp_path / "parquet.vaco", settings=tiny_settings(), device="cpu"
    )
    from vaco_curate import ScoreTable

    mine, theirs = (ScoreTable.load(run / "scores.parquet") for run in (first.run, again.run))
    assert mine.fingerprint == theirs.fingerprint
    assert mine.frame.equals(theirs.frame)
    assert len(load_curated(tmp_path / "all")) == first.rows
