"""Links that leave docs/ lead to the linked file: the site carries a copy of each.

On a code host such a link opens the file. In the site text becomes a page with the file's lines, and anything
else is copied as it is.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)\)")
LANGUAGES = {".py": "python", ".c": "c", ".md": "markdown"}
"""Files that are shown as text."""

UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
"""What keeps a page out of the search."""


def with_copies(markdown: str, page: Path, site: Path) -> str:
    """A page whose links that leave docs/ point at copies of the files, which are written.

    Args:
        markdown: the page.
        page: its path in docs/.
        site: folder of the site's pages.
    """

    def moved(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", page.parent, found["path"]))
        if path.startswith("docs/"):
            return found[0]
        return f"]({posixpath.relpath(_copy(path, site), page.parent)})"

    return OUTSIDE.sub(moved, markdown)


def _copy(path: str, site: Path) -> str:
    """Write a file of the repository into the site; its place there."""
    language = LANGUAGES.get(Path(path).suffix)
    place = f"source/{path}" if language is None else f"source/{path}.md"
    (site / place).parent.mkdir(parents=True, exist_ok=True)
    if language is None:
        (site / place).write_bytes((ROOT / path).read_bytes())
    else:
        text = (ROOT / path).read_text()
        (site / place).write_text(
            f"{UNSEARCHED}# {Path(path).name}\n\n`{path}`\n\n````{language}\n{text}````\n"
        )
    return place
