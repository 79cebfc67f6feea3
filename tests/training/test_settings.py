from __future__ import annotations

import json

import pytest

from vaco_curate.errors import SettingsError
from vaco_curate.training import PRESETS, TrainSettings, settings_from_json


@pytest.mark.parametrize("preset", PRESETS)
def test_resolved_settings_read_back_to_the_same(preset):
    written = json.loads(json.dumps(PRESETS[preset].to_json()))
    assert settings_from_json(written, TrainSettings()) == PRESETS[preset]


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
        ({"bilevel": {"noise_on": "reward"}}, "state or action"),
        ({"bilevel": {"noise": [0.1]}}, "two values"),
        ({"bilevel": {"merge_value_updates": True}}, "prior is uniform"),
        ({"bilevel": {"prior_sample_size": 1.0}}, "prior_sample_size is 1.0, it must be in"),
        (
            {"bilevel": {"merge_value_updates": True, "prior": "uniform", "standardize_q": False}},
            "standardize_q is False, it must be true while values still learn",
        ),
        ({"checkpoint_every": 750}, "multiple of log_every"),
    ],
)
def test_bad_settings_are_refused_by_name(facts, message):
    with pytest.raises(SettingsError, match=message):
        settings_from_json(facts, TrainSettings())
