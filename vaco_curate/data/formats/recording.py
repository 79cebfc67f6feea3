"""What a reader gives: a recording, opened, whose rows are read when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from vaco_curate.data.episodes import Columns, EpisodeIds


def no_others(names: Sequence[str]) -> Iterator[pa.Table]:
    """Read further columns of a recording that has none."""
    raise KeyError(*names)


def natural_order(name: str) -> list[tuple[int, int | str]]:
    """Key to sort names by, with their numbers as numbers: ``part-2`` before ``part-10``."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True)
class Recording:
    """One file, or one folder that its format makes a unit, with the rows it holds.

    Attributes:
        path: the file or folder; what is hashed for provenance.
        format: name of the reader.
        rows: how many there are.
        batches: the rows in order, about so many at a time: columns of ``Transitions`` by name, of which
            ``observation``, ``action`` and ``reward`` must be there (``columns.transitions_from_columns``).
        further: types of further columns by name: with a value for every row that can be copied.
        unread: names of what it holds for every row beside, and what cannot be copied: images, nested values.
        others: of the further columns those that are named, in the order of the rows, some at a time.
        episodes: what the column ``episode_id`` holds; None where there is none, or it counts from 0.
        named_episodes: rows of each episode by its name, in order, where the format names them.
        success_flags: names of what may be a flag of success, the most likely first.
        has_rewards: false where the format has none, and all are read as zero.
        facts: of the fields of ``Transitions`` that are no columns: ``env_id``, ``action_low`` and so on.
        notes: what had to be assumed, in plain words.
        stamp: of the path when it was opened (``store.files.stamp``).
    """

    path: Path
    format: str
    rows: int
    batches: Callable[[int], Iterator[Columns]]
    further: Mapping[str, pa.DataType] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    others: Callable[[Sequence[str]], Iterator[pa.Table]] = no_others
    episodes: EpisodeIds | None = None
    named_episodes: Mapping[str, int] = field(default_factory=dict)
    success_flags: tuple[str, ...] = ()
    has_rewards: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stamp: tuple[tuple[int, int, int], ...] = ()
