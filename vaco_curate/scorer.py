"""``Scorer``: the exported meta-scoring network with all it needs to score raw transitions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaco_curate.artifacts import load_facts, load_networks, save_networks
from vaco_curate.errors import DatasetError
from vaco_curate.losses import LOG_WEIGHT
from vaco_curate.networks import ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.scaling import Scaling
from vaco_curate.transitions import Array

CHUNK = 4096
"""Rows per forward pass. Fixed, and the last chunk is padded to it: a matrix product of another
height may round differently, and the score of a row must not depend on its neighbors."""

KIND = "vaco-curate scorer"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RowScores:
    """What the scorer says of each row, all (n,).

    Attributes:
        score: output of the meta-scoring network, float32.
        q_value: Q(s, a), the smaller of the twin critics, float32, in reward units of the dataset (of
            the shifted rewards, where training shifts them).
        advantage: Q(s, a) - V(s), likewise.
    """

    score: Array
    q_value: Array
    advantage: Array


@dataclass(frozen=True)
class Scorer:
    """Scores raw transitions of the observation and action sizes it was trained on.

    Attributes:
        network: meta-scoring network on (s, a, Q(s, a)).
        critic, value: the networks of the value phase, frozen.
        scaling: raw units to network units.
        q_mean, q_std: standardize Q for the meta-scoring network, in scaled reward units.
        activation: how a weight follows from a score, a key of ``losses.LOG_WEIGHT``.
        hidden: layer sizes of (value phase, scorer).
        provenance: dataset, settings, seed, versions; for readers, not used.
    """

    network: ScorerNetwork
    critic: TwinCritic
    value: ValueNetwork
    scaling: Scaling
    q_mean: float
    q_std: float
    activation: str
    hidden: tuple[tuple[int, ...], tuple[int, ...]]
    provenance: dict[str, Any]

    @property
    def observation_size(self) -> int:
        """d that the networks take."""
        return len(self.scaling.observation_mean)

    @property
    def action_size(self) -> int:
        """k that the networks take."""
        return len(self.scaling.action_low)

    def score(self, observation: Array, action: Array) -> RowScores:
        """Score raw rows.

        Args:
            observation: (n, d), as stored in a dataset.
            action: (n, k), as stored in a dataset.

        Raises:
            DatasetError: the sizes are not those of the training data, or a result is not finite.
        """
        self._check_sizes(observation, action)
        device = next(self.network.parameters()).device
        parts = [
            self._score_chunk(observation[start : start + CHUNK], action[start : start + CHUNK], device)
            for start in range(0, len(observation), CHUNK)
        ]
        score, q_value, advantage = np.concatenate(parts, axis=1)
        in_reward_units = np.stack([q_value, advantage]) / self.scaling.reward_scale
        finite = np.isfinite(score) & np.isfinite(in_reward_units).all(axis=0)
        if not finite.all():
            raise DatasetError(
                f"the score of row {int(np.flatnonzero(~finite)[0])} is not finite",
                fix="the training diverged: lower the learning rates or check the rewards with 'inspect'",
            )
        return RowScores(score, *in_reward_units)

    def log_weight(self, score: Array) -> Array:
        """log w of the given scores, (n,) float64."""
        return LOG_WEIGHT[self.activation](torch.from_numpy(score.astype(np.float64))).numpy()

    @torch.no_grad()
    def _score_chunk(self, observation: Array, action: Array, device: torch.device) -> Array:
        count = len(observation)
        padding = ((0, CHUNK - count), (0, 0))
        s = torch.from_numpy(np.pad(self.scaling.observation(observation), padding)).to(device)
        a = torch.from_numpy(np.pad(self.scaling.action(action), padding)).to(device)
        q_value: Tensor = self.critic(s, a).amin(dim=0)
        score = self.network(s, a, (q_value - self.q_mean) / self.q_std)
        return torch.stack([score, q_value, q_value - self.value(s)])[:, :count].cpu().numpy()

    def _check_sizes(self, observation: Array, action: Array) -> None:
        given = (observation.shape[1], action.shape[1])
        if given != (self.observation_size, self.action_size):
            raise DatasetError(
                "the scorer was trained on vectors of other sizes",
                details=(
                    f"scorer:  observation {self.observation_size}, action {self.action_size}",
                    f"dataset: observation {given[0]}, action {given[1]}",
                ),
                fix="apply a scorer trained on this kind of data, or train one: vaco-curate score DATASET",
            )

    def save(self, folder: Path) -> None:
        """Write ``scorer.safetensors`` and ``scorer.json`` to the folder."""
        facts = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "inputs": {"observation": self.observation_size, "action": self.action_size},
            "activation": self.activation,
            "score_bound": self.network.bound,
            "hidden": self.hidden,
            "q_mean": self.q_mean,
            "q_std": self.q_std,
            "scaling": self.scaling.to_json(),
            "provenance": self.provenance,
        }
        networks = {"scorer": self.network, "critic": self.critic, "value": self.value}
        save_networks(folder, "scorer", networks, facts)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Scorer:
        """Read what ``save`` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        facts = load_facts(folder, "scorer", KIND, SCHEMA_VERSION)
        scaling = Scaling.from_json(facts["scaling"])
        d, k = len(scaling.observation_mean), len(scaling.action_low)
        value_hidden, scorer_hidden = (tuple(sizes) for sizes in facts["hidden"])
        network = ScorerNetwork(d, k, scorer_hidden, facts["score_bound"])
        critic, value = TwinCritic(d, k, value_hidden), ValueNetwork(d, value_hidden)
        load_networks(folder, "scorer", {"scorer": network, "critic": critic, "value": value})
        return cls(
            network=network.to(device).eval(),
            critic=critic.to(device).eval(),
            value=value.to(device).eval(),
            scaling=scaling,
            q_mean=facts["q_mean"],
            q_std=facts["q_std"],
            activation=facts["activation"],
            hidden=(value_hidden, scorer_hidden),
            provenance=facts["provenance"],
        )
