"""Whether the rewards of a dataset can tell good from bad: equal returns, and rewards that no target uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Transitions, blocks
from vaco_curate.errors import DatasetError

EQUAL = 1e-6
"""Difference of returns, relative to the rewards that an episode sums up, that rounding alone can make."""

FEW_VALUES = 64
"""Rewards of no more different values are sparse, and counted."""


def are_equal(lowest: float, highest: float, magnitude: float) -> bool:
    """Whether returns are the same but for rounding.

    Args:
        lowest, highest: returns of episodes.
        magnitude: largest sum of absolute rewards of an episode.
    """
    return highest - lowest <= EQUAL * magnitude


def magnitude(data: Transitions) -> float:
    """Largest sum of absolute rewards of an episode."""
    sums = np.add.reduceat(np.abs(data.reward, dtype=np.float64), data.episode_start)
    return float(sums.max())


class RewardUse:
    """Counts where sparse rewards lie: on rows that have a Bellman target, or on rows that have none.

    No target uses a reward on a last row whose successor is unknown. Where the rewards that say something lie
    there (those that differ from the most common one, such as a success), values learn nothing of them, and
    failures would get the best scores.
    """

    def __init__(self) -> None:
        self._counts: dict[float, list[int]] = {}
        self._sparse = True

    def add(self, piece: Transitions) -> None:
        """Take in the rows of a piece."""
        unused = ~piece.is_learnable
        for rows in blocks(len(piece)):
            if not self._sparse:
                return
            values, which = np.unique(piece.reward[rows], return_inverse=True)
            if len(values) > FEW_VALUES:
                self._sparse = False
                continue
            everywhere = np.bincount(which, minlength=len(values))
            lost = np.bincount(which[unused[rows]], minlength=len(values))
            self._add({float(v): [int(a), int(b)] for v, a, b in zip(values, everywhere, lost, strict=True)})

    def _add(self, counts: Mapping[float, list[int]]) -> None:
        for value, (everywhere, lost) in counts.items():
            known = self._counts.setdefault(value, [0, 0])
            known[0] += everywhere
            known[1] += lost
        self._sparse &= len(self._counts) <= FEW_VALUES

    def to_json(self) -> dict[str, Any]:
        """Plain values, for ``add_json``."""
        return {"sparse": self._sparse, "counts": [[value, *counts] for value, counts in self._counts.items()]}

    def add_json(self, facts: Mapping[str, Any]) -> None:
        """Take in what ``to_json`` gave of another piece."""
        self._sparse &= facts["sparse"]
        self._add({value: [everywhere, lost] for value, everywhere, lost in facts["counts"]})

    def refuse_unused(self, source: str, success_flag: str | None = None) -> None:
        """Refuse rewards of which most that say something are used by no target.

        Args:
            success_flag: what may be a flag of success in the source, for the message.

        Raises:
            DatasetError: with both ways to mend it.
        """
        if not self._sparse or len(self._counts) < 2:
            return
        usual = max(self._counts, key=lambda value: self._counts[value][0])
        telling = [counts for value, counts in self._counts.items() if value != usual]
        everywhere, lost = (sum(counts[n] for counts in telling) for n in (0, 1))
        if 2 * lost > everywhere:
            flag = success_flag or "NAME (LeRobot's is next.success)"
            raise DatasetError(
                f"{source}: {lost} of the {everywhere} rewards other than {usual:g} lie on rows from which no "
                "value can be learned",
                details=(
                    "they are the last of their episodes, no true ends, and the state after them is not known",
                    "scores would not see them, and could put failures first",
                ),
                fix=f"if they mark success: --success {flag}; if they are other true ends, "
                "name the column that marks those: --column terminated=NAME; else store the observation "
                "after them",
            )
