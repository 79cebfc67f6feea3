"""What the documents and help texts tell a user to type exists; ``docs/test_pages.py`` runs it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import vaco_curate
from vaco_curate_cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONTEXT = click.Context(main)


def typed_commands(text: str) -> list[list[str]]:
    """Every `vaco-curate ...` on a line or in backticks, split as a shell would."""
    found = re.findall(r"(?:^|[`$]\s*|    )vaco-curate ([^`\n#]+)", text.replace("\\\n", " "), flags=re.M)
    return [shlex.split(command.split("  ")[0]) for command in found]


def check(words: list[str]) -> None:
    command = main.get_command(CONTEXT, words[0])
    assert command is not None, words
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words[1:]:
        if word.startswith("--"):
            assert word in known, f"vaco-curate {words[0]} has no {word}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_commands_in_the_documents_exist(document):
    for words in typed_commands(document.read_text()):
        check(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_in_the_help_exist(name):
    command = main.get_command(CONTEXT, name)
    examples = typed_commands(command.help)
    assert examples
    for words in examples:
        check(words)


def test_the_readme_shows_commands():
    assert len(typed_commands((ROOT / "README.md").read_text())) >= 3


def test_links_in_the_documents_lead_somewhere():
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            assert "://" in target or (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_public_name_is_importable_and_documented():
    for name in vaco_curate.__all__:
        public = getattr(vaco_curate, name)
        assert public.__doc__ or isinstance(public, dict), name


def test_every_public_module_has_a_place_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for room in (".", "core", "core/fast", "core/training", "data", "store"):
        for path in (ROOT / "vaco_curate" / room).iterdir():
            if (path.suffix == ".py" and path.name != "__init__.py") or (path / "__init__.py").is_file():
                assert path.name in text, f"{path.name} of {room} is missing in docs/architecture.md"
