"""The reference of commands, made of click's own help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from vaco_curate_cli.main import main

NAMES = re.compile(r"--?[\w-]+(?:, --?[\w-]+)*")
BLOCK = "\b\n"
"""Click's mark of a paragraph whose lines stay as they are."""


def reference() -> str:
    """Every command, in the order of use."""
    root = click.Context(main, info_name="vaco-curate", **main.context_settings)
    sections = []
    for name in main.list_commands(root):
        command = main.get_command(root, name)
        assert command is not None
        sections += [*_section(command, click.Context(command, info_name=name, parent=root)), ""]
    return "\n".join([*sections, main.epilog or ""])


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {command.name}"
    yield f"\n```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield from map(_paragraph, inspect.cleandoc(command.help or "").split("\n\n"))
    yield "| option | meaning |\n|---|---|"
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            yield f"| {_option(record[0])} | {_cell(record[1])} |"


def _paragraph(text: str) -> str:
    """A paragraph, a list of presets, or examples."""
    if not text.startswith(BLOCK):
        return f"{text}\n"
    title, *lines = text.removeprefix(BLOCK).splitlines()
    body = inspect.cleandoc("\n" + "\n".join(lines))
    language = "console" if title.startswith("Example") else "text"
    if language == "console":
        body = "\n".join(f"$ {line}" for line in body.splitlines())
    return f"{title}\n\n```{language}\n{body}\n```\n"


def _option(text: str) -> str:
    """``-h, --help`` or ``--by [score|return]``: the names, and below them what is given to them."""
    names = NAMES.match(text)
    assert names is not None
    value = _cell(text[names.end() :].strip(" []").replace("|", " | "))
    return f"`{names[0]}`<br>{value}" if value else f"`{names[0]}`"


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")
