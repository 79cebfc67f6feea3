from __future__ import annotations

import json

import pytest

from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import TrainSettings, settings_from_json
from vaco_curate.errors import SettingsError


@pytest.mark.parametrize("preset", PRESETS)
def test_resolved_settings_read_back_to_the_same(preset):
    written = json.loads(json.dumps(PRESETS[preset].to_json()))
    assert settings_from_json(written, TrainSettings()) == PRESETS[preset]


def test_the_paper_preset_field_by_field():
    """Published values, but for those that the comments name; nothing else may differ."""
    assert PRESETS["paper"].to_json() == {
        "value": {
            "updates": 1_000_000,  # chosen
            "batch_size": 256,
            "learning_rate": 3e-4,
            "expectile": 0.7,
            "discount": 0.99,
            "polyak": 0.005,
            "hidden": [256, 256],
            "reward_shift": 0.0,
            "settled_at": None,  # no early end
        },
        "bilevel": {
            "updates": 1_000_000,  # chosen
            "batch_size": 256,
            "policy_learning_rate": 3e-4,
            "scorer_learning_rate": 3e-5,
            "hidden": [256, 256],
            "noise": [0.2, 0.0],  # chosen
            "settled_at": None,  # no early end
        },
        "sample_size": 0.15,  # of our own score
        "matmul_precision": "highest",
        "log_every": 500,
        "checkpoint_every": 5_000,
    }


def test_quick_leaves_the_bilevel_phase_out_and_standard_does_not():
    assert PRESETS["quick"].bilevel.updates == 0 < PRESETS["standard"].bilevel.updates
    assert PRESETS["quick"].value.updates < PRESETS["standard"].value.updates


def test_a_part_of_the_settings_replaces_that_part_only():
    settings = settings_from_json({"bilevel": {"batch_size": 7}}, PRESETS["quick"])
    assert settings.bilevel.batch_size == 7
    assert settings.value == PRESETS["quick"].value


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"bilevel": {"batchsize": 7}}, r"unknown setting bilevel.batchsize(.|\n)*batch_size"),
        ({"value": 3}, "must be an object"),
        ({"value": {"updates": "many"}}, "value.updates must be a finite int"),
        ({"value": {"updates": True}}, "value.updates must be a finite int"),
        ({"value": {"updates": -5}}, "value.updates is -5, it must be >= 1"),
        ({"value": {"expectile": 1.5}}, "between 0 and 1"),
        ({"value": {"hidden": []}}, "layer sizes"),
        ({"value": {"hidden": 256}}, "list of int"),
        ({"matmul_precision": "low"}, "highest, high or medium"),
        ({"bilevel": {"noise": [0.1]}}, "two values"),
        ({"bilevel": {"updates": -1}}, "bilevel.updates is -1, it must be >= 0"),
        ({"sample_size": 1.0}, "sample_size is 1.0, it must be in"),
        ({"checkpoint_every": 750}, "multiple of log_every"),
    ],
)
def test_bad_settings_are_refused_by_name(facts, message):
    with pytest.raises(SettingsError, match=message):
        settings_from_json(facts, TrainSettings())
