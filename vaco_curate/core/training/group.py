"""A group of members: their states, and the updates of both phases on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaco_curate.core.advantage import Persistence, TDErrors
from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.passes import forward_only, outputs, smaller_of_twins
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.forward import ChunkPass, by_chunks, height_for, values_and_td_errors
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.training.bilevel_phase import (
    BilevelState,
    BilevelUpdate,
    create_bilevel_state,
    noise_at,
)
from vaco_curate.core.training.draws import Draws
from vaco_curate.core.training.loop import Part, Updates
from vaco_curate.core.training.settings import TrainSettings
from vaco_curate.core.training.settling import SAMPLE_ROWS, Settling
from vaco_curate.core.training.value_phase import ValueState, ValueUpdate, create_value_state
from vaco_curate.core.transitions import Transitions

VALUE, BILEVEL = 0, 1
"""The phases' numbers among the draws."""


class Group:
    """K members whose updates are computed together.

    Args:
        data: the dataset.
        rows: the same in network units, on the training device or in a mapped file.
        scaling: from one to the other.
        seeds: one for each member.
    """

    def __init__(
        self, data: Transitions, rows: Rows, scaling: Scaling, settings: TrainSettings, seeds: Sequence[int]
    ) -> None:
        self.data, self.rows, self.scaling = data, rows, scaling
        self.settings, self.seeds = settings, seeds
        self.value_state, self.bilevel_state = create_states(
            rows.observation_size, rows.action_size, settings, seeds, rows.device
        )
        watched = len(self._watched)
        self.value_settling = Settling.new(len(seeds), 2, watched, self._device)
        self.bilevel_settling = Settling.new(len(seeds), 1, watched, self._device)

    @property
    def states(self) -> dict[str, Any]:
        """Everything that training changes, by name."""
        return {
            "value": self.value_state,
            "bilevel": self.bilevel_state,
            "value_settling": self.value_settling,
            "bilevel_settling": self.bilevel_settling,
        }

    def value_part(self) -> Part:
        """This group's part in the value phase."""
        learnable = torch.from_numpy(np.flatnonzero(self.data.is_learnable)).to(self._device)
        draws = Draws(self.rows, self.seeds, VALUE, learnable, self.settings.value.batch_size)
        value_update = ValueUpdate(self.value_state, self.settings.value)

        def update(number: int, measure: bool) -> dict[str, Tensor]:
            return value_update(draws.batches[number], measure=measure)

        return Part(self.value_state, Updates(update, draws), self.value_settling, self.value_signals)

    def bilevel_part(self) -> Part:
        """This group's part in the bi-level phase; to be asked for when the value phase has ended."""
        settings = self.settings.bilevel
        draws = Draws(
            self.rows,
            self.seeds,
            BILEVEL,
            torch.arange(len(self), device=self._device),
            settings.batch_size,
            noise_width=self.rows.observation_size,
            deviation=partial(noise_at, settings),
        )
        state = self.bilevel_state
        q_value = self._q_values()  # once: the critics are frozen
        state.standardize_by(q_value)
        q_input = state.standardized(q_value).flatten()
        first_row = torch.arange(len(self.seeds), device=self._device).unsqueeze(-1) * len(self)
        drawn_q_input = torch.zeros(draws.rows.shape, device=self._device)
        bilevel_update = BilevelUpdate(state, self.value_state.critic, settings.batch_size)

        def drawn() -> None:
            drawn_q_input.copy_(q_input[draws.rows + first_row])

        def update(number: int, measure: bool) -> dict[str, Tensor]:
            batch, noise = draws.batches[number], draws.noise[number]
            return bilevel_update(batch, drawn_q_input[number], noise, measure=measure)

        updates = Updates(update, draws, drawn=drawn)
        return Part(state, updates, self.bilevel_settling, self.bilevel_signals)

    def value_signals(self) -> Tensor:
        """What tells whether the values have settled: Q(s, a) of watched rows, and their smoothed TD errors.

        Those with the discount: the order of those without it settles before V is learned.

        Returns:
            (K, signals, rows).
        """
        q_value = smaller_of_twins(self.value_state.critic, self.rows.take(self._watched).pair)
        paths = self._watched_paths
        packed, rows = paths.packed(), paths.rows()
        known, terminated = self.data.is_learnable[rows], self.data.terminated[rows]
        _, errors = values_and_td_errors(
            self.value_state.value, self.scaling, self.settings.value.discount, self.data, paths
        )
        smoothed = []
        for discounted in errors.discounted:
            of_member = TDErrors(discounted, discounted)
            found = Persistence.fit(packed, of_member, known, terminated)
            smoothed.append(found.smoothed(packed, of_member, known))
        return torch.stack([q_value, torch.from_numpy(np.stack(smoothed)).to(q_value)], dim=1)

    def bilevel_signals(self) -> Tensor:
        """What the scorer networks give watched rows, (K, 1, rows)."""
        pair = self.rows.take(self._watched).pair
        q_input = self.bilevel_state.standardized(smaller_of_twins(self.value_state.critic, pair))
        features = torch.cat([pair.expand(len(self.seeds), -1, -1), q_input.unsqueeze(-1)], dim=-1)
        return outputs(self.bilevel_state.scorer, features)[..., 0].unsqueeze(1)

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self.rows.values)

    @property
    def _device(self) -> torch.device:
        return self.rows.device

    @cached_property
    def _watched_paths(self) -> Paths:
        """Paths whose rows' order tells when a phase may end."""
        return Paths.of(self.data, LONGEST_PATH).drawn(SAMPLE_ROWS)

    @cached_property
    def _watched(self) -> Tensor:
        """Their rows."""
        return torch.from_numpy(self._watched_paths.rows()).to(self._device)

    def _q_values(self) -> Tensor:
        """Q(s, a) of every row by every member, (K, n), on the training device."""
        critics, pair = self.value_state.critic, self.rows.pair
        height = height_for(self._device, critics.members)

        def prepare() -> ChunkPass:
            pairs = pair.new_zeros(1, height, pair.shape[-1], device=self._device)
            network = forward_only(critics, height)

            def one_pass(rows: slice) -> Tensor:
                pairs[:, : rows.stop - rows.start] = pair[rows]
                return torch.minimum(*network.forward(pairs)[..., 0].chunk(2))

            return one_pass

        return torch.from_numpy(by_chunks(len(self), height, prepare, critics.flat)).to(self._device)


def create_states(
    observation_size: int,
    action_size: int,
    settings: TrainSettings,
    seeds: Sequence[int],
    device: torch.device | str,
) -> tuple[ValueState, BilevelState]:
    """Fresh states; the networks of a member depend on its seed alone."""
    sizes = (observation_size, action_size)
    values, critics, policies, scorers = [], [], [], []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            values.append(ValueNetwork(observation_size, settings.value.hidden).layers)
            critics.append(TwinCritic(*sizes, settings.value.hidden))
            policies.append(Policy(*sizes, settings.bilevel.hidden).layers)
            scorers.append(ScorerNetwork(*sizes, settings.bilevel.hidden).layers)

    def stack(networks: Sequence[nn.Sequential]) -> StackedMLP:
        return StackedMLP.of(networks, hidden_precision=settings.matmul_precision, device=device)

    twins = [critic.first for critic in critics] + [critic.second for critic in critics]
    return (
        create_value_state(stack(values), stack(twins), settings.value),
        create_bilevel_state(stack(policies), stack(scorers), settings.bilevel),
    )
