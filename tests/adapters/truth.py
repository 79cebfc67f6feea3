"""Rows that say which row they are, so that every draw of any library can be held against its weight."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
from helpers import make_transitions, tiny_settings, write_d4rl

from vaco_curate import ReadOptions, load_weights, read_dataset, reweight_dataset, score_dataset
from vaco_curate.core.training.settings import ValueSettings
from vaco_curate.core.transitions import Transitions

UNIT = 4096
"""Row r has r / UNIT as its first number, which float32 holds exactly."""

TEMPERATURE = 0.6
SETTINGS = dataclasses.replace(
    tiny_settings(), value=ValueSettings(updates=300, batch_size=64, hidden=(32, 32), settled_at=None)
)


def numbered() -> Transitions:
    """Episodes of different lengths, of which the last rows without an end have no successor."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(10, 60, 100)
    rows = int(lengths.sum())
    last = np.isin(np.arange(rows), np.cumsum(lengths) - 1)
    truly = last & (generator.random(rows) < 0.5)
    number = (np.arange(rows) / UNIT).astype(np.float32)
    columns = {
        "observation": generator.standard_normal((rows, 3)).astype(np.float32),
        "action": generator.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "reward": generator.standard_normal(rows).astype(np.float32),
        "terminated": truly,
        "truncated": last & ~truly,
    }
    columns["observation"][:, 0] = columns["action"][:, 0] = number
    return make_transitions(columns=columns)


def write_demonstrations(path: Path, data: Transitions) -> Path:
    """robomimic's layout, written in another order than that of the demonstrations' numbers."""
    with h5py.File(path, "w") as file:
        starts = data.episode_start
        for number in np.random.default_rng(1).permutation(len(starts)).tolist():
            rows = slice(starts[number], starts[number] + data.episode_length[number])
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/state"], demo["next_obs/state"] = data.observation[rows], data.next_observation[rows]
            demo["actions"], demo["rewards"] = data.action[rows], data.reward[rows]
            demo["dones"] = data.terminated[rows].astype(int)
            demo.attrs["num_samples"] = int(data.episode_length[number])
        file["data"].attrs["total"] = len(data)
        file["data"].attrs["env_args"] = '{"env_name": "none", "type": 1, "env_kwargs": {}}'
    return path


def weighted(folder: Path, source: Path, file_format: str, options: ReadOptions | None = None) -> Path:
    """Score a source once, and write its weights; with the truth beside them, for ``count.py``."""
    run = folder / f"{source.stem}.vaco"
    if not run.exists():
        score_dataset(source, out=run, settings=SETTINGS, device="cpu", read_options=options)
    out = folder / f"{source.stem}-{file_format}"
    if out.exists():
        return out
    reweight_dataset(run, out=out, file_format=file_format, temperature=TEMPERATURE)
    data = read_dataset(source, options)
    np.savez(
        folder / f"{out.name}.truth.npz",
        observation=data.observation,
        action=data.action,
        reward=data.reward,
        next_observation=data.next_observation,
        terminated=data.terminated,
        is_learnable=data.is_learnable,
        weight=load_weights(out) if file_format not in ("parquet", "npz") else _weights(folder, run),
    )
    return out


def _weights(folder: Path, run: Path) -> np.ndarray:
    reweight_dataset(
        run, out=folder / f"{run.stem}-all", file_format="npy", temperature=TEMPERATURE, if_exists="replace"
    )
    return load_weights(folder / f"{run.stem}-all")


def rows_file(folder: Path) -> Path:
    """The rows in D4RL's layout."""
    return write_d4rl(folder / "rows.hdf5", numbered())
