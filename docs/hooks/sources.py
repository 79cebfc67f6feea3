"""Links that leave docs/ lead to the linked file: the site carries a copy of each.

On a code host such a link opens the file. In the site text becomes a page with the file's lines, and anything
else is copied as it is.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"\]\((?P<path>(?:\.\./)+[^)#\s]+)\)")
LANGUAGES = {".py": "python", ".c": "c", ".md": "markdown"}
"""Files that are shown as text."""


def on_files(files: Files, *, config: Any) -> None:
    """Add every linked file that is not under docs/."""
    for page in [file for file in files if file.is_documentation_page()]:
        for found in OUTSIDE.finditer(page.content_string):
            path = _outside(page, found["path"])
            if path is not None and files.get_file_from_path(_place(path)) is None:
                files.append(_copy(path, config))


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point such links at the copies."""

    def moved(found: re.Match[str]) -> str:
        path = _outside(page.file, found["path"])
        if path is None:
            return found[0]
        return f"]({posixpath.relpath(_place(path), posixpath.dirname(page.file.src_uri) or '.')})"

    return OUTSIDE.sub(moved, markdown)


def _outside(file: File, target: str) -> str | None:
    """The path from the repository's root of what a page links to; None if it lies in docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(file.src_uri), target))
    return None if path.startswith("docs/") else path


def _place(path: str) -> str:
    return f"source/{path}.md" if Path(path).suffix in LANGUAGES else f"source/{path}"


def _copy(path: str, config: Any) -> File:
    if (language := LANGUAGES.get(Path(path).suffix)) is None:
        return File.generated(config, _place(path), content=(ROOT / path).read_bytes())
    text = (ROOT / path).read_text()
    return File.generated(
        config, _place(path), content=f"# {Path(path).name}\n\n`{path}`\n\n````{language}\n{text}````\n"
    )
