"""The examples for other libraries run, and what they draw is counted.

Libraries that need environments of their own are tried by ``make test-adapters``.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from adapters.libraries import EXAMPLES, LIBRARIES
from adapters.trial import check, lines_of_glue, run, tried

HERE = [name for name, library in LIBRARIES.items() if importlib.util.find_spec(library.needs) is not None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_draws_the_rows_as_often_as_their_weights_say(name, folder):
    if name not in HERE:
        pytest.skip(f"{LIBRARIES[name].needs} is not in this environment: make test-adapters has one for it")
    check(tried(name, folder))


def test_a_selection_answers_questions(scored, vaco):
    assert vaco("filter", "--top", "50%", "--out", "half").code == 0
    printed = run(Path(sys.executable), EXAMPLES / "query_selection.py", scored / "half", folder=scored)
    assert "outside the cut" in printed
    assert "2000" in printed


def test_the_table_in_the_documents_is_of_these_examples():
    page = (Path(__file__).parents[2] / "docs" / "learners.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| \[`(\w+\.py)`\][^|]* \| (\d+) \|", page, re.MULTILINE)
    expected = {(one.name, one.example, str(lines_of_glue(one.example))) for one in LIBRARIES.values()}
    assert set(rows) == expected
