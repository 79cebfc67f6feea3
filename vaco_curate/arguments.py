"""Arguments that Python leaves unchecked: their kinds, and NumPy's numbers as Python's."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import Any

from vaco_curate.errors import SettingsError


def whole_number(given: Any, option: str, least: int = 0) -> int:
    """A whole number as an ``int``.

    Args:
        option: its name on the command line.
        least: the smallest that is allowed.

    Raises:
        SettingsError: another kind of value, or a smaller number.
    """
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or isinstance(given, bool):
        raise SettingsError(f"{option} {given!r} must be a whole number")
    if number < least:
        raise SettingsError(f"{option} {number} must be at least {least}")
    return number


def real_number(given: Any, option: str) -> float:
    """A finite number as a ``float``.

    Raises:
        SettingsError: anything else.
    """
    if isinstance(given, bool) or not isinstance(given, Real) or not math.isfinite(given):
        raise SettingsError(f"{option} {given!r} must be a finite number")
    return float(given)


def several_names(given: Any, option: str) -> tuple[str, ...]:
    """Names as a tuple; a single one may be given for itself.

    Raises:
        SettingsError: something else than names.
    """
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(name, str) for name in names):
        raise SettingsError(f"{option} {given!r}: names are needed", fix='give a list such as ["a", "b"]')
    return names
