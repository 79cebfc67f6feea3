"""Behavior cloning on weighted data: VACO's lower level with the weights held fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaco_curate.arguments import real_number, whole_number
from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.networks import Policy
from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.training.arithmetic import training_arithmetic
from vaco_curate.core.training.draws import DRAWN_UPDATES, Draws, cumulative_shares
from vaco_curate.core.training.loop import Updates
from vaco_curate.core.training.optim import Adam
from vaco_curate.core.training.trainer import network_rows
from vaco_curate.core.training.updates import cloning_update
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.store.progress import advance

TOLD_EVERY = 20 * DRAWN_UPDATES
"""Updates between words on progress: whole blocks of draws."""


@dataclass(frozen=True)
class CloningSettings:
    """Defaults are the paper's policy network and learning rate.

    Attributes:
        updates: of every policy.
        batch_size: rows of an update.
        learning_rate: of the first update; it falls to 0 along a half cosine, as IQL's policy has it
            (Kostrikov et al. 2022, appendix B). Which of the last batches came last then matters little,
            and clones of several seeds earn more alike.
        hidden: units of each hidden layer.
    """

    updates: int = 20_000
    batch_size: int = 256
    learning_rate: float = 3e-4
    hidden: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size"):
            object.__setattr__(self, name, whole_number(getattr(self, name), f"--{name.replace('_', '-')}", 1))
        object.__setattr__(self, "learning_rate", real_number(self.learning_rate, "--learning-rate"))


class Cloning(Updates):
    """Updates of the lower level whose weights act on the draw."""

    def __init__(self, draws: Draws, policies: StackedMLP, settings: CloningSettings) -> None:
        super().__init__(draws)
        self.settings, self.optimizer = settings, Adam([policies], settings.learning_rate)
        self.step = cloning_update(policies, self.optimizer, settings.batch_size)
        self._alike = policies.flat.new_ones(policies.members, settings.batch_size)

    def before(self, update: int) -> None:
        """As ``Updates.before``: set the learning rate."""
        rate = falling_rate(self.settings.learning_rate, update, self.settings.updates)
        self.optimizer.learning_rate.fill_(rate)

    def update(self, number: int, measure: bool) -> dict[str, Tensor]:
        """As ``Updates.update``."""
        batch = self.draws.batches[number]
        predicted = self.step(batch.observation, batch.action, self._alike)
        return {"cloning_loss": (predicted - batch.action).square().sum(-1).mean(-1)} if measure else {}


@training_arithmetic()
def clone_policies(
    data: Transitions,
    weights: Array,
    scaling: Scaling,
    settings: CloningSettings,
    *,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    scratch: Path | None = None,
) -> list[TrainedPolicy]:
    """Clone weighted data, K times side by side.

    Rows are drawn in proportion to their weight rather than multiplied by it: the expected gradient
    is that of VACO's Eq. 7, with less variance when few rows carry the weight. A clone depends on its weights
    and its seed alone.

    Args:
        weights: (K, n) non-negative; only ratios matter.
        scaling: the run's, so that all policies of a comparison see the same inputs.
        seeds: one for each of K clones.
        scratch: as for ``network_rows``.
    """
    device = torch.device(device)
    rows = network_rows(data, scaling, device, scratch)
    policies = fresh_policies(rows, settings.hidden, seeds, "highest")
    shares = cumulative_shares(torch.from_numpy(np.asarray(weights)).to(device))
    everything = torch.arange(len(data), device=device)
    draws = Draws(rows, seeds, 0, everything, settings.batch_size, shares=shares)
    cloning = Cloning(draws, policies, settings)
    for first in range(0, settings.updates, TOLD_EVERY):
        last = min(first + TOLD_EVERY, settings.updates)
        cloning.run(first, last)
        advance(last - first)
    return [trained_policy(policies, member, scaling, settings.hidden) for member in range(len(seeds))]


def fresh_policies(
    rows: Rows, hidden: Sequence[int], seeds: Sequence[int], hidden_precision: str
) -> StackedMLP:
    """Untrained policies; each depends on its seed alone."""
    networks = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)
            networks.append(Policy(rows.observation_size, rows.action_size, hidden).layers)
    return StackedMLP.of(networks, hidden_precision=hidden_precision, device=rows.device)


def falling_rate(learning_rate: float, update: int, updates: int) -> float:
    """The learning rate of an update: from ``learning_rate`` to 0 along a half cosine."""
    return learning_rate * (1.0 + math.cos(math.pi * update / updates)) / 2


def trained_policy(
    policies: StackedMLP, member: int, scaling: Scaling, hidden: tuple[int, ...]
) -> TrainedPolicy:
    """One member of a stack, with its scaling."""
    with torch.random.fork_rng(devices=[]):  # a network draws its first parameters
        network = Policy(policies.sizes[0], policies.sizes[-1], hidden)
    policies.write_to(member, network.layers)
    return TrainedPolicy(network.to(policies.flat.device).eval(), scaling, hidden)
