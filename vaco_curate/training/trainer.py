"""The whole training: value phase, prior, bi-level phase, export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaco_curate.batches import ScoringBatch, ValueBatch
from vaco_curate.errors import DatasetError
from vaco_curate.policy import TrainedPolicy
from vaco_curate.scaling import Scaling, fit_scaling
from vaco_curate.scorer import CHUNK, Scorer
from vaco_curate.training.bilevel_phase import (
    BilevelState,
    bilevel_step,
    create_bilevel_state,
    follow_critic,
    noise_at,
)
from vaco_curate.training.checkpoint import load_checkpoint, save_checkpoint
from vaco_curate.training.loop import Metrics, OnProgress, run_phase
from vaco_curate.training.prior import kept_promise, log_prior_with_sample_size
from vaco_curate.training.settings import TrainSettings
from vaco_curate.training.threads import one_thread
from vaco_curate.training.value_phase import ValueState, create_value_state, value_step
from vaco_curate.transitions import Array, Transitions


@dataclass(frozen=True)
class Training:
    """What a training gives: the scorer, the policy it taught, and one metrics row per log interval."""

    scorer: Scorer
    policy: TrainedPolicy
    metrics: list[Metrics]


@one_thread()
def train(
    data: Transitions,
    settings: TrainSettings,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> Training:
    """Train VACO on a dataset.

    The result depends on the data, the settings, the seed and the device only: a run that is
    interrupted and resumed from its checkpoint gives the same numbers as one that was not.

    Args:
        checkpoint: file to keep the state in; ``None`` keeps none.
        resume: continue from ``checkpoint`` if it exists.

    Raises:
        DatasetError: no row can be learned from.
        RunError: the checkpoint is damaged.
    """
    device = torch.device(device)
    scaling = fit_scaling(
        data, reward_shift=settings.value.reward_shift, reward_horizon=settings.value.reward_horizon
    )
    tensors = _value_tensors(data, scaling, device)
    value_state, bilevel_state = _create_states(data, settings, seed, device)
    states = {"value": value_state, "bilevel": bilevel_state}
    metrics: list[Metrics] = []
    if resume and checkpoint is not None and checkpoint.exists():
        metrics += load_checkpoint(checkpoint, states)["metrics"]

    def save() -> None:
        if checkpoint is not None:
            save_checkpoint(checkpoint, states, {"metrics": metrics})

    def run(phase: str, state: ValueState | BilevelState, step: Step, updates: int) -> None:
        run_phase(
            phase,
            state,
            step,
            updates=updates,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            metrics=metrics,
            save=save,
            on_progress=on_progress,
        )

    learnable = tensors.take(torch.from_numpy(np.flatnonzero(data.is_learnable)).to(device))
    run("value", value_state, _value_stepper(value_state, learnable, settings), settings.value.updates)
    value_state.critic.requires_grad_(settings.bilevel.merge_value_updates)
    rows = _scoring_tensors(data, tensors, value_state, settings)
    if bilevel_state.update == 0:
        bilevel_state.q_mean.copy_(rows.q_value.mean())
        bilevel_state.q_std.copy_(rows.q_value.std(correction=min(1, len(rows) - 1)).clamp_min(1e-6))
    step = _bilevel_stepper(bilevel_state, value_state, rows, learnable, settings)
    run("bilevel", bilevel_state, step, settings.bilevel.updates)
    return Training(
        scorer=_export_scorer(value_state, bilevel_state, scaling, settings),
        policy=TrainedPolicy(bilevel_state.policy.eval(), scaling, settings.bilevel.hidden),
        metrics=metrics,
    )


Step = Callable[[int], dict[str, Tensor]]


def _create_states(
    data: Transitions, settings: TrainSettings, seed: int, device: torch.device
) -> tuple[ValueState, BilevelState]:
    """Fresh states; each phase draws from a generator of its own, so neither shifts the other."""
    value_generator = torch.Generator(device).manual_seed(2 * seed)
    bilevel_generator = torch.Generator(device).manual_seed(2 * seed + 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (data.observation_size, data.action_size)
        return (
            create_value_state(*sizes, settings.value, value_generator),
            create_bilevel_state(*sizes, settings.bilevel, bilevel_generator),
        )


def _value_tensors(data: Transitions, scaling: Scaling, device: torch.device) -> ValueBatch:
    if not data.is_learnable.any():
        raise DatasetError(
            f"{data.source}: no row has a successor or a true end, there is nothing to learn values from",
            fix="store next_observation, or whole episodes",
        )

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(values).to(device)

    return ValueBatch(
        observation=tensor(scaling.observation(data.observation)),
        action=tensor(scaling.action(data.action)),
        reward=tensor(scaling.reward(data.reward)),
        terminated=tensor(data.terminated),
        next_observation=tensor(scaling.observation(data.next_observation)),
    )


def _value_stepper(state: ValueState, data: ValueBatch, settings: TrainSettings) -> Step:
    def step(_: int) -> dict[str, Tensor]:
        batch = data.sample(settings.value.batch_size, state.generator)
        return value_step(state, batch, settings.value)

    return step


def _bilevel_stepper(
    state: BilevelState,
    value_state: ValueState,
    rows: ScoringBatch,
    learnable: ValueBatch,
    settings: TrainSettings,
) -> Step:
    value_update = _value_stepper(value_state, learnable, settings)

    def step(update: int) -> dict[str, Tensor]:
        batch = rows.sample(settings.bilevel.batch_size, state.generator)
        extra: dict[str, Tensor] = {}
        if settings.bilevel.merge_value_updates:
            extra = value_update(update)
            with torch.no_grad():
                q_value = value_state.critic(batch.observation, batch.action).amin(dim=0)
            follow_critic(state, q_value)
            batch = replace(batch, q_value=q_value)
        noise = noise_at(settings.bilevel, update)
        return bilevel_step(state, value_state.critic, batch, settings.bilevel, noise) | extra

    return step


@torch.no_grad()
def _scoring_tensors(
    data: Transitions, tensors: ValueBatch, state: ValueState, settings: TrainSettings
) -> ScoringBatch:
    """Q of the frozen critics and the log prior, once for the whole dataset."""
    rows = torch.arange(len(tensors), device=tensors.reward.device)
    chunks = [tensors.take(part) for part in torch.split(rows, CHUNK)]
    q_value = torch.cat([state.critic(chunk.observation, chunk.action).amin(dim=0) for chunk in chunks])
    log_prior = torch.zeros_like(q_value)
    if settings.bilevel.prior == "promise":
        signal = kept_promise(
            data,
            tensors.reward.cpu().numpy(),
            torch.cat([state.value(chunk.observation) for chunk in chunks]).cpu().numpy(),
            torch.cat([state.value(chunk.next_observation) for chunk in chunks]).cpu().numpy(),
            discount=settings.value.discount,
            look_ahead=settings.bilevel.look_ahead,
        )
        log_rho = log_prior_with_sample_size(signal, settings.bilevel.prior_sample_size)
        log_prior = torch.from_numpy(log_rho).to(q_value)
    return ScoringBatch(tensors.observation, tensors.action, q_value, log_prior)


def _export_scorer(
    value_state: ValueState, bilevel_state: BilevelState, scaling: Scaling, settings: TrainSettings
) -> Scorer:
    return Scorer(
        network=bilevel_state.scorer.eval(),
        critic=value_state.critic.eval(),
        value=value_state.value.eval(),
        scaling=scaling,
        q_mean=bilevel_state.q_mean.item(),
        q_std=bilevel_state.q_std.item(),
        activation=settings.bilevel.activation,
        hidden=(settings.value.hidden, settings.bilevel.hidden),
        provenance={"settings": settings.to_json()},
    )
