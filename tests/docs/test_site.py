"""What the site is built from is complete: every page, command, setting and public name is in it."""

from __future__ import annotations

import dataclasses
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import vaco_curate
from vaco_curate.curation.advice import ALL_ROWS, BEST, POLICY_ALONE, TOP_10, TOP_25, WEIGHTS
from vaco_curate_cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SETTINGS = ("TrainSettings", "ValueSettings", "BilevelSettings", "ReadOptions", "EvaluationSettings")
WORDS = {
    ALL_ROWS: "all rows",
    WEIGHTS: "weights",
    POLICY_ALONE: "weights for the policy alone",
    TOP_10: "best 10 %",
    TOP_25: "best 25 %",
}
PAGE = re.compile(r": ([\w/-]+\.md)$", re.M)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages as the site's builder gets them."""
    folder = tmp_path_factory.mktemp("site") / "docs"
    subprocess.run([sys.executable, DOCS / "generate", folder], check=True)
    return folder


def test_the_navigation_is_of_all_pages():
    named = PAGE.findall((ROOT / "mkdocs.yml").read_text())
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path.parent.name != "notes"]
    assert sorted(named) == sorted(pages)


def test_the_reference_of_commands_has_every_option(site):
    text, context = (site / "reference" / "cli.md").read_text(), click.Context(main)
    for name in COMMANDS:
        _, _, after = text.partition(f"## {name}\n")
        section = " ".join(after.partition("\n## ")[0].split())
        for parameter in main.get_command(context, name).params:
            if isinstance(parameter, click.Option):
                assert f"`{parameter.opts[0]}" in section, f"{name}: {parameter.opts[0]}"
                assert " ".join(parameter.help.split()).partition("|")[0] in section, parameter.help


def test_the_reference_of_settings_has_every_field(site):
    text = (site / "reference" / "settings.md").read_text()
    for owner in SETTINGS:
        for field in dataclasses.fields(getattr(vaco_curate, owner)):
            assert f"`{field.name}`" in text, f"{owner}.{field.name}"
    assert "<!-- settings" not in text


def test_the_reference_of_python_has_every_public_name():
    text = (DOCS / "reference" / "python.md").read_text()
    missing = [name for name in vaco_curate.__all__ if not re.search(rf"vaco_curate\.{name}\n|`{name}`", text)]
    assert not missing


def test_all_that_the_reference_of_python_shows_is_there():
    shown = re.findall(r"^::: (\S+)$", (DOCS / "reference" / "python.md").read_text(), re.M)
    assert shown
    assert not [name for name in shown if pydoc.locate(name) is None]


def test_the_table_of_weights_and_filters_is_the_advice_of_the_commands():
    text = (DOCS / "howto" / "weights-or-filter.md").read_text()
    for learner in BEST["whole episodes"]:
        cells = [", or ".join(WORDS[column] for column in BEST[kind][learner]) for kind in BEST]
        assert f"| {learner} | {' | '.join(cells)} |" in text


def test_links_of_the_site_stay_in_it(site):
    for page in site.rglob("*.md"):
        if "source" in page.relative_to(site).parts:
            continue
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            inside = (page.parent / target).resolve()
            assert "://" in target or (inside.is_relative_to(site) and inside.exists()), (
                f"{page.name}: {target}"
            )
