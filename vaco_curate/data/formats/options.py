"""What a user may tell a reader about a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vaco_curate.arguments import real_number, several_names, whole_number
from vaco_curate.errors import SettingsError

FROM_SUCCESS = ("reward", "terminated")
"""Columns that a success flag makes: it is worth 1, and the task is over."""


@dataclass(frozen=True)
class ReadOptions:
    """Reader options; recorded with a run, so that later commands read the source in the same way.

    Attributes:
        columns: our column name -> the source's, where it has other names.
        max_episode_steps: step limit of the environment, for files without time-limit flags.
        drop_columns: parts of the observation to leave out, by the source's names; images, for one.
        success: the source's name of a success flag, which becomes a reward of 1 and a true end, once an
            episode.
        step_cost: subtracted from the reward of every step, so that a slow success is worth less.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    max_episode_steps: int | None = None
    drop_columns: tuple[str, ...] = ()
    success: str | None = None
    step_cost: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Mapping) or not all(
            isinstance(name, str) for pair in self.columns.items() for name in pair
        ):
            raise SettingsError(
                f"--column {self.columns!r}: a name of the source's is needed for each of ours",
                fix='in Python give columns={"observation": "obs", "action": "act"}, for several columns that '
                'make a vector {"observation": "pos+vel"} or {"observation": "obs_*"}',
            )
        if self.success is not None and not isinstance(self.success, str):
            raise SettingsError(f"--success {self.success!r}: the name of a flag is needed")
        if self.max_episode_steps is not None:
            limit = whole_number(self.max_episode_steps, "--max-episode-steps", least=1)
            object.__setattr__(self, "max_episode_steps", limit)
        object.__setattr__(self, "drop_columns", several_names(self.drop_columns, "--drop-columns"))
        object.__setattr__(self, "step_cost", real_number(self.step_cost, "--step-cost"))
        twice = [name for name in FROM_SUCCESS if name in self.columns]
        if self.success is not None and twice:
            raise SettingsError(
                f"--success {self.success} makes reward and terminated, and --column names {twice[0]}, too",
                fix="leave one of them out",
            )
        if self.step_cost < 0.0:
            raise SettingsError(
                f"--step-cost {self.step_cost} must be at least 0",
                fix="give what a step costs: it is subtracted from every reward",
            )

    @property
    def names(self) -> dict[str, str]:
        """Our column name -> the source's: of ``columns``, and of what the success flag makes."""
        if self.success is None:
            return dict(self.columns)
        return dict(self.columns) | dict.fromkeys(FROM_SUCCESS, self.success)

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads it back."""
        return {
            "columns": dict(self.columns),
            "max_episode_steps": self.max_episode_steps,
            "drop_columns": list(self.drop_columns),
            "success": self.success,
            "step_cost": self.step_cost,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> ReadOptions:
        """Inverse of ``to_json``."""
        return cls(**{**facts, "drop_columns": tuple(facts["drop_columns"])})
