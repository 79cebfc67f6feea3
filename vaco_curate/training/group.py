"""A group of members: their states, and the updates of both phases on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaco_curate.advantage import Persistence, td_errors
from vaco_curate.batches import Rows
from vaco_curate.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork, bounded, scorer_inputs
from vaco_curate.passes import forward_only, outputs, smaller_of_twins
from vaco_curate.paths import Paths
from vaco_curate.prior import Prior
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.bilevel_phase import (
    BilevelState,
    BilevelUpdate,
    create_bilevel_state,
    follow_critic,
    noise_at,
    standardize_by,
)
from vaco_curate.training.draws import Draws
from vaco_curate.training.loop import Part, Update, Updates
from vaco_curate.training.settings import TrainSettings
from vaco_curate.training.settling import SAMPLE_ROWS, Settling
from vaco_curate.training.value_phase import ValueState, ValueUpdate, create_value_state
from vaco_curate.transitions import Array

CHUNK = 4096
"""Rows per forward pass over the whole dataset."""

VALUE, BILEVEL = 0, 1
"""The phases' numbers among the draws."""


class Group:
    """K members whose updates are computed together.

    Args:
        rows: the dataset in network units, on the training device or in a mapped file.
        paths: of the dataset.
        known: (n,) bool, rows that values can be learned from: those whose TD error is known.
        seeds: one for each member.
    """

    def __init__(
        self, rows: Rows, paths: Paths, known: Array, settings: TrainSettings, seeds: Sequence[int]
    ) -> None:
        self.rows, self.paths, self.known = rows, paths, known
        self.learnable = torch.from_numpy(np.flatnonzero(known)).to(rows.device)
        self.settings, self.seeds = settings, seeds
        self.value_state, self.bilevel_state = create_states(
            rows.observation_size, rows.action_size, settings, seeds, rows.device
        )
        self.prior: Prior | None = None
        watched = len(self._watched)
        by_advantage = settings.bilevel.prior == "advantage"
        self.value_settling = Settling.new(len(seeds), 2 if by_advantage else 1, watched, self._device)
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
        value_update = ValueUpdate(self.value_state, self.settings.value)

        def update(batch: Rows, _drawn: Tensor, _noise: Tensor, measure: bool) -> dict[str, Tensor]:
            return value_update(batch, measure=measure)

        draws = Draws(self.rows, self.seeds, VALUE, self.learnable, self.settings.value.batch_size)
        return Part(self.value_state, Updates(update, draws), self.value_settling, self.value_signals)

    def bilevel_part(self) -> Part:
        """This group's part in the bi-level phase; to be asked for when the value phase has ended."""
        settings = self.settings.bilevel
        on_state = settings.noise_on == "state"
        draws = Draws(
            self.rows,
            self.seeds,
            BILEVEL,
            self.learnable if settings.merge_value_updates else torch.arange(len(self), device=self._device),
            settings.batch_size,
            noise_width=self.rows.observation_size if on_state else self.rows.action_size,
            deviation=partial(noise_at, settings),
        )
        update = self._merged_update() if settings.merge_value_updates else self._update()
        return Part(self.bilevel_state, Updates(update, draws), self.bilevel_settling, self.bilevel_signals)

    def value_signals(self) -> Tensor:
        """What the value phase hands on, for watched rows: Q(s, a), and the trajectory's advantage if it is the
        prior.

        Returns:
            (K, signals, rows).
        """
        watched = self.rows.take(self._watched)
        signals = [smaller_of_twins(self.value_state.critic, watched.pair)]
        if self.settings.bilevel.prior == "advantage":
            some = self._watched_paths
            rows, packed = some.rows(), some.packed()
            smoothed = [
                Persistence.fit(packed, errors, self.known[rows]).smoothed(packed, errors, self.known[rows])
                for errors in self._td_errors(some)
            ]
            signals.append(torch.from_numpy(np.stack(smoothed)).to(watched.values))
        return torch.stack(signals, dim=1)

    def bilevel_signals(self) -> Tensor:
        """What the scorer networks give watched rows, (K, 1, rows)."""
        state = self.bilevel_state
        watched = self.rows.take(self._watched)
        q_value = smaller_of_twins(self.value_state.critic, watched.pair)
        members = len(self.seeds)
        parts = scorer_inputs(
            self.settings.bilevel.inputs,
            watched.observation.expand(members, -1, -1),
            watched.action.expand(members, -1, -1),
            state.standardized(q_value),
            state.standardized_value(outputs(self.value_state.value, watched.observation)[..., 0]),
        )
        features = torch.cat(parts, dim=-1)
        score = bounded(outputs(state.averaged_scorer, features)[..., 0], self.settings.bilevel.score_bound)
        return score.unsqueeze(1)

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self.rows.values)

    @property
    def _device(self) -> torch.device:
        return self.rows.device

    @cached_property
    def _watched_paths(self) -> Paths:
        """Paths whose rows' order tells when a phase may end."""
        return self.paths.drawn(SAMPLE_ROWS)

    @cached_property
    def _watched(self) -> Tensor:
        """Their rows."""
        return torch.from_numpy(self._watched_paths.rows()).to(self._device)

    def _update(self) -> Update:
        """With frozen critics: Q(s, a), V(s) and the prior of every row are computed once."""
        state = self.bilevel_state
        q_value, value = self._q_values(), self._values(self.rows.observation)
        standardize_by(state, q_value if self.settings.bilevel.standardize_q else None, value)
        columns = [state.standardized(q_value), self._log_prior()]
        if "value" in self.settings.bilevel.inputs:
            columns.append(state.standardized_value(value))
        inputs = torch.stack(columns, dim=-1).flatten(0, 1)
        members = torch.arange(len(self.seeds), device=self._device).unsqueeze(-1) * len(self)
        bilevel_update = BilevelUpdate(state, self.value_state.critic, self.settings.bilevel)

        def update(batch: Rows, drawn: Tensor, noise: Tensor, measure: bool) -> dict[str, Tensor]:
            taken = inputs.index_select(0, (drawn + members).flatten()).view(*drawn.shape, len(columns))
            q_input, log_prior, *value_input = taken.unbind(dim=-1)
            return bilevel_update(batch, q_input, log_prior, noise, *value_input, measure=measure)

        return update

    def _merged_update(self) -> Update:
        """A value update and a bi-level update on the same minibatch; the critics never rest."""
        state, critic = self.bilevel_state, self.value_state.critic
        if state.update == 0:
            standardize_by(state, self._q_values(), self._values(self.rows.observation))
        same_batch = dataclasses.replace(self.settings.value, batch_size=self.settings.bilevel.batch_size)
        value_update = ValueUpdate(self.value_state, same_batch)
        bilevel_update = BilevelUpdate(state, critic, self.settings.bilevel)

        def update(batch: Rows, _drawn: Tensor, noise: Tensor, measure: bool) -> dict[str, Tensor]:
            metrics = value_update(batch, measure=measure)
            q_value = smaller_of_twins(critic, batch.pair)
            follow_critic(state, q_value)
            q_input = state.standardized(q_value)
            uniform = torch.zeros_like(q_input)
            return bilevel_update(batch, q_input, uniform, noise, measure=measure) | metrics

        return update

    def _q_values(self) -> Tensor:
        """Q(s, a) of every row by every member, (K, n)."""
        twins = self._in_chunks(self.value_state.critic, self.rows.pair)
        return torch.cat([both.view(2, len(self.seeds), -1).amin(dim=0) for both in twins], dim=-1)

    def _values(self, observation: Tensor) -> Tensor:
        """V of given states, (n, d), by every member, (K, n)."""
        return torch.cat([v.clone() for v in self._in_chunks(self.value_state.value, observation)], dim=-1)

    def _in_chunks(self, stack: StackedMLP, rows: Tensor) -> Iterator[Tensor]:
        """What every network of a stack makes of (n, width) rows, (M, rows), ``CHUNK`` at a time.

        One pass does them all, for each has buffers of its own: what it gives is good until the next.
        """
        chunk_pass, height = None, 0
        for chunk in torch.split(rows, CHUNK):
            if chunk_pass is None or len(chunk) != height:
                chunk_pass, height = forward_only(stack, len(chunk)), len(chunk)
            yield chunk_pass.forward(chunk.to(self._device).expand(stack.members, -1, -1))[..., 0]

    def _log_prior(self) -> Tensor:
        """log rho of every row for every member, (K, n); remembers the prior for the scorer."""
        settings = self.settings.bilevel
        if settings.prior == "uniform":
            return torch.zeros(len(self.seeds), len(self), device=self._device)
        priors, log_rho = [], torch.empty(len(self.seeds), len(self), device=self._device)
        for member, errors in enumerate(self._td_errors(self.paths)):
            prior, of_rows = Prior.fit(
                self.paths,
                errors,
                self.known,
                sample_size=settings.prior_sample_size,
                discount=self.settings.value.discount,
            )
            priors.append(prior)
            log_rho[member] = torch.from_numpy(of_rows)
        self.prior = Prior.joined(priors)
        return log_rho

    def _td_errors(self, paths: Paths) -> Iterator[Array]:
        """TD errors of the rows of some paths by every member's V, one member after the other, (rows,) each."""
        rows = torch.from_numpy(paths.rows())
        whole = len(rows) == len(self)
        observation = self.rows.observation if whole else self.rows.take(rows).observation
        reward, terminated = (
            column.cpu().numpy() if whole else column[rows.to(column.device)].cpu().numpy()
            for column in (self.rows.reward, self.rows.terminated)
        )
        values = self._values(observation)
        reached = self._values(self.rows.take(torch.from_numpy(paths.last)).next_observation)
        for value, last_value in zip(values.cpu().numpy(), reached.cpu().numpy(), strict=True):
            if not self._rewards_tell:
                yield np.zeros(len(value))  # V is nothing but noise
                continue
            next_value = paths.packed().next_values(value, last_value)
            discount = self.settings.value.discount
            yield td_errors(reward.astype(np.float64), value, next_value, terminated, discount=discount)

    @cached_property
    def _rewards_tell(self) -> bool:
        """Whether rewards, or how long paths earn them, differ."""
        reward = self.rows.reward.cpu().numpy()
        return bool(np.ptp(np.add.reduceat(reward, self.paths.start)) or np.ptp(reward))


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
            bilevel = settings.bilevel
            scorer = ScorerNetwork(*sizes, bilevel.hidden, bilevel.score_bound, bilevel.inputs)
            scorers.append(scorer.layers)

    def stack(networks: Sequence[nn.Sequential]) -> StackedMLP:
        return StackedMLP.of(networks, hidden_precision=settings.matmul_precision, device=device)

    twins = [critic.first for critic in critics] + [critic.second for critic in critics]
    return (
        create_value_state(stack(values), stack(twins), settings.value),
        create_bilevel_state(stack(policies), stack(scorers), settings.bilevel),
    )
