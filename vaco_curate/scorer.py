"""``Scorer``: the exported meta-scoring networks with all they need to score raw transitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from vaco_curate import native
from vaco_curate.advantage import Persistence, td_errors
from vaco_curate.artifacts import load_facts, load_tensors, save_artifact
from vaco_curate.errors import DatasetError
from vaco_curate.losses import LOG_WEIGHT
from vaco_curate.networks import bounded, scorer_inputs
from vaco_curate.passes import forward_only
from vaco_curate.paths import LONGEST_PATH, Paths
from vaco_curate.prior import OF_MEMBERS, Prior
from vaco_curate.scaling import Scaling
from vaco_curate.stacked import StackedMLP, float32_products
from vaco_curate.transitions import Array, Transitions

CHUNK = 1024
"""Rows per forward pass. Fixed, and the last chunk is padded to it: a matrix product of another
height may round differently, and the score of a row must not depend on its neighbors. So chosen that
the activations of a pass stay in the processor's cache (docs/performance.md)."""

Result = TypeVar("Result")

KIND = "vaco-curate scorer"
SCHEMA_VERSION = 5


@dataclass(frozen=True)
class RowScores:
    """What the scorer says of each row, all (n,) float32.

    Attributes:
        score: log weight, up to a constant: mean over the members.
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

    The score of a row is its log weight, log rho + log w(s, a, Q(s, a)): the prior, where training had one,
    made of the advantage of the trajectory around the row, and what the meta-scoring network makes of it.

    Attributes:
        networks: meta-scoring networks on (s, a, Q(s, a)), one for each of K members.
        critics, values: the networks of the value phase, frozen: 2 K (the first critic of every member,
            then the second) and K.
        scaling: raw units to network units.
        q_mean, q_std, value_mean, value_std: (K,), standardize Q and V for the meta-scoring network, in scaled
            reward units.
        inputs: what it sees, of ``networks.SCORER_INPUTS``.
        score_shift: (K,), added to a member's score. Normalized weights are free of a common factor,
            hence each member's scores of a constant; the shift gives all members the same mean.
        score_bound: largest absolute output of a meta-scoring network, if any.
        activation: how log w follows from that output, a key of ``losses.LOG_WEIGHT``.
        prior: of all members; None where training had a uniform one.
        provenance: dataset, settings, seed, versions; for readers, not used.
    """

    networks: StackedMLP
    critics: StackedMLP
    values: StackedMLP
    scaling: Scaling
    q_mean: Tensor
    q_std: Tensor
    value_mean: Tensor
    value_std: Tensor
    inputs: tuple[str, ...]
    score_shift: Tensor
    score_bound: float | None
    activation: str
    prior: Prior | None
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

    def score(self, data: Transitions) -> RowScores:
        """Score all rows of a dataset, or of a piece of one.

        A score depends on the row and, where there is a prior, on the path that it is part of: a part of a
        dataset gets the scores of the whole where it holds whole episodes.

        Raises:
            DatasetError: the sizes are not those of the training data, or a score is not finite.
        """
        self._check_sizes(data)
        with float32_products():
            parts = self._scored(data, _summary)
        score, score_std, q_value, advantage = np.concatenate([np.empty((4, 0), np.float32), *parts], axis=1)
        in_reward_units = np.stack([q_value, advantage]) / self.scaling.reward_scale
        finite = np.isfinite(score) & np.isfinite(in_reward_units).all(axis=0)
        if not finite.all():
            raise DatasetError(
                f"the score of row {data.first_row + int(np.flatnonzero(~finite)[0])} is not finite",
                fix="the training diverged: lower the learning rates or check the rewards with 'inspect'",
            )
        return RowScores(score, score_std, *in_reward_units)

    def with_common_level(self, data: Transitions) -> Scorer:
        """A scorer whose members have the same mean score on a dataset: the mean of the members'.

        With one member nothing changes.
        """
        with float32_products():
            sums = self._scored(data, lambda scores, *_: scores.sum(dim=-1, dtype=torch.float64))
        level = torch.stack(sums).sum(dim=0) / len(data)
        return dataclasses.replace(self, score_shift=(level.mean() - level).to(self.score_shift.dtype))

    def _scored(self, data: Transitions, reduce: Callable[[Tensor, Tensor, Tensor], Result]) -> list[Result]:
        """What ``reduce`` makes of (scores, Q(s, a), V(s)), (K, rows) each, ``CHUNK`` rows at a time."""
        log_rho = self._log_rho(data)
        by_library, of_torch = native.usable(self.networks.flat), torch.get_num_threads()
        threads = of_torch if by_library else 1
        share = max(1, -(-len(data) // (CHUNK * threads))) * CHUNK
        pieces = [slice(start, start + share) for start in range(0, len(data), share)]

        def work(rows: slice) -> list[Result]:
            return [reduce(*passed) for passed in self._passes(data, rows, log_rho)]

        alone = partial(torch.set_num_threads, 1) if by_library else None  # a thread of ours is a core's
        try:
            with ThreadPoolExecutor(len(pieces), initializer=alone) as pool:
                return [result for results in pool.map(work, pieces) for result in results]
        finally:
            torch.set_num_threads(of_torch)  # of threads that begin later, which the last word decides

    def _log_rho(self, data: Transitions) -> Tensor | None:
        """log rho of every row by every member, (K, n)."""
        prior = self.prior
        if prior is None:
            return None
        paths = Paths.of(data, LONGEST_PATH)
        value, last_value = self._values(data.observation), self._values(data.next_observation[paths.last])
        next_value = np.stack([paths.next_values(*each) for each in zip(value, last_value, strict=True)])
        reward = self.scaling.reward(data.reward).astype(np.float64)
        errors = td_errors(reward, value, next_value, data.terminated, discount=prior.discount)
        return torch.from_numpy(prior.log_rho(paths, errors, data.is_learnable)).to(self.networks.flat)

    def _values(self, observation: Array) -> Array:
        """V by every member, (K, n) float32, of raw states, (n, d)."""
        states = self.networks.flat.new_zeros(self.members, CHUNK, self.observation_size)
        values = forward_only(self.values, CHUNK)
        found = np.empty((self.members, len(observation)), np.float32)
        for start in range(0, len(observation), CHUNK):
            chunk = torch.from_numpy(self.scaling.observation(observation[start : start + CHUNK]))
            states[:, : len(chunk)] = chunk
            found[:, start : start + CHUNK] = values.forward(states)[..., 0][:, : len(chunk)].cpu().numpy()
        return found

    def _passes(
        self, data: Transitions, rows: slice, log_rho: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(scores, Q(s, a), V(s)) of some rows, ``CHUNK`` at a time; good until the next."""
        d, members = self.observation_size, self.members
        features = self.networks.flat.new_zeros(members, CHUNK, self.networks.sizes[0])
        pairs = self.critics.flat.new_zeros(members, CHUNK, self.critics.sizes[0])
        twins = self.critics.flat.new_zeros(2, members, CHUNK, self.critics.sizes[0])
        critics, networks, values = (
            forward_only(stack, CHUNK) for stack in (self.critics, self.networks, self.values)
        )
        first, last, _ = rows.indices(len(data))
        for start in range(first, last, CHUNK):
            part = slice(start, min(start + CHUNK, last))
            count = part.stop - start
            pairs[:, :count, :d] = torch.from_numpy(self.scaling.observation(data.observation[part]))
            pairs[:, :count, d:] = torch.from_numpy(self.scaling.action(data.action[part]))
            twins.copy_(pairs)
            q_value = critics.forward(twins.flatten(0, 1)).view(2, members, -1).amin(dim=0)
            value = values.forward(pairs[..., :d])[..., 0]
            parts = scorer_inputs(
                self.inputs,
                pairs[..., :d],
                pairs[..., d:],
                (q_value - self.q_mean.unsqueeze(-1)) / self.q_std.unsqueeze(-1),
                (value - self.value_mean.unsqueeze(-1)) / self.value_std.unsqueeze(-1),
            )
            torch.cat(parts, dim=-1, out=features)
            output = bounded(networks.forward(features)[..., 0], self.score_bound)
            score = LOG_WEIGHT[self.activation](output) + self.score_shift.unsqueeze(-1)
            score = score[:, :count]
            if log_rho is not None:
                score = score + log_rho[:, part]
            yield score, q_value[:, :count], value[:, :count]

    def _check_sizes(self, data: Transitions) -> None:
        given = (data.observation_size, data.action_size)
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
            "inputs": {"observation": self.observation_size, "action": self.action_size, "scorer": self.inputs},
            "members": self.members,
            "activation": self.activation,
            "score_bound": self.score_bound,
            "hidden": {"values": self.values.sizes[1:-1], "scorer": self.networks.sizes[1:-1]},
            "scaling": self.scaling.to_json(),
            "prior": self.prior and {"discount": self.prior.discount},
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
        hidden, prior, inputs = facts["hidden"], facts["prior"], tuple(facts["inputs"]["scorer"])
        width = sum({"state": d, "action": k}.get(name, 1) for name in inputs)
        scorer = cls(
            networks=StackedMLP(members, (width, *hidden["scorer"], 1), device=device),
            critics=StackedMLP(2 * members, (d + k, *hidden["values"], 1), device=device),
            values=StackedMLP(members, (d, *hidden["values"], 1), device=device),
            scaling=scaling,
            q_mean=torch.zeros(members, device=device),
            q_std=torch.zeros(members, device=device),
            value_mean=torch.zeros(members, device=device),
            value_std=torch.zeros(members, device=device),
            inputs=inputs,
            score_shift=torch.zeros(members, device=device),
            score_bound=facts["score_bound"],
            activation=facts["activation"],
            prior=None,
            provenance=facts["provenance"],
        )
        tensors = scorer._tensors()
        if prior is None:
            load_tensors(folder, "scorer", tensors)
            return scorer
        columns = {f"prior.{name}": torch.zeros(members, dtype=torch.float64) for name in PRIOR_COLUMNS}
        load_tensors(folder, "scorer", tensors | columns)
        return dataclasses.replace(scorer, prior=_prior_of(columns, prior["discount"]))

    def _tensors(self) -> dict[str, Tensor]:
        stacks = {"scorer": self.networks, "critic": self.critics, "value": self.values}
        named = {f"{part}.{key}": t for part, stack in stacks.items() for key, t in stack.tensors().items()}
        named |= {
            "q_mean": self.q_mean,
            "q_std": self.q_std,
            "value_mean": self.value_mean,
            "value_std": self.value_std,
            "score_shift": self.score_shift,
        }
        if self.prior is not None:
            named |= _columns_of(self.prior)
        return named


def _summary(scores: Tensor, q_values: Tensor, values: Tensor) -> Array:
    """(4, rows): mean and deviation of the score, mean of Q and of the advantage over the members."""
    members = len(scores)
    deviation = scores.std(dim=0) if members > 1 else torch.full_like(scores[0], torch.nan)
    advantages = (q_values - values).mean(dim=0)
    return torch.stack([scores.mean(dim=0), deviation, q_values.mean(dim=0), advantages]).cpu().numpy()


OF_PERSISTENCE = tuple(field.name for field in dataclasses.fields(Persistence))
PRIOR_COLUMNS = (*OF_PERSISTENCE, *OF_MEMBERS)
"""What of the prior is stored, a number for each member."""


def _columns_of(prior: Prior) -> dict[str, Tensor]:
    persistence = {
        name: torch.tensor([getattr(member, name) for member in prior.persistence], dtype=torch.float64)
        for name in OF_PERSISTENCE
    }
    columns = persistence | {name: torch.from_numpy(getattr(prior, name)) for name in OF_MEMBERS}
    return {f"prior.{name}": column for name, column in columns.items()}


def _prior_of(columns: dict[str, Tensor], discount: float) -> Prior:
    numbers = {name: columns[f"prior.{name}"].numpy() for name in PRIOR_COLUMNS}
    rows = zip(*(numbers[name].tolist() for name in OF_PERSISTENCE), strict=True)
    return Prior(discount, tuple(Persistence(*row) for row in rows), *(numbers[name] for name in OF_MEMBERS))
