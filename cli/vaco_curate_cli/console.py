"""Text on a terminal that comes from files of others."""

from __future__ import annotations

import textwrap
from typing import Any

from rich.console import Console
from rich.text import Text

from vaco_curate.wording import holds_command


def escaped(text: str) -> str:
    """With what a terminal would obey, and what it cannot show, as Python writes it."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class PlainConsole(Console):
    """A console whose strings are ``escaped``."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As ``Console.render_str``."""
        return super().render_str(escaped(text), **options)

    def say(self, text: str | Text, style: str = "") -> None:
        """Print words; on a terminal, lines are broken between them, but for commands that are to be copied."""
        said = Text(escaped(text), style) if isinstance(text, str) else text
        for line in said.split("\n", allow_blank=True):
            if not self.is_terminal or holds_command(line.plain):
                self.print(line, soft_wrap=True)
                continue
            indent = len(line.plain) - len(line.plain.lstrip(" "))
            for part in _broken(line[indent:], max(self.width - indent, 1)):
                self.print(Text.assemble(" " * indent, part), soft_wrap=True)


def _broken(line: Text, width: int) -> list[Text]:
    """A line broken between words; one that is longer than a line stays whole, so that paths can be copied."""
    parts, end = [], 0
    for words in textwrap.wrap(
        line.plain,
        width,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        expand_tabs=False,
    ):
        begin = line.plain.index(words, end)
        end = begin + len(words)
        parts.append(line[begin:end])
    return parts or [line]
