"""The weights that LeRobot computes from the file are the ones that were given."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaco_curate.curation.rabc import REACH, rabc_table


def of_lerobot(table, frames, chunk, kappa=0.01, epsilon=1e-6):
    """As lerobot.utils.rabc.RABCWeights 0.4.4 does it, row by row: a row that is written twice counts once."""
    rows = list(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))
    progress = {index: value for index, _, value in rows}
    group = {index: number for index, number, _ in rows}
    last: dict[int, int] = {}
    for index, number, _ in rows:
        last[number] = max(last.get(number, -1), index)
    change = np.array(
        [progress[min(index + chunk, last[group[index]])] - progress[index] for index in progress]
    )
    mean, deviation = max(change.mean(), 0.0), max(change.std(), epsilon)
    weight = np.clip((change - mean + 2 * deviation) / (4 * deviation + epsilon), 0, 1)
    weight = np.where(change > kappa, 1.0, np.where(change < 0, 0.0, weight))
    of_row = dict(zip(progress, weight.tolist(), strict=True))
    return np.array([of_row[index] for index in range(frames)])


KINDS = {
    "of a temperature": lambda generator, n: np.exp(3 * generator.standard_normal(n)),
    "even": lambda generator, n: generator.random(n),
    "of a filter": lambda generator, n: (np.arange(n) % 10 == 3).astype(float),
    "alike": lambda generator, n: np.ones(n),
}


@pytest.mark.parametrize("kind", KINDS)
@given(frames=st.integers(4, 400), seed=st.integers(0, 1000), chunk=st.integers(REACH, 3 * REACH))
def test_lerobot_computes_the_given_weights(kind, frames, seed, chunk):
    weight = KINDS[kind](np.random.default_rng(seed), frames)
    table = rabc_table(weight)
    assert table.column("progress_sparse").null_count == 0
    found = of_lerobot(table, frames, chunk)
    assert np.allclose(found / found.sum(), weight / weight.sum(), rtol=1e-5, atol=1e-9)
    assert (found[weight == 0] == 0).all(), "what is left out stays out"


def test_a_chunk_that_is_too_short_gives_others():
    """So that the smallest chunk size in the documents is no idle word."""
    weight = np.random.default_rng(0).random(200)
    found = of_lerobot(rabc_table(weight), 200, REACH // 2)
    assert not np.allclose(found / found.sum(), weight / weight.sum(), rtol=1e-2)
