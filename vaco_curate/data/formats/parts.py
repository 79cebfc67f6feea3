"""Observations that a source keeps in parts: named, checked and joined to one vector."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.errors import DatasetError


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, array) of a nested Dict or Tuple, in the order of its space."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from leaves(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, tuple):
        for number, part in enumerate(value):
            yield from leaves(part, f"{name}.{number}" if name else str(number))
    else:
        yield name, value


PIXELS = 16
"""A matrix of at least so many rows and columns is taken for a picture, in messages."""


def kept_parts(
    source: str,
    shapes: Mapping[str, tuple[int, ...]],
    drop: Collection[str],
    words: Collection[str] = (),
) -> dict[str, int]:
    """Size by name of the parts that make an observation.

    Args:
        shapes: of one step, by name, in order; () for a number.
        drop: names to leave out; a name also stands for all that lies in it, ``images`` for ``images.front``.
        words: names of parts that hold something else than numbers.

    Raises:
        DatasetError: a part is no vector of numbers and is not dropped, a name to drop does not occur, or none
            is left.
    """
    unknown = [name for name in drop if not any(_is_in(part, name) for part in shapes)]
    if unknown:
        raise DatasetError(
            f"{source}: --drop-columns {unknown[0]}: no such part of the observation",
            details=(f"found: {', '.join(shapes)}",),
        )
    kept = {name: shape for name, shape in shapes.items() if not any(_is_in(name, other) for other in drop)}
    odd = [name for name, shape in kept.items() if len(shape) > 1 or name in words]
    if odd:
        shape = kept[odd[0]]
        what = "holds words, which" if odd[0] in words else f"has shape {shape} per step: {_kind(shape)}"
        raise DatasetError(
            f"{source}: {_shown(odd[0])} {what} are not supported",
            details=("vaco-curate works on state vectors",),
            fix=f"leave out what is not a vector: --drop-columns {','.join(odd)}" if odd[0] else None,
        )
    if not kept:
        raise DatasetError(
            f"{source}: nothing is left of the observation", details=(f"all: {', '.join(shapes)}",)
        )
    return {name: shape[0] if shape else 1 for name, shape in kept.items()}


def _kind(shape: tuple[int, ...]) -> str:
    is_picture = len(shape) > 2 or min(shape) >= PIXELS
    return "images" if is_picture else "matrices (as one vector a step they are)"


def _is_in(part: str, name: str) -> bool:
    return part == name or part.startswith((f"{name}.", f"{name}/"))


def _shown(name: str) -> str:
    return f"observation {name}" if name else "observation"


def joined(parts: Mapping[str, Any], kept: Mapping[str, int]) -> Array:
    """(rows, size): the kept parts, one beside the other."""
    columns = [np.asarray(parts[name]) for name in kept]
    columns = [values[:, None] if values.ndim == 1 else values for values in columns]
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def recorded_parts(kept: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """``Transitions.observation_parts``: empty where the source holds one vector without a name."""
    return tuple(kept.items()) if any(kept) else ()
