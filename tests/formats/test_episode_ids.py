"""Numbers of episodes are trusted, also in D4RL's layout and under other names."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from vaco_curate import ReadOptions, read_dataset


def arrays(number):
    generator, rows = np.random.default_rng(0), 400
    return {
        "observations": generator.standard_normal((rows, 3)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": generator.standard_normal(rows).astype(np.float32),
        "terminals": np.arange(rows) % 90 == 89,
        number: np.arange(rows) // 40,
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("episode_id", ReadOptions()),
        ("episode_ids", ReadOptions()),
        ("infos/trial", ReadOptions(columns={"episode_id": "infos/trial"})),
    ],
)
@pytest.mark.parametrize("shape", [(400,), (400, 1)])
def test_numbers_of_episodes_count_in_d4rls_layout(tmp_path, name, options, shape):
    with h5py.File(tmp_path / "d.hdf5", "w") as file:
        for key, values in arrays(name).items():
            file[key] = values.reshape(shape) if key == name else values
    data = read_dataset(tmp_path / "d.hdf5", options)
    assert data.episode_length.tolist() == [40] * 10
    assert data.notes == ()


def test_they_count_in_a_dict_of_arrays():
    assert read_dataset(arrays("episode_id")).episode_length.tolist() == [40] * 10
