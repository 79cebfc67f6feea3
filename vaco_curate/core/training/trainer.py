"""The whole training: value phase, bi-level phase, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaco_curate.core.advantage import TDErrors
from vaco_curate.core.batches import Rows
from vaco_curate.core.fast import native
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.forward import values_and_td_errors
from vaco_curate.core.networks import Policy
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.scaling import Scaling, fit_scaling
from vaco_curate.core.scorer import MetaScorer, Scorer
from vaco_curate.core.scratch import scratch_file
from vaco_curate.core.training.arithmetic import training_arithmetic
from vaco_curate.core.training.bilevel_update import BilevelState
from vaco_curate.core.training.checkpoint import read_facts
from vaco_curate.core.training.loop import Metrics, OnProgress, Record, Schedule, SideBySide, run_phase
from vaco_curate.core.training.members import Members
from vaco_curate.core.training.phases import BilevelPhase, ValuePhase
from vaco_curate.core.training.settings import TrainSettings
from vaco_curate.core.training.settling import TARGET_SWEEPS
from vaco_curate.core.trajectory_score import TrajectoryScore
from vaco_curate.core.transitions import Transitions, blocks
from vaco_curate.errors import DatasetError


@dataclass(frozen=True)
class Training:
    """What a training gives.

    Attributes:
        scorer: all members.
        policy: the first member's of the bi-level phase; None where that was left out.
        metrics: one row per log interval, means over the interval and the members.
    """

    scorer: Scorer
    policy: TrainedPolicy | None
    metrics: list[Metrics]


def train(
    data: Transitions,
    settings: TrainSettings,
    *,
    seed: int = 0,
    members: int = 1,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    resume: bool = False,
    scratch: Path | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Training:
    """Learn the values of a dataset, the meta-scoring network, and what makes scores of them.

    The result depends on the data, the settings, the seed, the members and the device only: a run that
    is interrupted and resumed from its checkpoint gives the same numbers as one that was not.

    Args:
        members: independent trainings, side by side; member j is the training of ``seed + j`` alone,
            except that phases end for all members at once, when the order has settled for each.
        checkpoint: file to keep the state in; ``None`` keeps none.
        resume: continue from ``checkpoint`` if it exists.
        scratch: folder to keep the rows in, in a file that goes with the process, for data larger than memory;
            None keeps them on the device. The result is the same.

    Raises:
        DatasetError: no row can be learned from.
        RunError: the checkpoint is damaged.
    """
    device = torch.device(device)
    scaling = fit_scaling(data, reward_shift=settings.value.reward_shift)
    if not data.is_learnable.any():
        raise DatasetError(
            f"{data.source}: no row has a successor or a true end, there is nothing to learn values from",
            fix="store next_observation, or whole episodes",
        )
    rows = network_rows(data, scaling, device, scratch)
    threads = torch.get_num_threads() if native.load() is not None else 1
    began = checkpoint if resume and checkpoint is not None and checkpoint.exists() else None
    with training_arithmetic():
        sizes = read_facts(began)["groups"] if began else group_sizes(members, threads, device)
        starts = [seed + sum(sizes[:number]) for number in range(len(sizes))]
        groups = [
            Members(data, rows, scaling, settings, range(start, start + size))
            for start, size in zip(starts, sizes, strict=True)
        ]
        states = {
            f"{number}.{name}": state
            for number, group in enumerate(groups)
            for name, state in group.states.items()
        }
        record = Record(states, checkpoint, {"groups": sizes}, on_progress)
        if began:
            record.resume(began)
        value, bilevel = settings.value, settings.bilevel
        often, sweeps = (settings.log_every, settings.checkpoint_every), round(TARGET_SWEEPS / value.polyak)
        with SideBySide(len(groups), threads) as side_by_side, record.saved_when_interrupted():
            schedule = Schedule(value.updates, *often, value.settled_at, first_look=sweeps)
            run_phase("value", [ValuePhase(group) for group in groups], schedule, record, side_by_side)
            if bilevel.updates:
                schedule = Schedule(bilevel.updates, *often, bilevel.settled_at, first_look=0)
                run_phase("bilevel", [BilevelPhase(group) for group in groups], schedule, record, side_by_side)
    return Training(
        scorer=_export_scorer(data, groups, scaling, settings),
        policy=_export_policy(groups[0], scaling, settings) if bilevel.updates else None,
        metrics=record.metrics,
    )


LARGEST_GROUP = 4
"""Members in a group on a CPU. More share no more of an update's costs worth sharing, and their
parameters, moments and activations no longer fit the cache together (docs/performance.md)."""


def group_sizes(members: int, threads: int, device: torch.device) -> list[int]:
    """Members that are computed together: all of them on a GPU; on a CPU a few, and a group for every core."""
    if device.type != "cpu":
        return [members]
    count = max(-(-members // LARGEST_GROUP), min(members, threads))
    return [members // count + (number < members % count) for number in range(count)]


def network_rows(
    data: Transitions, scaling: Scaling, device: torch.device, scratch: Path | None = None
) -> Rows:
    """A dataset in network units.

    Args:
        scratch: folder to keep it in, in a file that goes with the process; None keeps it on the device.
    """
    shape = len(data), 2 * data.observation_size + data.action_size + 2
    values = torch.empty(shape, device=device) if scratch is None else _mapped(scratch, shape)
    for part in blocks(len(data)):
        columns = (
            scaling.observation(data.observation[part]),
            scaling.action(data.action[part]),
            scaling.observation(data.next_observation[part]),
            scaling.reward(data.reward[part]),
            np.asarray(data.terminated[part]),
        )
        values[part] = Rows.of(*(torch.from_numpy(column).to(values.device) for column in columns)).values
    return Rows(values, data.observation_size, data.action_size, device)


def _mapped(folder: Path, shape: tuple[int, int]) -> Tensor:
    """A float32 tensor in a file that only this process knows, so that it goes with it."""
    with scratch_file(folder, 4 * shape[0] * shape[1]) as file:
        return torch.from_file(file, shared=True, size=shape[0] * shape[1]).view(shape)


def _export_scorer(
    data: Transitions, groups: Sequence[Members], scaling: Scaling, settings: TrainSettings
) -> Scorer:
    values = [group.value_state for group in groups]
    critics = StackedMLP.joined([state.critic.half(twin) for twin in (0, 1) for state in values])
    joined, discount = StackedMLP.joined([state.value for state in values]), settings.value.discount
    paths, known = Paths.of(data, LONGEST_PATH), data.is_learnable
    _, errors = values_and_td_errors(joined, scaling, discount, data, paths)
    if not _rewards_tell(data):
        errors = TDErrors(*np.zeros((2, *errors.discounted.shape)))  # V is nothing but noise
    trajectory = tuple(
        TrajectoryScore.fit(paths, of_member, known, data.terminated, sample_size=settings.sample_size)
        for of_member in errors.members()
    )
    return Scorer(
        critics=critics,
        values=joined,
        scaling=scaling,
        discount=discount,
        trajectory=trajectory,
        meta=_export_meta([group.bilevel_state for group in groups]) if settings.bilevel.updates else None,
        provenance={"settings": settings.to_json()},
    )


def _rewards_tell(data: Transitions) -> bool:
    """Whether rewards differ, or how long paths earn them until they end truly."""
    lengths = np.diff(data.path_start, append=len(data))
    return bool(np.ptp(data.reward) or (data.reward.any() and data.terminated.any() and np.ptp(lengths)))


def _export_meta(states: Sequence[BilevelState]) -> MetaScorer:
    return MetaScorer(
        StackedMLP.joined([state.scorer for state in states]),
        torch.cat([state.q_mean for state in states]),
        torch.cat([state.q_std for state in states]),
    )


def _export_policy(group: Members, scaling: Scaling, settings: TrainSettings) -> TrainedPolicy:
    with torch.random.fork_rng(devices=[]):  # a network draws its first parameters
        policy = Policy(len(scaling.observation_mean), len(scaling.action_low), settings.bilevel.hidden)
    stack = group.bilevel_state.policy
    stack.write_to(0, policy.layers)
    return TrainedPolicy(policy.to(stack.flat.device).eval(), scaling, settings.bilevel.hidden)
