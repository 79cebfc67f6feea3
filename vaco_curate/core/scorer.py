"""``Scorer``: trained networks with all they need to score raw transitions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from vaco_curate.core.advantage import Persistence
from vaco_curate.core.artifacts import complete, load_facts, load_tensors, save_artifact
from vaco_curate.core.fast.passes import forward_only
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.forward import ChunkPass, by_chunks, height_for, values_and_td_errors
from vaco_curate.core.paths import LONGEST_PATH, Paths
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.trajectory_score import Temperature, TrajectoryScore
from vaco_curate.core.transitions import Array, Transitions
from vaco_curate.errors import DatasetError

KIND = "vaco-curate scorer"
SCHEMA_VERSION = 8


@dataclass(frozen=True)
class RowScores:
    """What the scorer says of each row, all (n,) float32.

    Attributes:
        score: log weight, up to a constant: mean over the members.
        score_std: standard deviation of the members' scores; NaN where there is one member.
        vaco_score: log weight by the meta-scoring network, the paper's score: mean over the members; NaN where
            training left the bi-level phase out.
        q_value: Q(s, a), the smaller of the twin critics, mean over the members, in reward units of
            the dataset (of the shifted rewards, where training shifts them).
        advantage: Q(s, a) - V(s), likewise.
    """

    score: Array
    score_std: Array
    vaco_score: Array
    q_value: Array
    advantage: Array


@dataclass(frozen=True)
class MetaScorer:
    """Meta-scoring networks on (s, a, Q(s, a)), one for each of K members.

    Attributes:
        networks: their outputs are scores whose sigmoids are weights.
        q_mean, q_std: (K,), standardize Q for them, in scaled reward units.
    """

    networks: StackedMLP
    q_mean: Tensor
    q_std: Tensor


@dataclass(frozen=True)
class Scorer:
    """Scores raw transitions of the observation and action sizes it was trained on.

    Attributes:
        critics, values: the networks of the value phase, frozen: 2 K (the first critic of every of K members,
            then the second) and K.
        scaling: raw units to network units.
        discount: of V.
        trajectory: how TD errors make scores, one for each member.
        meta: of the bi-level phase; None where training left it out.
        provenance: dataset, settings, seed, versions; for readers, not used.
    """

    critics: StackedMLP
    values: StackedMLP
    scaling: Scaling
    discount: float
    trajectory: tuple[TrajectoryScore, ...]
    meta: MetaScorer | None
    provenance: dict[str, Any]

    def __repr__(self) -> str:
        members = f"{self.members} member{'s' * (self.members > 1)}"
        sizes = f"observation {self.observation_size}, action {self.action_size}"
        return f"<Scorer: {members}, {sizes}, on {self.device}>"

    @property
    def members(self) -> int:
        """K."""
        return self.values.members

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return self.values.flat.device

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

        A score depends on the row and on the path that it is part of: a part of a dataset gets the scores of
        the whole where it holds whole episodes.

        Raises:
            DatasetError: the sizes are not those of the training data, or a score is not finite.
        """
        self._check_sizes(data)
        paths = Paths.of(data, LONGEST_PATH)
        value, errors = values_and_td_errors(self.values, self.scaling, self.discount, data, paths)
        scores = np.stack(
            [
                score_of(paths, of_member, data.is_learnable)
                for score_of, of_member in zip(self.trajectory, errors.members(), strict=True)
            ]
        )
        q_value, meta_score = self._of_pairs(data)
        in_reward_units = np.stack([q_value, q_value - value]).mean(axis=1) / self.scaling.reward_scale
        columns = (
            scores.mean(axis=0),
            scores.std(axis=0, ddof=1) if self.members > 1 else np.full(len(data), np.nan),
            meta_score.mean(axis=0),
            *in_reward_units,
        )
        finite = np.isfinite(columns[0]) & np.isfinite(in_reward_units).all(axis=0)
        if self.meta is not None:
            finite &= np.isfinite(columns[2])
        if not finite.all():
            raise DatasetError(
                f"the score of row {data.first_row + int(np.flatnonzero(~finite)[0])} is not finite",
                fix="the training diverged: lower the learning rates or check the rewards with 'inspect'",
            )
        return RowScores(*(column.astype(np.float32) for column in columns))

    def _of_pairs(self, data: Transitions) -> Array:
        """Q(s, a), and the log weight by the meta-scoring network or NaN, by every member: (2, K, n)."""
        d, members = self.observation_size, self.members
        flat, meta = self.critics.flat, self.meta
        height = height_for(flat.device, self.critics.members)

        def prepare() -> ChunkPass:
            pairs = flat.new_zeros(members, height, self.critics.sizes[0])
            twins = flat.new_zeros(2, members, height, self.critics.sizes[0])
            found = flat.new_full((2, members, height), torch.nan)
            critics = forward_only(self.critics, height)
            networks = None if meta is None else forward_only(meta.networks, height)

            def one_pass(rows: slice) -> Tensor:
                count = rows.stop - rows.start
                pairs[:, :count, :d] = torch.from_numpy(self.scaling.observation(data.observation[rows]))
                pairs[:, :count, d:] = torch.from_numpy(self.scaling.action(data.action[rows]))
                twins.copy_(pairs)
                q_value = critics.forward(twins.flatten(0, 1)).view(2, members, -1).amin(dim=0)
                found[0] = q_value
                if meta is not None and networks is not None:
                    seen = (q_value - meta.q_mean.unsqueeze(-1)) / meta.q_std.unsqueeze(-1)
                    features = torch.cat([pairs, seen.unsqueeze(-1)], dim=-1)
                    found[1] = logsigmoid(networks.forward(features)[..., 0])
                return found

            return one_pass

        return by_chunks(len(data), height, prepare, flat)

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
            "inputs": {"observation": self.observation_size, "action": self.action_size},
            "members": self.members,
            "hidden": {
                "values": self.values.sizes[1:-1],
                "meta": self.meta and self.meta.networks.sizes[1:-1],
            },
            "scaling": self.scaling.to_json(),
            "discount": self.discount,
            "provenance": self.provenance,
        }
        save_artifact(folder, "scorer", self._tensors() | _columns_of(self.trajectory), facts)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Scorer:
        """Read what ``save`` wrote.

        Args:
            folder: the folder, or that of the run that it lies in.

        Raises:
            RunError: a file is missing or damaged.
        """
        folder = Path(folder)
        inner = folder / "scorer"
        folder = inner if inner.is_dir() else folder
        facts = load_facts(folder, "scorer", KIND, SCHEMA_VERSION)
        with complete(folder, "scorer"):
            scaling, hidden, members = Scaling.from_json(facts["scaling"]), facts["hidden"], facts["members"]
            d, k = len(scaling.observation_mean), len(scaling.action_low)
            meta = None
            if hidden["meta"] is not None:
                networks = StackedMLP(members, (d + k + 1, *hidden["meta"], 1), device=device)
                meta = MetaScorer(networks, *torch.zeros(2, members, device=device))
            scorer = cls(
                critics=StackedMLP(2 * members, (d + k, *hidden["values"], 1), device=device),
                values=StackedMLP(members, (d, *hidden["values"], 1), device=device),
                scaling=scaling,
                discount=float(facts["discount"]),
                trajectory=(),
                meta=meta,
                provenance=dict(facts["provenance"]),
            )
        columns = {name: torch.zeros(members, dtype=torch.float64) for name in TRAJECTORY_COLUMNS}
        load_tensors(folder, "scorer", facts, scorer._tensors() | columns)
        return dataclasses.replace(scorer, trajectory=_trajectory_of(columns))

    def _tensors(self) -> dict[str, Tensor]:
        stacks = {"critic": self.critics, "value": self.values}
        named: dict[str, Tensor] = {}
        if self.meta is not None:
            stacks["meta"] = self.meta.networks
            named = {"meta.q_mean": self.meta.q_mean, "meta.q_std": self.meta.q_std}
        return named | {
            f"{part}.{key}": t for part, stack in stacks.items() for key, t in stack.tensors().items()
        }


PARTS = (Persistence, Temperature)
TRAJECTORY_COLUMNS = tuple(f"trajectory.{field.name}" for part in PARTS for field in dataclasses.fields(part))
"""What is stored of how TD errors make scores, a number for each member."""


def _columns_of(trajectory: tuple[TrajectoryScore, ...]) -> dict[str, Tensor]:
    numbers = [
        [*dataclasses.astuple(member.persistence), *dataclasses.astuple(member.temperature)]
        for member in trajectory
    ]
    columns = torch.tensor(numbers, dtype=torch.float64).T.contiguous()
    return dict(zip(TRAJECTORY_COLUMNS, columns, strict=True))


def _trajectory_of(columns: dict[str, Tensor]) -> tuple[TrajectoryScore, ...]:
    split = len(dataclasses.fields(Persistence))
    members = torch.stack([columns[name] for name in TRAJECTORY_COLUMNS]).T.tolist()
    return tuple(TrajectoryScore(Persistence(*of[:split]), Temperature(*of[split:])) for of in members)
