"""The whole training: value phase, prior, bi-level phase, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vaco_curate.batches import Rows
from vaco_curate.errors import DatasetError
from vaco_curate.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.passes import outputs
from vaco_curate.policy import TrainedPolicy
from vaco_curate.scaling import Scaling, fit_scaling
from vaco_curate.scorer import Scorer
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.arithmetic import training_arithmetic
from vaco_curate.training.bilevel_phase import (
    BilevelState,
    BilevelUpdate,
    create_bilevel_state,
    follow_critic,
    noise_at,
    standardize_by,
)
from vaco_curate.training.checkpoint import load_checkpoint, save_checkpoint
from vaco_curate.training.draws import Draws
from vaco_curate.training.loop import Metrics, OnProgress, Update, Updates, run_phase
from vaco_curate.training.prior import kept_promise, log_prior_with_sample_size
from vaco_curate.training.settings import TrainSettings
from vaco_curate.training.value_phase import ValueState, ValueUpdate, create_value_state
from vaco_curate.transitions import Array, Transitions

CHUNK = 4096
"""Rows per forward pass over the whole dataset."""

VALUE, BILEVEL = 0, 1
"""The phases' numbers among the draws."""


@dataclass(frozen=True)
class Training:
    """What a training gives.

    Attributes:
        scorer: all members.
        policy: that of the first member.
        metrics: one row per log interval, means over the interval and the members.
    """

    scorer: Scorer
    policy: TrainedPolicy
    metrics: list[Metrics]


@training_arithmetic()
def train(
    data: Transitions,
    settings: TrainSettings,
    *,
    seed: int = 0,
    members: int = 1,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> Training:
    """Train VACO on a dataset.

    The result depends on the data, the settings, the seed, the members and the device only: a run that
    is interrupted and resumed from its checkpoint gives the same numbers as one that was not.

    Args:
        members: independent trainings, side by side; member j is, to rounding, the training of
            ``seed + j`` alone.
        checkpoint: file to keep the state in; ``None`` keeps none.
        resume: continue from ``checkpoint`` if it exists.

    Raises:
        DatasetError: no row can be learned from.
        RunError: the checkpoint is damaged.
    """
    device = torch.device(device)
    seeds = range(seed, seed + members)
    scaling = fit_scaling(
        data, reward_shift=settings.value.reward_shift, reward_horizon=settings.value.reward_horizon
    )
    rows = _rows(data, scaling, device)
    value_state, bilevel_state = _create_states(data, settings, seeds, device)
    states = {"value": value_state, "bilevel": bilevel_state}
    metrics: list[Metrics] = []
    if resume and checkpoint is not None and checkpoint.exists():
        metrics += load_checkpoint(checkpoint, states)["metrics"]

    def save() -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, states, {"metrics": metrics})

    def run(phase: str, state: ValueState | BilevelState, updates: Updates, count: int) -> None:
        run_phase(
            phase,
            state,
            updates,
            updates=count,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            metrics=metrics,
            save=save,
            on_progress=on_progress,
        )

    learnable = torch.from_numpy(np.flatnonzero(data.is_learnable)).to(device)
    value_update = _value_update(rows, value_state, settings)
    value_draws = Draws(seeds, VALUE, learnable, settings.value.batch_size)
    run("value", value_state, Updates(value_update, value_draws), settings.value.updates)

    if settings.bilevel.merge_value_updates:
        update = _merged_update(rows, bilevel_state, value_state, settings)
    else:
        update = _bilevel_update(data, rows, bilevel_state, value_state, settings)
    draws = _bilevel_draws(rows, learnable, seeds, settings)
    run("bilevel", bilevel_state, Updates(update, draws), settings.bilevel.updates)
    return Training(
        scorer=_export_scorer(rows, value_state, bilevel_state, scaling, settings),
        policy=_export_policy(bilevel_state, scaling, settings),
        metrics=metrics,
    )


def _create_states(
    data: Transitions, settings: TrainSettings, seeds: Sequence[int], device: torch.device
) -> tuple[ValueState, BilevelState]:
    """Fresh states; the networks of a member depend on its seed alone."""
    d, k = data.observation_size, data.action_size
    values, critics, policies, scorers = [], [], [], []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            values.append(ValueNetwork(d, settings.value.hidden).layers)
            critics.append(TwinCritic(d, k, settings.value.hidden))
            policies.append(Policy(d, k, settings.bilevel.hidden).layers)
            scorers.append(ScorerNetwork(d, k, settings.bilevel.hidden, settings.bilevel.score_bound).layers)

    def stack(networks: Sequence[nn.Sequential]) -> StackedMLP:
        return StackedMLP.of(networks, hidden_precision=settings.matmul_precision, device=device)

    twins = [critic.first for critic in critics] + [critic.second for critic in critics]
    return (
        create_value_state(stack(values), stack(twins), settings.value),
        create_bilevel_state(stack(policies), stack(scorers), settings.bilevel),
    )


def _rows(data: Transitions, scaling: Scaling, device: torch.device) -> Rows:
    if not data.is_learnable.any():
        raise DatasetError(
            f"{data.source}: no row has a successor or a true end, there is nothing to learn values from",
            fix="store next_observation, or whole episodes",
        )

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Rows.of(
        observation=tensor(scaling.observation(data.observation)),
        action=tensor(scaling.action(data.action)),
        next_observation=tensor(scaling.observation(data.next_observation)),
        reward=tensor(scaling.reward(data.reward)),
        terminated=tensor(data.terminated),
    )


def _value_update(rows: Rows, state: ValueState, settings: TrainSettings) -> Update:
    value_update = ValueUpdate(state, settings.value)

    def update(drawn: Tensor, _: Tensor, measure: bool) -> dict[str, Tensor]:
        return value_update(rows.take(drawn), measure=measure)

    return update


def _bilevel_update(
    data: Transitions, rows: Rows, state: BilevelState, value_state: ValueState, settings: TrainSettings
) -> Update:
    """With frozen critics: Q(s, a) and the prior of every row are computed once."""
    q_value = _q_values(rows, value_state)
    standardize_by(state, q_value)
    q_input = (q_value - state.q_mean.unsqueeze(-1)) / state.q_std.unsqueeze(-1)
    inputs = torch.stack([q_input, _log_prior(data, rows, value_state, settings)], dim=-1).flatten(0, 1)
    members = torch.arange(len(q_value), device=q_value.device).unsqueeze(-1) * q_value.shape[-1]
    bilevel_update = BilevelUpdate(state, value_state.critic, settings.bilevel)

    def update(drawn: Tensor, noise: Tensor, measure: bool) -> dict[str, Tensor]:
        taken = inputs.index_select(0, (drawn + members).flatten()).view(*drawn.shape, 2)
        return bilevel_update(rows.take(drawn), taken[..., 0], taken[..., 1], noise, measure=measure)

    return update


def _merged_update(rows: Rows, state: BilevelState, value_state: ValueState, settings: TrainSettings) -> Update:
    """A value update and a bi-level update on the same minibatch; the critics never rest."""
    if state.update == 0:
        standardize_by(state, _q_values(rows, value_state))
    value_update = ValueUpdate(value_state, settings.value)
    bilevel_update = BilevelUpdate(state, value_state.critic, settings.bilevel)

    def update(drawn: Tensor, noise: Tensor, measure: bool) -> dict[str, Tensor]:
        batch = rows.take(drawn)
        metrics = value_update(batch, measure=measure)
        q_value = value_state.smaller_q(batch.pair)
        follow_critic(state, q_value)
        q_input = (q_value - state.q_mean.unsqueeze(-1)) / state.q_std.unsqueeze(-1)
        uniform = torch.zeros_like(q_input)
        return bilevel_update(batch, q_input, uniform, noise, measure=measure) | metrics

    return update


def _bilevel_draws(rows: Rows, learnable: Tensor, seeds: Sequence[int], settings: TrainSettings) -> Draws:
    merged = settings.bilevel.merge_value_updates
    every_row = torch.arange(len(rows.values), device=learnable.device)
    return Draws(
        seeds,
        BILEVEL,
        learnable if merged else every_row,
        settings.bilevel.batch_size,
        noise_width=rows.observation_size if settings.bilevel.noise_on == "state" else rows.action_size,
        deviation=partial(noise_at, settings.bilevel),
    )


def _q_values(rows: Rows, state: ValueState) -> Tensor:
    """Q(s, a) of every row by every member, (K, n)."""
    return torch.cat([state.smaller_q(chunk) for chunk in torch.split(rows.pair, CHUNK)], dim=-1)


def _values(observation: Tensor, state: ValueState) -> Tensor:
    """V(s) of every row by every member, (K, n)."""
    return torch.cat([outputs(state.value, chunk)[..., 0] for chunk in torch.split(observation, CHUNK)], dim=-1)


def _log_prior(data: Transitions, rows: Rows, state: ValueState, settings: TrainSettings) -> Tensor:
    """log rho of every row for every member, (K, n)."""
    values = _values(rows.observation, state)
    if settings.bilevel.prior == "uniform":
        return torch.zeros_like(values)
    next_values = _values(rows.next_observation, state)
    reward = rows.reward.cpu().numpy()
    priors = []
    for value, next_value in zip(values.cpu().numpy(), next_values.cpu().numpy(), strict=True):
        signal = kept_promise(
            data,
            reward,
            value,
            next_value,
            discount=settings.value.discount,
            look_ahead=settings.bilevel.look_ahead,
        )
        priors.append(log_prior_with_sample_size(signal, settings.bilevel.prior_sample_size))
    return torch.from_numpy(np.stack(priors)).to(values)


def _export_scorer(
    rows: Rows, value_state: ValueState, state: BilevelState, scaling: Scaling, settings: TrainSettings
) -> Scorer:
    scorer = Scorer(
        networks=state.scorer.clone("highest"),
        critics=value_state.critic.clone("highest"),
        values=value_state.value.clone("highest"),
        scaling=scaling,
        q_mean=state.q_mean,
        q_std=state.q_std,
        score_shift=torch.zeros_like(state.q_mean),
        score_bound=settings.bilevel.score_bound,
        activation=settings.bilevel.activation,
        provenance={"settings": settings.to_json()},
    )
    if settings.bilevel.normalize_weights:
        scorer = scorer.with_common_level(rows.observation, rows.action)
    return scorer


def _export_policy(state: BilevelState, scaling: Scaling, settings: TrainSettings) -> TrainedPolicy:
    with torch.random.fork_rng(devices=[]):  # a network draws its first parameters
        policy = Policy(len(scaling.observation_mean), len(scaling.action_low), settings.bilevel.hidden)
    state.policy.write_to(0, policy.layers)
    return TrainedPolicy(policy.to(state.policy.flat.device).eval(), scaling, settings.bilevel.hidden)
