"""The table of docs/formats.md, made of the cases.

python tests/field/table.py     write it into the page
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from field import d4rl_cases, lerobot_cases, ogbench_cases, parquet_cases, robomimic_cases
from field.episodes import CASES

MODULES = (d4rl_cases, lerobot_cases, ogbench_cases, parquet_cases, robomimic_cases)

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
BEGIN, END = "<!-- cases: python tests/field/table.py -->\n", "<!-- end of cases -->\n"


def table() -> str:
    """Rows in the order in which the cases are defined, whichever module was imported first."""
    cases = [case for module in MODULES for case in CASES.values() if case.make.__module__ == module.__name__]
    rows = [f"| {case.situation} | {case.outcome} | {case.source} |" for case in cases]
    return "\n".join(["| what people have | what happens | seen in |", "|---|---|---|", *rows, ""])


def with_table(page: str) -> str:
    """The page with the table of today."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
