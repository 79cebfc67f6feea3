"""Which of a source's arrays make a column of ours: its usual names, or those that a user gives."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.recording import natural_order
from vaco_curate.errors import DatasetError

SEVERAL = "+"
"""Joins the names of columns that make one vector, in ``--column observation=pos+vel``."""

VECTORS = ("observation", "action", "next_observation")
WORDS_FOR_ENDS = re.compile(r"(^|[._/])(dones?|is_last|is_terminal|terminals?|terminations?|success)$")


def check_asked(source: str, asked: Mapping[str, str], known: Collection[str]) -> None:
    """Refuse ``--column`` for a column that is none of ours.

    Raises:
        DatasetError: naming it.
    """
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise DatasetError(
            f"{source}: --column {unknown[0]}=...: not a column that can be named here",
            details=(f"those that can: {', '.join(known)}",),
        )


def named(source: str, ours: str, theirs: str, found: Sequence[str], success: str | None = None) -> list[str]:
    """The source's names that ``--column OURS=THEIRS`` means: one, ``a+b+c``, or a pattern such as ``obs_*``.

    Args:
        success: of ``ReadOptions``, for the message.

    Raises:
        DatasetError: one of them is not there, or several for what is no vector.
    """
    if theirs in found:
        return [theirs]
    names: list[str] = []
    for part in theirs.split(SEVERAL):
        matching = [part] if part in found else sorted(fnmatch.filter(found, part), key=natural_order)
        if not matching:
            option = f"--success {theirs}" if theirs == success else f"--column {ours}={theirs}"
            likely = nearest(part, found)
            raise DatasetError(
                f"{source}: missing column {part}, which {option} names",
                details=(f"found: {some(found)}",),
                fix=f"if you mean it: {' or '.join(likely)}" if likely else None,
            )
        names += matching
    if len(names) > 1 and ours not in VECTORS:
        raise DatasetError(f"{source}: --column {ours}={theirs} names {len(names)} columns, it takes one")
    return names


def nearest(name: str, found: Iterable[str]) -> list[str]:
    """The names most like one that is not there, the most likely first."""
    return difflib.get_close_matches(name, list(found))


def flags_of_success(found: Iterable[str]) -> tuple[str, ...]:
    """Names that speak of success."""
    return tuple(name for name in found if "success" in name.lower())


def hint_at_success(flags: Sequence[str]) -> str:
    """What a note on missing rewards says of ``flags_of_success``."""
    return f"; with the success flag for reward: --success {flags[0]}" if flags else ""


def refuse_one_of_several(
    source: str, ours: str, name: str, found: Iterable[str], dropped: Collection[str]
) -> None:
    """Refuse one column of numbers for a vector where there are more of its kind: ``obs_0`` beside ``obs_1``.

    Args:
        found: names of columns with a number a row.
        dropped: what the user leaves out.

    Raises:
        DatasetError: with the others, and both ways to say what is meant.
    """
    stem = name.rstrip("0123456789")
    if ours not in VECTORS or stem == name or not stem:
        return
    others = [n for n in found if n != name and n.startswith(stem) and n[len(stem) :].isdigit()]
    left = sorted((n for n in others if n not in dropped), key=natural_order)
    if left:
        raise DatasetError(
            f"{source}: {ours}={name} is one number a row, and there are also {some(left)}",
            fix=f"for all of them --column '{ours}={stem}*', for this one alone also "
            f"--drop-columns {','.join(left)}",
        )


def note_on_ends(present: Collection[str], found: Iterable[str]) -> tuple[str, ...]:
    """A hint at columns that may hold ends, where none is read as a true end."""
    if "terminated" in present:
        return ()
    likely = [name for name in found if WORDS_FOR_ENDS.search(name)]
    if "reward" not in present:  # a flag of success makes both, as the note on rewards says
        likely = [name for name in likely if name not in flags_of_success(likely)]
    if not likely:
        return ()
    return (
        f"no column is read as true ends, but {some(likely)} may hold them: --column terminated={likely[0]} "
        "(with truncated=NAME for time limits)",
    )


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "nothing"


class Joined:
    """Several arrays of a source as one, read by rows: (n, a) and (n, b) as (n, a + b)."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self._arrays = arrays
        widths = [int(np.prod(array.shape[1:])) for array in arrays]
        self.shape = (len(arrays[0]), sum(widths))
        self.ndim = 2

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> Array:
        parts = [np.asarray(array[rows]) for array in self._arrays]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
