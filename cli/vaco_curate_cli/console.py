"""Text on a terminal that comes from files of others."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text


def escaped(text: str) -> str:
    """With what a terminal would obey, and what it cannot show, as Python writes it."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class PlainConsole(Console):
    """A console whose strings are ``escaped``."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As ``Console.render_str``."""
        return super().render_str(escaped(text), **options)
