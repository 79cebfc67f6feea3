"""Behavior cloning on weighted data: VACO's lower level with the weights held fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vaco_curate.networks import Policy
from vaco_curate.policy import TrainedPolicy
from vaco_curate.scaling import Scaling
from vaco_curate.stacked import StackedMLP
from vaco_curate.training.arithmetic import training_arithmetic
from vaco_curate.training.lower_level import CloningUpdate
from vaco_curate.training.optim import Adam
from vaco_curate.transitions import Array, Transitions


@dataclass(frozen=True)
class CloningSettings:
    """Defaults are the paper's policy network and learning rate.

    Attributes:
        learning_rate: of the first update; it falls to 0 along a half cosine, as IQL's policy has it
            (Kostrikov et al. 2022, appendix B). Which of the last batches came last then matters little,
            and clones of several seeds earn more alike.
    """

    updates: int = 20_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    hidden: tuple[int, ...] = (256, 256)


@training_arithmetic()
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
        network = Policy(data.observation_size, data.action_size, settings.hidden)
    policy = StackedMLP.of([network.layers], device=device)
    optimizer = Adam([policy], settings.learning_rate)
    clone = CloningUpdate(policy, optimizer, settings.batch_size)
    alike = torch.ones(1, settings.batch_size, device=device)
    for update in range(settings.updates):
        optimizer.learning_rate = (
            settings.learning_rate * (1.0 + math.cos(math.pi * update / settings.updates)) / 2
        )
        draws = torch.rand(settings.batch_size, generator=generator, device=device, dtype=share.dtype)
        batch = torch.searchsorted(share, draws).clamp_max(len(share) - 1)
        clone(observation.index_select(0, batch)[None], action.index_select(0, batch)[None], alike)
    policy.write_to(0, network.layers)
    return TrainedPolicy(network.to(device).eval(), scaling, settings.hidden)
