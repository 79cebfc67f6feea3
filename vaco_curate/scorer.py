"""``Scorer``: the exported meta-scoring networks with all they need to score raw transitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaco_curate import native
from vaco_curate.artifacts import load_facts, load_tensors, save_artifact
from vaco_curate.errors import DatasetError
from vaco_curate.losses import LOG_WEIGHT
from vaco_curate.networks import bounded
from vaco_curate.passes import forward_only
from vaco_curate.scaling import Scaling
from vaco_curate.stacked import StackedMLP, float32_products
from vaco_curate.transitions import Array

CHUNK = 1024
"""Rows per forward pass. Fixed, and the last chunk is padded to it: a matrix product of another
height may round differently, and the score of a row must not depend on its neighbors. So chosen that
the activations of a pass stay in the processor's cache (docs/performance.md)."""

KIND = "vaco-curate scorer"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class RowScores:
    """What the scorer says of each row, all (n,) float32.

    Attributes:
        score: output of the meta-scoring network, mean over the members.
        score_std: standard deviation of the members' scores; NaN where there is one member.
        q_value: Q(s, a), the smaller of the twin critics, mean over the members, in reward units of
            the dataset (of the shifted rewards, where training shifts them).
        advantage: Q(s, a) - V(s), likewise.
    """

    score: Array
    score_std: Array
    q_value: Array
    advantage: Array


@dataclass(frozen=True)
class Scorer:
    """Scores raw transitions of the observation and action sizes it was trained on.

    Attributes:
        networks: meta-scoring networks on (s, a, Q(s, a)), one for each of K members.
        critics, values: the networks of the value phase, frozen: 2 K (the first critic of every member,
            then the second) and K.
        scaling: raw units to network units.
        q_mean, q_std: (K,), standardize Q for the meta-scoring network, in scaled reward units.
        score_shift: (K,), added to a member's score. Normalized weights are free of a common factor,
            hence each member's scores of a constant; the shift gives all members the same mean.
        score_bound: largest absolute output of a meta-scoring network, if any.
        activation: how a weight follows from a score, a key of ``losses.LOG_WEIGHT``.
        provenance: dataset, settings, seed, versions; for readers, not used.
    """

    networks: StackedMLP
    critics: StackedMLP
    values: StackedMLP
    scaling: Scaling
    q_mean: Tensor
    q_std: Tensor
    score_shift: Tensor
    score_bound: float | None
    activation: str
    provenance: dict[str, Any]

    @property
    def members(self) -> int:
        """K."""
        return self.networks.members

    @property
    def observation_size(self) -> int:
        """d that the networks take."""
        return len(self.scaling.observation_mean)

    @property
    def action_size(self) -> int:
        """k that the networks take."""
        return len(self.scaling.action_low)

    def score(self, observation: Array, action: Array, *, first_row: int = 0) -> RowScores:
        """Score raw rows.

        Args:
            observation: (n, d), as stored in a dataset.
            action: (n, k), as stored in a dataset.
            first_row: number of the first of them in their dataset, for messages.

        Raises:
            DatasetError: the sizes are not those of the training data, or a number is not finite.
        """
        self._check_sizes(observation, action)
        self._check_finite(observation, action, first_row)
        threads = torch.get_num_threads() if native.usable(self.networks.flat) else 1
        share = max(1, -(-len(observation) // (CHUNK * threads))) * CHUNK
        starts = range(0, max(len(observation), 1), share)
        pieces = [(observation[start : start + share], action[start : start + share]) for start in starts]
        with float32_products(), ThreadPoolExecutor(len(pieces)) as pool:
            parts = [part for piece in pool.map(self._score_piece, pieces) for part in piece]
        score, score_std, q_value, advantage = np.concatenate([np.empty((4, 0), np.float32), *parts], axis=1)
        in_reward_units = np.stack([q_value, advantage]) / self.scaling.reward_scale
        finite = np.isfinite(score) & np.isfinite(in_reward_units).all(axis=0)
        if not finite.all():
            raise DatasetError(
                f"the score of row {first_row + int(np.flatnonzero(~finite)[0])} is not finite",
                fix="the training diverged: lower the learning rates or check the rewards with 'inspect'",
            )
        return RowScores(score, score_std, *in_reward_units)

    def log_weight(self, score: Array) -> Array:
        """log w of the given scores, (n,) float64."""
        return LOG_WEIGHT[self.activation](torch.from_numpy(score.astype(np.float64))).numpy()

    def with_common_level(self, observation: Tensor, action: Tensor) -> Scorer:
        """A scorer whose members have the same mean score on the given rows, in network units.

        The level is the mean of the members'; with one member nothing changes.
        """
        chunks = zip(torch.split(observation, CHUNK), torch.split(action, CHUNK), strict=True)
        with float32_products():
            sums = sum(scores.sum(dim=-1, dtype=torch.float64) for scores, _, _ in self._passes(chunks))
        assert isinstance(sums, Tensor)
        level = sums / len(observation)
        return dataclasses.replace(self, score_shift=(level.mean() - level).to(self.score_shift.dtype))

    def _score_piece(self, piece: tuple[Array, Array]) -> list[Array]:
        """(4, rows) for every chunk of some raw rows, on one thread."""
        return [_summary(*passed) for passed in self._passes(self._scaled(*piece))]

    def _scaled(self, observation: Array, action: Array) -> Iterator[tuple[Tensor, Tensor]]:
        """Raw rows in network units, ``CHUNK`` at a time."""
        for start in range(0, len(observation), CHUNK):
            rows = slice(start, start + CHUNK)
            yield (
                torch.from_numpy(self.scaling.observation(observation[rows])),
                torch.from_numpy(self.scaling.action(action[rows])),
            )

    def _passes(self, chunks: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(scores, Q(s, a), V(s)) of every chunk by every member, (K, rows) each.

        Args:
            chunks: observations (rows, d) and actions (rows, k) in network units, at most ``CHUNK`` rows each.
        """
        d, members = self.observation_size, self.members
        features = self.networks.flat.new_zeros(members, CHUNK, self.networks.sizes[0])
        pairs = features[..., :-1]
        twins = self.critics.flat.new_zeros(2, members, CHUNK, self.critics.sizes[0])
        critics, networks, values = (
            forward_only(stack, CHUNK) for stack in (self.critics, self.networks, self.values)
        )
        for observation, action in chunks:
            count = len(observation)
            pairs[:, :count, :d] = observation
            pairs[:, :count, d:] = action
            twins.copy_(pairs)
            q_value = critics.forward(twins.flatten(0, 1)).view(2, members, -1).amin(dim=0)
            features[..., -1] = (q_value - self.q_mean.unsqueeze(-1)) / self.q_std.unsqueeze(-1)
            output = networks.forward(features)[..., 0]
            value = values.forward(pairs[..., :d])[..., 0]
            score = bounded(output, self.score_bound) + self.score_shift.unsqueeze(-1)
            yield score[:, :count], q_value[:, :count], value[:, :count]

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

    def _check_finite(self, observation: Array, action: Array, first_row: int) -> None:
        for name, values in (("observation", observation), ("action", action)):
            finite = np.isfinite(values).all(axis=1)
            if not finite.all():
                row = first_row + int(np.flatnonzero(~finite)[0])
                raise DatasetError(
                    f"{name} of row {row} holds NaN or infinity", fix="repair or leave out the row"
                )

    def save(self, folder: Path) -> None:
        """Write ``scorer.safetensors`` and ``scorer.json`` to the folder."""
        facts = {
            "kind": KIND,
            "schema_version": SCHEMA_VERSION,
            "inputs": {"observation": self.observation_size, "action": self.action_size},
            "members": self.members,
            "activation": self.activation,
            "score_bound": self.score_bound,
            "hidden": {"values": self.values.sizes[1:-1], "scorer": self.networks.sizes[1:-1]},
            "scaling": self.scaling.to_json(),
            "provenance": self.provenance,
        }
        save_artifact(folder, "scorer", self._tensors(), facts)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Scorer:
        """Read what ``save`` wrote.

        Raises:
            RunError: a file is missing or damaged.
        """
        facts = load_facts(folder, "scorer", KIND, SCHEMA_VERSION)
        scaling = Scaling.from_json(facts["scaling"])
        d, k, members = len(scaling.observation_mean), len(scaling.action_low), facts["members"]
        hidden = facts["hidden"]
        scorer = cls(
            networks=StackedMLP(members, (d + k + 1, *hidden["scorer"], 1), device=device),
            critics=StackedMLP(2 * members, (d + k, *hidden["values"], 1), device=device),
            values=StackedMLP(members, (d, *hidden["values"], 1), device=device),
            scaling=scaling,
            q_mean=torch.zeros(members, device=device),
            q_std=torch.zeros(members, device=device),
            score_shift=torch.zeros(members, device=device),
            score_bound=facts["score_bound"],
            activation=facts["activation"],
            provenance=facts["provenance"],
        )
        load_tensors(folder, "scorer", scorer._tensors())
        return scorer

    def _tensors(self) -> dict[str, Tensor]:
        stacks = {"scorer": self.networks, "critic": self.critics, "value": self.values}
        named = {f"{part}.{key}": t for part, stack in stacks.items() for key, t in stack.tensors().items()}
        return named | {"q_mean": self.q_mean, "q_std": self.q_std, "score_shift": self.score_shift}


def _summary(scores: Tensor, q_values: Tensor, values: Tensor) -> Array:
    """(4, rows): mean and deviation of the score, mean of Q and of the advantage over the members."""
    members = len(scores)
    deviation = scores.std(dim=0) if members > 1 else torch.full_like(scores[0], torch.nan)
    advantages = (q_values - values).mean(dim=0)
    return torch.stack([scores.mean(dim=0), deviation, q_values.mean(dim=0), advantages]).cpu().numpy()
