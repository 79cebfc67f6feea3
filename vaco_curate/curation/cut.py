"""What is asked of a selection: how much to keep, and what is kept or dropped as a whole."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any, cast

import numpy as np

from vaco_curate.arguments import real_number, whole_number
from vaco_curate.core.transitions import Array
from vaco_curate.errors import SettingsError


@dataclass(frozen=True)
class Level:
    """What is kept or dropped as a whole: rows, episodes, or windows of some rows of an episode.

    ``Level("transition")``, ``Level("episode")`` or ``Level("window:50")``, which is ``Level("window", 50)``.

    Attributes:
        name: "transition", "episode" or "window".
        window: rows of a window; the last of an episode may have fewer.
    """

    name: str = "transition"
    window: int | None = None

    def __post_init__(self) -> None:
        name, colon, size = str(self.name).partition(":")
        if colon and self.window is None and re.fullmatch(r"[0-9]{1,18}", size):
            object.__setattr__(self, "name", name)
            object.__setattr__(self, "window", int(size))
        known = self.name in ("transition", "episode", "window")
        if not known or (self.name == "window") != (self.window is not None):
            raise SettingsError(f"--level {self}: unknown", fix="give transition, episode, or window:50")
        if self.window is not None and self.window < 1:
            raise SettingsError(f"--level {self}: a window has at least 1 row")

    def __repr__(self) -> str:
        return f'Level("{self}")'

    @property
    def words(self) -> str:
        """What stands behind a rule."""
        if self.window is not None:
            return f", in windows of {self.window} rows"
        return ", in whole episodes" if self.name == "episode" else ""

    def __str__(self) -> str:
        return str(self.name) if self.window is None else f"{self.name}:{self.window}"


TRANSITION, EPISODE = Level("transition"), Level("episode")


@dataclass(frozen=True)
class Cut:
    """Where to cut: exactly one of a share of the rows, a number of rows, episodes, or a value.

    As a string the amount is what the command line takes: ``Cut("50%")``, ``Cut("20000")`` for so many rows,
    ``Cut("80%ep")`` and ``Cut("64ep")`` for whole episodes. A budget alone is a number of rows.

    Attributes:
        share: in (0, 1], exact, so that 10 % of 30 rows is 3 and not 4 by rounding: a float is what it is
            written as, 0.1 a tenth.
        rows: at least 1.
        episodes: a share of the episodes (no whole number), or a number of them; each is kept or dropped as a
            whole.
        threshold: lowest value that is kept; with ``worst`` the highest.
        worst: keep from the other end.
        budget: no more rows than this are kept, the best of those that would be.
    """

    share: Fraction | float | str | None = None
    rows: int | None = None
    episodes: Fraction | float | int | None = None
    threshold: float | None = None
    worst: bool = False
    budget: int | None = None

    def __post_init__(self) -> None:
        option, given = "--bottom" if self.worst else "--top", self.share
        if isinstance(self.share, str):
            name, parsed = parse_amount(self.share, option)
            object.__setattr__(self, "share", None)
            object.__setattr__(self, name, parsed)
        for name in ("rows", "budget"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(getattr(self, name), f"the cut's {name}"))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", real_number(self.threshold, "--threshold"))
        for name in ("share", "episodes"):
            value = getattr(self, name)
            if value is None:
                continue
            if name == "episodes" and isinstance(value, Integral):
                exact: Fraction | int = int(value)
            elif isinstance(value, Rational):
                exact = Fraction(value)
            elif isinstance(value, Real) and math.isfinite(value):
                exact = Fraction(repr(float(value)))
            else:
                raise SettingsError(f"{option} {value} is no share: give a number in (0, 1]")
            object.__setattr__(self, name, exact)
        given_ones = sum(value is not None for value in (self.share, self.rows, self.episodes, self.threshold))
        if given_ones == 0 and self.budget is not None:
            object.__setattr__(self, "rows", self.budget)
        elif given_ones != 1:
            raise SettingsError(
                "a cut is one of a share, a number of rows, episodes, a threshold, or a budget",
                fix='give "50%", "20000" or "80%ep", or one of the others by its name',
            )
        amount, unit = self._amount
        if isinstance(amount, Fraction) and amount > 1:
            raise _more_than_all(option, amount, unit, given)
        if isinstance(amount, Fraction) and amount <= 0:
            none = f"{float(100 * amount):g} % of the {unit}s"
            raise SettingsError(f"{option} is {none}: give a share above 0 % and at most 100 %")
        if isinstance(amount, int) and amount < 1 and not self.is_budget:
            raise SettingsError(f"{option} {amount} keeps nothing: give at least 1 {unit}")
        if self.budget is not None and self.budget < 1:
            raise SettingsError(f"--budget {self.budget} keeps nothing: give at least 1 row")

    def __repr__(self) -> str:
        facts = [] if self.threshold is None else [f"threshold={self.threshold!r}"]
        facts += ["worst=True"] * self.worst
        facts += [] if self.budget is None else [f"budget={self.budget}"]
        return f"Cut({', '.join([*self._given(), *facts])})"

    def _given(self) -> list[str]:
        """The amount as an argument: as text, unless that would round it."""
        amount, unit = self._amount
        if amount is None or self.is_budget:
            return []
        end = "ep" if unit == "episode" else ""
        if isinstance(amount, int):
            return [f'"{amount}{end}"']
        percent = f"{float(100 * amount):.15g}"
        if Fraction(percent) / 100 == amount:
            return [f'"{percent}%{end}"']
        return [f"{'episodes' if end else 'share'}={amount!r}"]

    @property
    def is_budget(self) -> bool:
        """Whether the number of rows is a budget and no other amount."""
        return self.rows is not None and self.rows == self.budget

    @property
    def _amount(self) -> tuple[Fraction | int | None, str]:
        """How much is kept, and of what."""
        if self.episodes is not None:
            return cast(Fraction | int, self.episodes), "episode"
        return (self.rows if self.share is None else cast(Fraction, self.share)), "row"

    def level_of(self, asked: Level) -> Level:
        """The level that is meant: a cut of episodes is of whole ones.

        Raises:
            SettingsError: windows are asked for.
        """
        if self.episodes is None or asked == EPISODE:
            return asked
        if asked != TRANSITION:
            raise SettingsError(f"{self} are whole ones, and --level is {asked}", fix="leave --level out")
        return EPISODE

    def of(self, counts: Array) -> Array:
        """(groups,) rows, or episodes, that may be kept of groups of so many: the same share, rounded up.

        A number is divided among the groups by their sizes, the largest remainders first, so that it is exact.
        """
        amount, _ = self._amount
        if isinstance(amount, Fraction):
            return np.array([math.ceil(amount * int(count)) for count in counts])
        assert amount is not None, "a threshold has no number"
        total = int(counts.sum())
        rows = min(amount, total)
        exact = [Fraction(rows * int(count), max(total, 1)) for count in counts]
        kept = np.array([math.floor(share) for share in exact])
        order = sorted(range(len(exact)), key=lambda group: kept[group] - exact[group])
        kept[order[: rows - int(kept.sum())]] += 1
        return kept

    def to_json(self) -> dict[str, Any]:
        """The request, exactly."""
        facts = dataclasses.asdict(self)
        return {name: str(value) if isinstance(value, Fraction) else value for name, value in facts.items()}

    def __str__(self) -> str:
        end = "bottom" if self.worst else "top"
        amount, unit = self._amount
        if isinstance(amount, Fraction):
            words = f"{end} {float(100 * amount):g}% of the {unit}s"
        elif amount is not None:
            words = f"{end} {amount} {unit}s"
        else:
            words = f"value {'<=' if self.worst else '>='} {self.threshold!r}"
        return words if self.budget is None or self.is_budget else f"{words}, at most {self.budget} rows"


def _more_than_all(option: str, share: Fraction, unit: str, given: object) -> SettingsError:
    """The refusal of a share above 1: as a number, it was meant in percent, or as a count.

    Args:
        given: as what it was given.
    """
    if isinstance(given, str):
        return SettingsError(f"{option} is more than all {unit}s: give a share of at most 100%")
    number, end = f"{float(share):.15g}", "ep" if unit == "episode" else ""
    meant = [f'for {number} % of the {unit}s give "{number}%{end}"'] * (share <= 100)
    meant += [f'for {number} {unit}s give "{number}{end}"'] * (share.denominator == 1)
    return SettingsError(
        f"{option}: as a share, {number} is more than all {unit}s", fix=", ".join(meant) or "give at most 1"
    )


def parse_amount(text: str, option: str) -> tuple[str, Fraction | int]:
    """``50%`` as a share, ``20000`` as rows; with ``ep`` at the end, of episodes.

    Raises:
        SettingsError: it is neither; ``option`` says in the message what was given.
    """
    number = text.strip().lower().removesuffix("ep")
    try:
        amount = Fraction(number[:-1]) / 100 if number.endswith("%") else int(number)
    except (ValueError, ZeroDivisionError):
        share = f"{100 * float(number):.15g}%" if re.fullmatch(r"0?\.[0-9]{1,15}|1\.0*", number) else None
        raise SettingsError(
            f"{option} {text!r} is neither a share such as 50% nor a number of rows such as 20000",
            fix="write digits alone, and % for a share; of whole episodes: 80%ep or 64ep"
            if share is None
            else f"as a share of the rows: {share}, of the episodes: {share}ep",
        ) from None
    if text.strip().lower().endswith("ep"):
        return "episodes", amount
    return ("share" if isinstance(amount, Fraction) else "rows"), amount
