"""Write what the site is built from: ``python docs/generate FOLDER``.

The pages of docs/ go there with the reference of commands and settings in place of its marks, and with copies
of the files outside docs/ that they link to. mkdocs.yml says what is made of the folder.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from commands import reference
from settings import SHOWN, table
from sources import with_copies

DOCS = Path(__file__).parents[1]


def generate(site: Path) -> None:
    """Replace the folder with the pages of the site."""
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(DOCS, site, ignore=shutil.ignore_patterns("generate"))
    marks = {"<!-- commands -->": reference()}
    marks |= {f"<!-- settings: {owner.__name__} -->": table(owner) for owner in SHOWN}
    for page in list(site.rglob("*.md")):
        markdown = with_copies(page.read_text(), page.relative_to(site), site)
        for mark, made in marks.items():
            markdown = markdown.replace(mark, made)
        page.write_text(markdown)


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
