"""Behavior cloning on weighted data: VACO's lower level with the weights held fixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vaco_curate.losses import cloning_errors
from vaco_curate.networks import Policy
from vaco_curate.policy import TrainedPolicy
from vaco_curate.scaling import Scaling
from vaco_curate.training.optim import adam, descend
from vaco_curate.training.threads import one_thread
from vaco_curate.transitions import Array, Transitions


@dataclass(frozen=True)
class CloningSettings:
    """Defaults are the paper's policy network and learning rate."""

    updates: int = 20_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    hidden: tuple[int, ...] = (256, 256)


@one_thread()
def clone_policy(
    data: Transitions,
    weight: Array,
    scaling: Scaling,
    settings: CloningSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> TrainedPolicy:
    """Clone the weighted data.

    Rows are drawn in proportion to their weight rather than multiplied by it: the expected gradient
    is that of VACO's Eq. 7, with less variance when few rows carry the weight.

    Args:
        weight: (n,) non-negative; only ratios matter.
        scaling: the run's, so that all policies of a comparison see the same inputs.
    """
    device = torch.device(device)
    rows = weight > 0
    observation = torch.from_numpy(scaling.observation(data.observation[rows])).to(device)
    action = torch.from_numpy(scaling.action(data.action[rows])).to(device)
    share = torch.from_numpy(weight[rows].cumsum()).to(device)
    share /= share[-1].clone()
    generator = torch.Generator(device).manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = Policy(data.observation_size, data.action_size, settings.hidden).to(device)
    optimizer = adam(policy, settings.learning_rate)
    for _ in range(settings.updates):
        draws = torch.rand(settings.batch_size, generator=generator, device=device, dtype=share.dtype)
        batch = torch.searchsorted(share, draws).clamp_max(len(share) - 1)
        errors = cloning_errors(policy(observation.index_select(0, batch)), action.index_select(0, batch))
        descend(optimizer, errors.mean())
    return TrainedPolicy(policy.eval(), scaling, settings.hidden)
