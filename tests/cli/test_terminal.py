"""What a command prints on a terminal, and where none is."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate.errors import CurateError
from vaco_curate_cli.display import Display
from vaco_curate_cli.failures import Failure, Interrupted
from vaco_curate_cli.main import main

TERMINAL = {"FORCE_COLOR": "1", "COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}
LONG = "behavior persists over whole episodes here, so all rows of an episode have the same score and rank"
COMMAND = f"vaco-curate filter {'x' * 70} --top 10% --level episode"


@pytest.fixture
def terminal(monkeypatch):
    for name, value in TERMINAL.items():
        monkeypatch.setenv(name, value)


def printed(capsys) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err).splitlines()


def test_notes_warnings_and_errors_are_broken_between_words(terminal, capsys):
    display = Display()
    display.note(LONG)
    display.warn(LONG)
    Failure(CurateError("no", details=(LONG,), fix=LONG)).show()
    lines = printed(capsys)
    assert max(map(len, lines)) <= 80
    assert len(lines) == 9
    assert all(line.startswith("  ") for line in lines[5:]), "a detail keeps its indent"
    words = " ".join(lines).replace("Warning:", "").replace("Error: no", "").replace("fix:", "").split()
    assert words == 4 * LONG.split()


def test_commands_and_long_paths_are_not_broken(terminal, capsys):
    display = Display()
    display.note(f"next: {COMMAND}")
    Failure(CurateError("no", fix=COMMAND)).show()
    Interrupted(CurateError("interrupted", fix=COMMAND)).show()
    display.warn(f"/{'x' * 100}")
    lines = printed(capsys)
    for line in (f"next: {COMMAND}", f"  fix: {COMMAND}", f"  to go on: {COMMAND}", f"/{'x' * 100}"):
        assert line in lines


def test_lines_stay_whole_where_no_terminal_is(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    display = Display()
    display.note(LONG)
    display.warn(LONG)
    Failure(CurateError("no", details=(LONG,), fix=LONG)).show()
    lines = printed(capsys)
    assert lines == [LONG, f"Warning: {LONG}", "Error: no", f"  {LONG}", f"  fix: {LONG}"]


def test_a_phase_that_settles_says_after_how_many_updates(here):
    write_d4rl(here / "d.hdf5", make_transitions())
    settings = json.loads(CONFIG)
    settings["value"] |= {"updates": 2_000, "polyak": 1.0, "settled_at": 1e-6}
    settings["bilevel"]["updates"] = 0
    (here / "c.json").write_text(json.dumps(settings))
    result = CliRunner().invoke(main, ["score", "d.hdf5", "--config", "c.json"], env=TERMINAL)
    assert result.exit_code == 0, result.stderr
    assert "the value phase settled after " in result.stderr
    assert " of at most 2,000 updates" in result.stderr
