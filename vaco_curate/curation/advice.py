"""What to do with scores: weights or filters, by learner, as the board in docs/quality.md has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vaco_curate.core.advantage import Persistence
from vaco_curate.curation.health import FEW_EPISODES, Doubted, Sign, doubted_by

Kind = Literal["whole episodes", "some steps"]
"""Over what behavior persists in a dataset: every episode has one actor, or several."""

ALL_ROWS, WEIGHTS, TOP_10, TOP_25 = "all rows", "weights", "top 10 %", "top 25 %"
POLICY_ALONE = "weights, policy alone"
"""The board's columns of ours, and of no selection at all."""

ROWS_OF = {TOP_10: 10, TOP_25: 25}
"""Percent of the rows that a column keeps."""

BEST: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "whole episodes": {
        "cloning": (TOP_10, WEIGHTS),
        "IQL": (TOP_10, WEIGHTS),
        "TD3+BC": (POLICY_ALONE, TOP_10),
    },
    "some steps": {
        "cloning": (WEIGHTS, TOP_25),
        "IQL": (POLICY_ALONE,),
        "TD3+BC": (ALL_ROWS, POLICY_ALONE),
    },
}
"""By learner, what earned most on average over the datasets of a kind, and what came within five points of it.
A test holds them against the board; a learner that is left out was not measured on all of them."""

DATASETS: Mapping[Kind, int] = {"whole episodes": 6, "some steps": 2}
"""How many datasets of a kind the board has."""

CAREFUL = 80
"""Percent of the episodes to keep where the board has no such data, or too few episodes are among the best."""

ROW_SHARES = (10, 25, 50)
"""Percent of the rows that may be proposed to be kept."""

MANY_ARE_GOOD = 0.25
"""Effective share of the rows above which no filter is proposed: it would drop rows that are as good."""

COMMANDS = {
    ALL_ROWS: "all rows",
    WEIGHTS: "reweight",
    POLICY_ALONE: "reweight for the policy alone",
    TOP_10: "filter --top 10%",
    TOP_25: "filter --top 25%",
}


def kind_of(members: Sequence[Persistence]) -> Kind | None:
    """The kind of a dataset by what its scorers found; None where they found nothing, or disagree."""
    found = {math.isinf(member.scale) if member.predicted > 0.0 else None for member in members}
    if found == {True}:
        return "whole episodes"
    return "some steps" if found == {False} else None


@dataclass(frozen=True)
class Standing:
    """What decides how scores may be used.

    Attributes:
        kind: over what behavior persists; None where the scorers found nothing, or disagree.
        doubted: what warnings advise against.
        demonstrations: whether the rows are demonstrations, of which the board has none.
        success_rate: share of the episodes that succeed; None where rewards say more than that.
        episodes: how many there are.
        effective_share: of the scorer's weights.
        best_rows: the smallest of ``ROW_SHARES`` whose best rows come from enough effective episodes; None
            where there is none.
    """

    kind: Kind | None
    doubted: tuple[Doubted, ...]
    demonstrations: bool
    success_rate: float | None
    episodes: int
    effective_share: float
    best_rows: int | None

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Standing:
        """Of a finished run."""
        return cls(
            kind=manifest["persists_over"],
            doubted=doubted_by(Sign(**sign) for sign in manifest["warnings"]),
            demonstrations=are_demonstrations(manifest["dataset"]),
            success_rate=manifest["success_rate"],
            episodes=manifest["dataset"]["episodes"],
            effective_share=manifest["effective_sample_share"],
            best_rows=manifest["best_rows"],
        )

    @property
    def advised(self) -> Mapping[str, tuple[str, ...]]:
        """The board's columns for each learner, best first; nothing where it does not speak of such scores."""
        if self.kind is None or self.doubted or self.demonstrations:
            return {}
        return BEST[self.kind]

    @property
    def advice(self) -> list[str]:
        """One line on what to do, by learner; none where nothing is advised."""
        learners: dict[tuple[str, ...], list[str]] = {}
        for learner, columns in self.advised.items():
            learners.setdefault(columns, []).append(learner)
        if self.kind is None or not learners:
            return []
        parts = [
            f"for {_listed(names)}, {' or '.join(COMMANDS[column] for column in columns)}"
            for columns, names in learners.items()
        ]
        return [
            f"what earned most on the {DATASETS[self.kind]} datasets that were measured where behavior "
            f"persists over {self.kind}: {'; '.join(parts)} (docs/quality.md)"
        ]

    @property
    def share_to_keep(self) -> tuple[int, bool]:
        """Percent of the rows to look at first, or of the episodes, and whether it is of those."""
        if self.demonstrations and self.success_rate is not None and 0 < self.success_rate < 1:
            enough = min(1.0, FEW_EPISODES / self.episodes)
            return math.ceil(100 * max(self.success_rate, enough)), True
        if self.demonstrations or "scores" in self.doubted or self.best_rows is None:
            return CAREFUL, True
        advised = (ROWS_OF[column] for column in self.advised.get("cloning", ()) if column in ROWS_OF)
        return max(next(advised, ROW_SHARES[0]), self.best_rows), False

    @property
    def proposed(self) -> str | None:
        """The command to begin with, without the run; None where warnings speak against the scores."""
        if "scores" in self.doubted:
            return None
        weights = self.advised.get("cloning", ("",))[0] == WEIGHTS or self.effective_share > MANY_ARE_GOOD
        if weights and "weights" not in self.doubted and not self.demonstrations:
            return COMMANDS[WEIGHTS]
        share, whole = self.share_to_keep
        return f"filter --top {share}%{'ep' * whole}"


def are_demonstrations(dataset: Mapping[str, Any]) -> bool:
    """Whether a manifest's dataset is of demonstrations: a robot format's, or with a flag of success."""
    return bool(dataset["format"] in ("lerobot", "robomimic") or dataset["read_options"].get("success"))


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
