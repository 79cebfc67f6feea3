"""What the quality protocol measures: its variants, what they share, and its datasets."""

from __future__ import annotations

import numpy as np
import pytest


def test_a_variant_is_listed_by_what_it_changes(protocol):
    changes = protocol["signals"].changes
    assert changes("VACO") == {}
    assert changes("VACO, KL 0") == {"bilevel.divergence_coefficient": 0.0}
    assert changes("VACO, four members") == {"members": 4}
    variants = protocol["signals"].ABLATIONS
    listed = [str(changes(name)) for name in variants]
    assert "{}" not in listed
    assert len(set(listed)) == len(variants), "two variants are the same"


def test_scores_of_other_settings_are_kept_apart(protocol, setup, monkeypatch):
    before = setup.file("hopper-mixed", "Q", 0)
    assert before != setup.file("hopper-mixed", "Q", 1)
    random = setup.file("hopper-mixed", "random", 0)
    signals = protocol["signals"]
    changed = signals.altered(signals.VARIANTS["VACO"], {}, {"divergence_coefficient": 3.0})
    monkeypatch.setitem(signals.VARIANTS, "VACO", changed)
    assert setup.file("hopper-mixed", "Q", 0) != before
    assert setup.file("hopper-mixed", "random", 0) == random


def test_variants_that_share_the_values_of_the_default_have_the_scores_of_their_own_training(
    protocol, setup, tmp_path
):
    """Every ablation that begins where the default's value phase has ended, against one from the start."""
    Task, signals = protocol["tasks"].Task, protocol["signals"]  # noqa: N806
    data = protocol["datasets"].load("pendulum", tmp_path, tmp_path).data
    values = tmp_path / "values"
    few = {"batch_size": 32, "hidden": (8, 8), "settled_at": None}

    def scores(name, values):
        settings = signals.VARIANTS.get(name) or signals.ABLATIONS[name]
        updates = 30 if name == "VACO, K2 = 20k" else 20
        settings = signals.altered(settings, few | {"updates": 20}, few | {"updates": updates})
        return signals.train_scorer(data, settings, 0, 1, values).score(data).score

    default = scores(signals.DEFAULT, values)
    assert values.exists()
    sharing = [name for name in signals.ABLATIONS if setup.values_file(Task("score", "hopper-mixed", name, 0))]
    assert len(sharing) > 15
    differ = 0
    for name in sharing:
        shared, own = scores(name, values), scores(name, None)
        assert np.array_equal(shared, own), name
        differ += not np.array_equal(own, default)
    assert differ > 10, "hardly a variant changes anything here, and nothing is shown"


@pytest.mark.parametrize(
    "name",
    [
        "VACO, paper",
        "VACO, prior alone",
        "VACO, uniform prior, KL 1",
        "VACO, path discount 1",
        "VACO, paths of 100 steps",
        "VACO, without s",
        "VACO, K1 = 8k",
        "VACO, expectile 0.9",
        "VACO, reward horizon 1000",
        "VACO, four members",
    ],
)
def test_a_variant_with_values_or_networks_of_its_own_shares_none(protocol, setup, name):
    Task = protocol["tasks"].Task  # noqa: N806
    assert setup.values_file(Task("score", "hopper-mixed", name, 0)) is None


def test_a_mixture_has_the_wanted_share_of_the_best(protocol, tmp_path):
    mixture = protocol["datasets"].load("pendulum-50-percent-best", tmp_path, tmp_path)
    assert mixture.is_best.mean() == pytest.approx(0.5, abs=0.03)
    assert set(np.unique(mixture.label)) == {mixture.best[0], mixture.names.index("random")}
    assert (mixture.label[mixture.data.episode_start][mixture.episode_is_best] == mixture.best[0]).all()


@pytest.mark.parametrize(
    ("name", "random_below", "heuristic_above"),
    [
        ("lander", 0.0, 200.0),
        ("mountain-car", -30.0, 85.0),
        ("reacher", -30.0, -10.0),
        ("double-pendulum", 100.0, 9_000.0),
        ("swimmer", 50.0, 300.0),
    ],
)
def test_a_script_is_recorded_grade_by_grade(protocol, tmp_path, name, random_below, heuristic_above):
    if name == "lander":
        pytest.importorskip("Box2D", reason="the quality extra is not installed")
    scripted = protocol["scripted"]
    scripted.record_script(tmp_path / f"{name}.hdf5", scripted.SCRIPTS[name], rows=300)
    labelled = protocol["datasets"].load(f"{name}-mixed", tmp_path, tmp_path)
    data, grades = labelled.data, labelled.names
    assert grades == tuple(scripted.GRADES)
    assert all(labelled.rows_by(grade).sum() >= 300 for grade in grades)
    assert (np.diff(labelled.label) >= 0).all(), "one grade after the other, whole episodes"
    assert np.abs(data.action).max() <= 1.0
    mean = {grade: data.episode_return[labelled.rows_by(grade)[data.episode_start]].mean() for grade in grades}
    assert data.reference_returns == pytest.approx((mean["random"], mean["heuristic"]))
    assert mean["random"] < random_below
    assert mean["heuristic"] > heuristic_above
