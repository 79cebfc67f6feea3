"""Scores are worth something: on data whose makers are known, which training never sees."""

from __future__ import annotations

import dataclasses

import h5py
import numpy as np
import pytest

from vaco_curate import Environment, filter_dataset, read_dataset, score_dataset
from vaco_curate.core.scorer import Scorer
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.curation import episode_means
from vaco_curate.demo import record_pendulum
from vaco_curate.demo.pendulum import BEHAVIORS
from vaco_curate.evaluation import CloningSettings, clone_policies, rollout_returns
from vaco_curate.stages.runs import SCORER_FOLDER, open_run

SETTINGS = dataclasses.replace(
    PRESETS["quick"],
    value=dataclasses.replace(PRESETS["quick"].value, updates=2_500, hidden=(64, 64)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality")
    record_pendulum(folder / "pendulum.hdf5", episodes=60, seed=3)
    score_dataset(folder / "pendulum.hdf5", out=folder / "pendulum.vaco", settings=SETTINGS, device="cpu")
    return folder


def test_episodes_of_the_good_controller_score_above_random_ones(folder):
    data = read_dataset(str(folder / "pendulum.hdf5"))
    with h5py.File(folder / "pendulum.hdf5") as file:
        behavior = file["infos/behavior"][:][data.episode_start]
    means = episode_means(data, open_run(folder / "pendulum.vaco").scores.column("score"))
    good, random = (means[behavior == list(BEHAVIORS).index(name)] for name in ("good", "random"))
    area_under_curve = (good[:, None] > random[None]).mean()
    assert area_under_curve > 0.95


def test_a_policy_cloned_from_the_best_episodes_beats_one_cloned_from_all(folder):
    run = open_run(folder / "pendulum.vaco")
    data, _ = run.dataset()
    kept = filter_dataset(run.folder, "20%", level="episode", out=folder / "best")
    assert kept.after.return_mean > kept.before.return_mean + 300
    weight = np.isin(data.episode_id, read_dataset(str(folder / "best")).episode_id).astype(float)
    scaling = Scorer.load(run.folder / SCORER_FOLDER).scaling
    settings = CloningSettings(updates=1_500, hidden=(64, 64), learning_rate=1e-3)

    def mean_return(rows):
        (policy,) = clone_policies(data, rows[None], scaling, settings, seeds=[0])
        return rollout_returns(policy, Environment("Pendulum-v1"), episodes=20, seed=0).mean()

    assert mean_return(weight) > mean_return(np.ones(len(data))) + 200
