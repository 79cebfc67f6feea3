"""Which of weights and filters serve which learner: read off the board in docs/quality.md, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

Kind = Literal["whole episodes", "steps"]
"""Over what behavior persists in a dataset: in every episode one actor, or several."""

WEIGHTS, TOP_10, TOP_25 = "weights", "top 10 %", "top 25 %"
"""The board's columns of ours."""

BEST: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "whole episodes": {"cloning": (TOP_10, WEIGHTS)},
    "steps": {"cloning": (WEIGHTS, TOP_10)},
}
"""By learner, what earned most on average over the datasets of a kind, and what came within five points of it.
A test holds them against the board; a learner that is left out was not measured on all of them."""

COMMANDS = {WEIGHTS: "reweight", TOP_10: "filter --top 10%", TOP_25: "filter --top 25%"}
PAGE = "docs/quality.md"


def kind_of(scales: Iterable[float]) -> Kind:
    """The kind of a dataset, by the scales of ``Persistence`` that its scorers found."""
    return "whole episodes" if all(math.isinf(scale) for scale in scales) else "steps"


def advice(kind: Kind) -> str:
    """One line on what to do with scores."""
    parts = [
        f"for {learner}: {' or '.join(COMMANDS[column] for column in columns)}"
        for learner, columns in BEST[kind].items()
    ]
    return f"what earned most where behavior persists over {kind}, {'; '.join(parts)} ({PAGE})"
