"""Parts of what results say of themselves."""

from __future__ import annotations

from collections.abc import Sized


def counted(count: int, word: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def warned(warnings: Sized, word: str = "warning") -> str:
    """What stands behind the facts of a result: nothing, or how many warnings there are."""
    return f", {counted(len(warnings), word)}" if len(warnings) else ""


def rounded(value: float) -> str:
    """About four digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
