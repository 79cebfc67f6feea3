"""Builders and places that many tests share."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa

from vaco_curate.core.scorer import RowScores
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import BilevelSettings, TrainSettings, ValueSettings
from vaco_curate.core.transitions import Transitions
from vaco_curate.data.columns import transitions_from_columns
from vaco_curate.data.formats.tables import write_table
from vaco_curate.data.scores import ScoreTable, score_batch
from vaco_curate.store.files import place

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
PROTOCOL = Path(__file__).parents[1] / "benchmarks" / "quality"


def make_transitions(
    episodes: int = 6,
    length: int = 20,
    *,
    observation_size: int = 4,
    action_size: int = 2,
    seed: int = 0,
    **facts,
) -> Transitions:
    """Random float32 episodes; even ones end truly, odd ones at a time limit."""
    generator = np.random.default_rng(seed)
    count = episodes * length
    terminated, truncated = np.zeros(count, bool), np.zeros(count, bool)
    terminated[length - 1 :: 2 * length] = True
    truncated[2 * length - 1 :: 2 * length] = True
    columns = {
        "observation": generator.standard_normal((count, observation_size)).astype(np.float32),
        "action": generator.uniform(-1, 1, (count, action_size)).astype(np.float32),
        "reward": generator.standard_normal(count).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
    }
    columns |= facts.pop("columns", {})
    return transitions_from_columns(columns, source="test", format_name="test", **facts)


def write_scores(file: Path, data: Transitions, scores: RowScores, *, reward_scale: float = 1.0) -> ScoreTable:
    """Scores of a dataset in one file."""
    write_table(file, pa.Table.from_batches([score_batch(data, scores)]))
    return ScoreTable((file,), data.fingerprint, data.source, reward_scale)


def tiny_settings(**bilevel) -> TrainSettings:
    """Settings that train in about a second."""
    return dataclasses.replace(
        PRESETS["quick"],
        value=ValueSettings(updates=60, batch_size=32, hidden=(32, 32), settled_at=None),
        bilevel=dataclasses.replace(
            BilevelSettings(updates=40, batch_size=32, hidden=(32, 32), settled_at=None), **bilevel
        ),
        log_every=20,
        checkpoint_every=20,
    )


CONFIG = json.dumps(tiny_settings().to_json())
"""The same as a file of ``--config``."""


def write_d4rl(path: Path, data: Transitions, **extra) -> Path:
    """A D4RL-layout file of the rows; ``extra`` adds or replaces keys, None removes one."""
    columns = {
        "observations": data.observation,
        "actions": data.action,
        "rewards": data.reward,
        "terminals": data.terminated,
        "timeouts": data.truncated,
    } | extra
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            if values is not None:
                file.create_dataset(key, data=values)
        if data.env_id is not None:
            file.attrs["env_id"] = data.env_id
    return path


def contents(folder: Path | str, part: str) -> dict[str, bytes]:
    """The files of a part of an output, here or in an object store, by their names."""
    return {path.name: path.read_bytes() for path in sorted((place(folder) / part).iterdir(), key=str)}
