"""Which rows and which noise an update gets: a function of the seed, the phase and the update alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from vaco_curate.core.batches import Rows

DRAWN_UPDATES = 50
"""Updates drawn at once. A generator's call costs as much as a small kernel; so drawn, it costs nothing."""


def cumulative_shares(weight: Tensor) -> Tensor:
    """Cumulative shares of candidates that are drawn in proportion to their weight, (K, n) float64.

    Args:
        weight: (K, n), non-negative; only ratios matter.
    """
    shares = weight.to(torch.float64).cumsum(dim=-1)
    return shares / shares[:, -1:].clone()


class Draws:
    """Minibatch rows, and noise if wanted, of all members for a block of updates.

    No generator lives on between blocks: a resumed training draws what the interrupted one would have,
    and a member draws what a training of its own with that seed would.

    Args:
        source: the dataset to draw from.
        seeds: one for each member.
        phase: 0 or 1, so that the phases draw differently.
        candidates: row numbers to draw from, (n,) int64, on the training device.
        shares: (K, n) float64, on that device: cumulative shares of the candidates among a member's draws; None
            where all are drawn alike.
        noise_width: columns of standard normal noise for each row; 0 for none.
        deviation: of the noise at an update.

    Attributes:
        rows: (DRAWN_UPDATES, K, batch) int64.
        noise: (DRAWN_UPDATES, K, batch, noise_width).
        block: (DRAWN_UPDATES, K, batch) rows, always in the same memory.
        batches: its DRAWN_UPDATES minibatches.
    """

    def __init__(
        self,
        source: Rows,
        seeds: Sequence[int],
        phase: int,
        candidates: Tensor,
        batch_size: int,
        *,
        shares: Tensor | None = None,
        noise_width: int = 0,
        deviation: Callable[[int], float] = lambda update: 0.0,
    ) -> None:
        self.source, self.seeds, self.phase, self.candidates = source, seeds, phase, candidates
        self.shares, self.deviation = shares, deviation
        shape = (DRAWN_UPDATES, len(seeds), batch_size)
        device = candidates.device
        self.rows = torch.zeros(shape, dtype=torch.int64, device=device)
        self.noise = torch.zeros((*shape, noise_width), device=device)
        self.block = source.like(source.values.new_zeros((*shape, source.values.shape[-1]), device=device))
        self.batches = [source.like(values) for values in self.block.values]

    def fill(self, block: int) -> None:
        """Draw block ``block``: the updates from ``block * DRAWN_UPDATES`` on."""
        for member, seed in enumerate(self.seeds):
            generator = self._generator(seed, block)
            shape = (DRAWN_UPDATES, self.rows.shape[2])
            self.rows[:, member] = self.candidates[self._drawn(member, shape, generator)]
            if self.noise.shape[-1]:
                self.noise[:, member] = torch.randn(
                    (*shape, self.noise.shape[-1]), generator=generator, device=self.noise.device
                )
        if self.noise.shape[-1]:
            deviations = [
                self.deviation(update) for update in range(block * DRAWN_UPDATES, (block + 1) * DRAWN_UPDATES)
            ]
            factors = torch.tensor(deviations, dtype=self.noise.dtype, pin_memory=self.noise.is_cuda)
            self.noise *= factors.to(self.noise.device, non_blocking=True).view(-1, 1, 1, 1)  # nobody waits
        self.fetch()

    def fetch(self) -> None:
        """Fill the minibatches with the drawn rows, which may lie in a mapped file."""
        source = self.source.values
        taken = source.index_select(0, self.rows.flatten().to(source.device))
        self.block.values.copy_(taken.view_as(self.block.values))

    def _drawn(self, member: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Positions among the candidates."""
        device = self.rows.device
        if self.shares is None:
            return torch.randint(len(self.candidates), shape, generator=generator, device=device)
        uniform = torch.rand(shape, generator=generator, device=device, dtype=self.shares.dtype)
        return torch.searchsorted(self.shares[member], uniform, right=True)  # what has no share is never drawn

    def _generator(self, seed: int, block: int) -> torch.Generator:
        mixed = np.random.SeedSequence((seed, self.phase, block)).generate_state(1, np.uint64)[0]
        return torch.Generator(self.rows.device).manual_seed(int(mixed >> np.uint64(1)))
