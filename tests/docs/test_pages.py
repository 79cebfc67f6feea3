"""Every command and snippet of the pages runs as printed, in the page's order, in one folder for each page.

Training and cloning are short here. All else is as a reader has it: the commands, the files that
they name (``stand_ins.py``), and the lines that they print, but for their numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from docs.blocks import Block, blocks, shape
from docs.stand_ins import STAND_INS

from vaco_curate.stages import evaluate, train
from vaco_curate_cli.main import main

ROOT = Path(__file__).parents[2]
NOTHING_TO_RUN = {
    *("notes", "architecture", "method", "performance", "quality", "reliability", "scaling"),
    *("cli", "json"),
}
"""Pages without commands of a user: diagrams, equations, measurements and their commands."""

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
RUN = [page for page in PAGES if NOTHING_TO_RUN.isdisjoint((page.stem, page.parent.name))]
SKIPPED_LINE = "..."
SHELL = {"|", ">", "<", "&&", "||", ";"}


@pytest.fixture
def short(monkeypatch) -> None:
    """Few updates of small networks, whatever is asked for; at a high rate, so that values are learned."""
    whole_train, whole_clone = train.train, evaluate.clone_policies

    def small(settings, updates):
        return dataclasses.replace(settings, updates=min(updates, settings.updates), hidden=(32, 32))

    def short_train(data, settings, *rest, **options):
        value = dataclasses.replace(
            small(settings.value, 1_500), learning_rate=1e-3, polyak=0.02, settled_at=None
        )
        settings = dataclasses.replace(settings, value=value, bilevel=small(settings.bilevel, 40))
        return whole_train(data, settings, *rest, **options)

    def short_clone(data, weight, scaling, settings, **options):
        return whole_clone(data, weight, scaling, small(settings, 30), **options)

    monkeypatch.setattr(train, "train", short_train)
    monkeypatch.setattr(evaluate, "clone_policies", short_clone)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_page_runs_as_printed(page, short, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    namespace = STAND_INS.get(page.stem, lambda request: {})(request)
    printed = ""
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.reason:
            continue
        if block.kind == "console":
            run_commands(block, where)
        elif block.kind == "python":
            printed = run_python(block, where, namespace)
        elif block.kind == "text":
            check_lines(block.body.splitlines(), printed, where)
        else:
            assert block.kind == "file", f"{where}: a block of kind {block.kind!r} is neither run nor marked"
            Path(block.title).write_text(block.body)


def run_commands(block: Block, where: str) -> None:
    """Run our commands in this process, and what a shell is needed for in one."""
    for command, lines in block.commands:
        words = shlex.split(command, comments=True)
        if words[0] == "vaco-curate" and SHELL.isdisjoint(words):
            result = CliRunner().invoke(main, words[1:])
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                raise result.exception
            code, output = result.exit_code, result.output
        else:
            done = subprocess.run(
                ["bash", "-ec", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            code, output = done.returncode, done.stdout
        refused = any(line.startswith("Error: ") for line in lines)
        assert code == int(refused), f"{where}: {command}\n{output}"
        check_lines(lines, output, f"{where}: {command}")


def run_python(block: Block, where: str, namespace: dict) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(block.body, where, "exec"), namespace)
    return printed.getvalue()


def check_lines(lines: list[str], output: str, where: str) -> None:
    """The lines are among those of the output, in their order, but for numbers; ``...`` stands for any."""
    left = iter([shape(line) for line in output.splitlines()])
    for line in lines:
        if line.strip() != SKIPPED_LINE:
            assert shape(line) in left, f"{where} does not print, at its place:\n{line}\nbut:\n{output}"


def test_a_page_that_is_wrong_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("x\n\n    vaco-curate inspect absent.hdf5\n\n```console\n$ echo 1 row\n2 rows\n```\n")
    indented, fenced = blocks(page)
    with pytest.raises(AssertionError, match=r"absent\.hdf5"):
        run_commands(indented, "page")
    with pytest.raises(AssertionError, match="2 rows"):
        run_commands(fenced, "page")
