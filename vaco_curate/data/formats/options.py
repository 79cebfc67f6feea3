"""What a user may tell a reader about a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ReadOptions:
    """Reader options; recorded with a run, so that later commands read the source in the same way.

    Attributes:
        columns: our column name -> the source's, for Parquet of another schema.
        max_episode_steps: step limit of the environment, for files without time-limit flags.
        drop_columns: parts of the observation to leave out, by the source's names; images, for one.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    max_episode_steps: int | None = None
    drop_columns: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``from_json`` reads it back."""
        return {
            "columns": dict(self.columns),
            "max_episode_steps": self.max_episode_steps,
            "drop_columns": list(self.drop_columns),
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> ReadOptions:
        """Inverse of ``to_json``."""
        return cls(**{**facts, "drop_columns": tuple(facts["drop_columns"])})
