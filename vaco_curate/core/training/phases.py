"""The two phases on members that are computed together: what an update gets, and when a phase may end."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from vaco_curate.core.advantage import Persistence, TDErrors
from vaco_curate.core.fast.passes import outputs, smaller_of_twins
from vaco_curate.core.forward import values_and_td_errors
from vaco_curate.core.training.bilevel_update import noise_at
from vaco_curate.core.training.draws import Draws
from vaco_curate.core.training.loop import Phase
from vaco_curate.core.training.members import Members
from vaco_curate.core.training.updates import bilevel_update, value_update

VALUE, BILEVEL = 0, 1
"""The phases' numbers among the draws."""


class ValuePhase(Phase):
    """IQL's updates of V and the twin critics."""

    def __init__(self, members: Members) -> None:
        settings = members.settings.value
        learnable = torch.from_numpy(np.flatnonzero(members.data.is_learnable)).to(members.device)
        draws = Draws(members.rows, members.seeds, VALUE, learnable, settings.batch_size)
        super().__init__(draws, members.value_state, members.value_settling)
        self.of = members
        self.step = value_update(members.value_state, settings)

    def update(self, number: int, measure: bool) -> dict[str, Tensor]:
        """As ``Updates.update``."""
        return self.step(self.draws.batches[number], measure=measure)

    def signals(self) -> Tensor:
        """What tells whether the values have settled: Q(s, a) of watched rows, and their smoothed TD errors.

        Those with the discount: the order of those without it settles before V is learned.

        Returns:
            (K, signals, rows).
        """
        members = self.of
        q_value = smaller_of_twins(members.value_state.critic, members.rows.take(members.watched).pair)
        paths = members.watched_paths
        packed, rows = paths.packed(), paths.rows()
        known, terminated = members.data.is_learnable[rows], members.data.terminated[rows]
        _, errors = values_and_td_errors(
            members.value_state.value, members.scaling, members.settings.value.discount, members.data, paths
        )
        smoothed = []
        for discounted in errors.discounted:
            of_member = TDErrors(discounted, discounted)
            found = Persistence.fit(packed, of_member, known, terminated)
            smoothed.append(found.smoothed(packed, of_member, known))
        return torch.stack([q_value, torch.from_numpy(np.stack(smoothed)).to(q_value)], dim=1)


class BilevelPhase(Phase):
    """VACO's updates of policy and meta-scoring network; to be made when the value phase has ended."""

    def __init__(self, members: Members) -> None:
        settings, state = members.settings.bilevel, members.bilevel_state
        draws = Draws(
            members.rows,
            members.seeds,
            BILEVEL,
            torch.arange(len(members), device=members.device),
            settings.batch_size,
            noise_width=members.rows.observation_size,
            deviation=partial(noise_at, settings),
        )
        super().__init__(draws, state, members.bilevel_settling)
        self.of = members
        self.step = bilevel_update(state, members.value_state.critic, settings.batch_size)
        q_value = members.q_values()  # once: the critics are frozen
        state.standardize_by(q_value)
        self._q_input = state.standardized(q_value).flatten()
        self._first_row = torch.arange(len(members.seeds), device=members.device).unsqueeze(-1) * len(members)
        self._pairs, self._noisy = torch.zeros_like(draws.block.pair), torch.zeros_like(draws.noise)
        self._features = draws.noise.new_zeros((*draws.rows.shape, state.scorer.sizes[0]))

    def drawn(self) -> None:
        """As ``Updates.drawn``."""
        draws = self.draws
        self._pairs.copy_(draws.block.pair)
        self._features[..., :-1] = draws.block.pair
        self._features[..., -1] = self._q_input[draws.rows + self._first_row]
        torch.add(draws.block.observation, draws.noise, out=self._noisy)

    def update(self, number: int, measure: bool) -> dict[str, Tensor]:
        """As ``Updates.update``."""
        parts = self.draws.batches[number], self._features[number], self._noisy[number], self._pairs[number]
        return self.step(*parts, measure=measure)

    def signals(self) -> Tensor:
        """What the scorer networks give watched rows, (K, 1, rows)."""
        members = self.of
        pair = members.rows.take(members.watched).pair
        q_input = members.bilevel_state.standardized(smaller_of_twins(members.value_state.critic, pair))
        features = torch.cat([pair.expand(len(members.seeds), -1, -1), q_input.unsqueeze(-1)], dim=-1)
        return outputs(members.bilevel_state.scorer, features)[..., 0].unsqueeze(1)
