"""Which rows and which noise an update gets follows from the seed, the phase and the update alone."""

from __future__ import annotations

import torch

from vaco_curate.core.batches import Rows
from vaco_curate.core.training.draws import Draws, cumulative_shares

ROWS, BATCH = 40, 8


def source():
    number = torch.arange(float(ROWS)).unsqueeze(-1)
    return Rows.of(number, number, number, number[:, 0], torch.zeros(ROWS, dtype=torch.bool))


def drawn(seeds=(3, 4), phase=0, block=0, **options):
    draws = Draws(source(), seeds, phase, torch.arange(ROWS), BATCH, noise_width=2, **options)
    draws.fill(block)
    return draws.rows.clone(), draws.noise.clone()


def test_draws_are_repeated_by_the_same_seed_phase_and_block_and_by_no_other():
    rows, _ = drawn()
    assert torch.equal(drawn()[0], rows)
    others = [drawn(seeds=(5, 4)), drawn(phase=1), drawn(block=1)]
    for other, _ in others:
        assert (other[:, 0] == rows[:, 0]).float().mean() < 0.1
    assert (rows[:, 0] == rows[:, 1]).float().mean() < 0.1, "members draw the same"


def test_a_member_draws_what_it_draws_alone():
    together, alone = drawn(seeds=(3, 4)), drawn(seeds=(4,))
    assert all(torch.equal(many[:, 1], one[:, 0]) for many, one in zip(together, alone, strict=True))


def test_noise_has_the_deviation_of_its_update():
    _, noise = drawn(block=1, deviation=lambda update: float(update))
    by_update = noise.flatten(1).std(dim=1)
    assert torch.allclose(by_update, torch.arange(50.0, 100.0), rtol=0.6)
    assert by_update[-10:].mean() > 1.3 * by_update[:10].mean()


def test_rows_are_drawn_by_their_shares_and_never_without_one():
    weight = torch.zeros(1, ROWS)
    weight[0, 5], weight[0, 30] = 3.0, 1.0
    rows, _ = drawn(seeds=(0,), shares=cumulative_shares(weight))
    assert set(rows.unique().tolist()) == {5, 30}
    assert 0.65 < (rows == 5).float().mean() < 0.85
