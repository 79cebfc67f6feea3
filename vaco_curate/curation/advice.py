"""Which of weights and filters serve which learner: read off the board in docs/quality.md, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from vaco_curate.core.advantage import Persistence
from vaco_curate.curation.health import Doubted

Kind = Literal["whole episodes", "some steps"]
"""Over what behavior persists in a dataset: every episode has one actor, or several."""

ALL_ROWS, WEIGHTS, TOP_10, TOP_25 = "all rows", "weights", "top 10 %", "top 25 %"
"""The board's columns of ours, and of no selection at all."""

BEST: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "whole episodes": {"cloning": (TOP_10, WEIGHTS), "IQL": (TOP_10, WEIGHTS), "TD3+BC": (TOP_10,)},
    "some steps": {"cloning": (WEIGHTS, TOP_25), "IQL": (TOP_25, TOP_10), "TD3+BC": (ALL_ROWS,)},
}
"""By learner, what earned most on average over the datasets of a kind, and what came within five points of it.
A test holds them against the board; a learner that is left out was not measured on all of them."""

DATASETS: Mapping[Kind, int] = {"whole episodes": 6, "some steps": 2}
"""How many datasets of a kind the board has."""

COMMANDS = {
    ALL_ROWS: "all rows",
    WEIGHTS: "reweight",
    TOP_10: "filter --top 10%",
    TOP_25: "filter --top 25%",
}


def kind_of(members: Sequence[Persistence]) -> Kind | None:
    """The kind of a dataset by what its scorers found; None where they found nothing, or disagree."""
    found = {math.isinf(member.scale) if member.predicted > 0.0 else None for member in members}
    if found == {True}:
        return "whole episodes"
    return "some steps" if found == {False} else None


def advised(kind: Kind | None, doubted: Collection[Doubted]) -> dict[str, tuple[str, ...]]:
    """What of the board's columns is advised to each learner; nothing that warnings speak against.

    Args:
        doubted: by warnings: all advice is left out with "scores", weights with "weights".
    """
    if kind is None or "scores" in doubted:
        return {}
    usable = {
        learner: tuple(column for column in columns if column != WEIGHTS or "weights" not in doubted)
        for learner, columns in BEST[kind].items()
    }
    return {learner: columns for learner, columns in usable.items() if columns}


def advice(kind: Kind | None, doubted: Collection[Doubted]) -> list[str]:
    """One line on what to do with scores, by learner; none where nothing is ``advised``."""
    learners: dict[tuple[str, ...], list[str]] = {}
    for learner, columns in advised(kind, doubted).items():
        learners.setdefault(columns, []).append(learner)
    if kind is None or not learners:
        return []
    parts = [
        f"for {_listed(names)}, {' or '.join(COMMANDS[column] for column in columns)}"
        for columns, names in learners.items()
    ]
    return [
        f"what earned most on the {DATASETS[kind]} datasets that were measured where behavior persists over "
        f"{kind}: {'; '.join(parts)} (docs/quality.md)"
    ]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
