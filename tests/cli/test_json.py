"""docs/reference/json.md names every key of what --json prints, with its type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers import CONFIG

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text()
TYPES = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}


def tables(heading: str) -> list[dict[str, str]]:
    """Types by key of each table below a heading of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = []
    for table in re.findall(r"\| key \|.*\n\|---.*\n((?:\|.*\n)+)", section):
        rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in table.splitlines()]
        found.append({name: kind for names, kind in rows for name in re.findall(r"`([^`]+)`", names)})
    return found


def check(facts: dict, kinds: dict[str, str]) -> None:
    assert facts.keys() == kinds.keys()
    for name, value in facts.items():
        allowed = [
            TYPES[word] for word in re.findall(r"\w+", kinds[name].partition(" of ")[0]) if word in TYPES
        ]
        allowed += [TYPES["null"]] * kinds[name].endswith("null")
        assert any(fits(value) for fits in allowed), (name, kinds[name], value)


EVAL = ("eval", "pendulum.vaco", "--updates", "20", "--seeds", "2", "--episodes", "5")


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("inspect", ("inspect", "pendulum.hdf5")),
        ("score", ("score", "pendulum.hdf5", "--config", "tiny.json", "--out", "a.vaco", "--device", "cpu")),
        ("score", ("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "b.vaco")),
        ("filter and reweight", ("filter", "pendulum.vaco", "--top", "50%", "--dry-run")),
        ("filter and reweight", ("reweight", "pendulum.vaco")),
        ("eval", EVAL),
        ("eval", (*EVAL, "--seeds", "1")),
        ("report", ("report", "pendulum.vaco")),
        ("convert", ("convert", "pendulum.hdf5", "rows")),
        ("verify", ("verify", "pendulum.vaco")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_the_page_names_every_key_and_its_type(vaco, scored, heading, command):
    (scored / "tiny.json").write_text(CONFIG)
    outcome = vaco(*command, "--json")
    assert outcome.code == 0, outcome.stderr
    facts = outcome.json
    (common,) = tables("Every document")
    check({name: facts.pop(name) for name in common}, common)
    kinds, *inner = tables(heading)
    check(facts, kinds)
    if heading == "filter and reweight":
        check(facts["before"], inner[0])
        check(facts["after"], inner[0])
    if heading == "eval":
        check(facts["policies"][0], inner[0])


def test_the_page_names_every_key_of_an_error(vaco, here):
    facts = vaco("filter", "nowhere", "--top", "50%", "--json").json
    flat = {"exit_code": facts["exit_code"]} | {f"error.{key}": value for key, value in facts["error"].items()}
    check(flat, tables("Errors")[0])
