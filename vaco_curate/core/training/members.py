"""Members that are computed together: their networks, and what both phases read of the data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.passes import forward_only
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.forward import ChunkPass, by_chunks, height_for
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.training.bilevel_update import BilevelState, create_bilevel_state
from vaco_curate.core.training.settings import TrainSettings
from vaco_curate.core.training.settling import SAMPLE_ROWS, Settling
from vaco_curate.core.training.value_update import ValueState, create_value_state
from vaco_curate.core.transitions import Transitions


class Members:
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
        watched = len(self.watched)
        self.value_settling = Settling.new(len(seeds), 2, watched, self.device)
        self.bilevel_settling = Settling.new(len(seeds), 1, watched, self.device)

    @property
    def states(self) -> dict[str, Any]:
        """Everything that training changes, by name."""
        return {
            "value": self.value_state,
            "bilevel": self.bilevel_state,
            "value_settling": self.value_settling,
            "bilevel_settling": self.bilevel_settling,
        }

    def __len__(self) -> int:
        """Rows of the dataset."""
        return len(self.rows.values)

    @property
    def device(self) -> torch.device:
        """Of the training."""
        return self.rows.device

    @cached_property
    def watched_paths(self) -> Paths:
        """Paths whose rows' order tells when a phase may end."""
        return Paths.of(self.data, LONGEST_PATH).drawn(SAMPLE_ROWS)

    @cached_property
    def watched(self) -> Tensor:
        """Their rows."""
        return torch.from_numpy(self.watched_paths.rows()).to(self.device)

    def q_values(self) -> Tensor:
        """Q(s, a) of every row by every member, (K, n), on the training device."""
        critics, pair = self.value_state.critic, self.rows.pair
        height = height_for(self.device, critics.members)

        def prepare() -> ChunkPass:
            pairs = pair.new_zeros(1, height, pair.shape[-1], device=self.device)
            network = forward_only(critics, height)

            def one_pass(rows: slice) -> Tensor:
                pairs[:, : rows.stop - rows.start] = pair[rows]
                return torch.minimum(*network.forward(pairs)[..., 0].chunk(2))

            return one_pass

        return torch.from_numpy(by_chunks(len(self), height, prepare, critics.flat)).to(self.device)


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
