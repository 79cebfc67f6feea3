"""The code blocks of a page: what is run, what it prints there, and why others are not run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(`{3,})(?P<words>[^\n]*)\n(?P<body>.*?)^\1[ ]*$", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n)(?:(?: {4}[^\n]*\n)(?:\n(?= {4}))*)+")
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+?) -->\s*\Z")
TITLE = re.compile(r'title="([^"]+)"')
PROGRAM = re.compile(r"(vaco-curate|VACO_CURATE_\w+=\w+|make|python|pip|sh|docker|eval|lerobot-train) ")
"""What an indented block of commands begins with; others are Python."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        kind: "console", "python", "text" (what the block before prints), or "file".
        body: without the fence and the indentation.
        title: the name of a file.
        reason: why it is not run; empty where it is.
        line: where it begins in the page.
    """

    kind: str
    body: str
    title: str
    reason: str
    line: int

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Each command with the lines that it prints; a block without prompts shows commands alone."""
        body = self.body.replace("\\\n", " ")
        if not re.search(r"^\$ ", body, re.M):
            return [(line, []) for line in body.splitlines() if line.strip()]
        found: list[tuple[str, list[str]]] = []
        for line in body.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            elif line.strip():
                found[-1][1].append(line)
        return found


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in their order."""
    text = page.read_text()
    fences = list(FENCE.finditer(text))
    outside = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    found = [_fenced(text, fence) for fence in fences]
    found += [_indented(outside, part) for part in INDENTED.finditer(outside)]
    return sorted(found, key=lambda block: block.line)


def _fenced(text: str, fence: re.Match[str]) -> Block:
    kind, title = fence["words"].partition(" ")[0], TITLE.search(fence["words"])
    return _block(text, fence.start(), "file" if title else kind, fence["body"], title[1] if title else "")


def _indented(text: str, part: re.Match[str]) -> Block:
    body = re.sub(r"^ {4}", "", part[0], flags=re.M)
    return _block(text, part.start(), "console" if PROGRAM.match(body) else "python", body, "")


def _block(text: str, start: int, kind: str, body: str, title: str) -> Block:
    mark = NOT_RUN.search(text[:start])
    return Block(kind, body, title, mark["reason"] if mark else "", text.count("\n", 0, start) + 1)


def shape(line: str) -> str:
    """A line with its numbers and runs of spaces replaced: what two runs print alike."""
    return " ".join(re.sub(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", "N", line).split())
