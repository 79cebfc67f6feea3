"""The page: what its header says, that it is small, and that no name in the data can break it."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from helpers import make_transitions, write_scores
from made_up import HOSTILE, Made, manifest, row_scores, varied

from vaco_curate.core.scorer import RowScores
from vaco_curate.reporting import figures, render_html, report_facts
from vaco_curate.reporting.about import header, next_steps
from vaco_curate.reporting.episodes import DRAWN, LISTED, Grouping
from vaco_curate.reporting.html import number
from vaco_curate.reporting.projection import sample_observations

LARGEST = 1_500_000
"""Bytes of a page."""


def page_data(page: str) -> dict:
    return json.loads(re.search(r'id="report-data">(.*?)</script>', page, re.S)[1])


@pytest.fixture(scope="module")
def page(made: Made) -> str:
    return render_html(made.facts, f"{HOSTILE}.vaco")


def test_names_in_the_data_stay_names(page):
    assert page.count("<script") == 3
    assert page.count("</script>") == 3
    assert HOSTILE not in page
    data = page_data(page)
    assert HOSTILE in data["episodes"]["columns"]["group"]
    assert "&lt;/script&gt;" in page


@pytest.mark.parametrize("episodes", [5_000, 40_000])
def test_the_page_of_a_large_dataset_is_small_and_says_what_it_leaves_out(tmp_path, episodes):
    data = varied(episodes, longest=1_000_000 // episodes if episodes > 5_000 else 200)
    scores = write_scores(tmp_path / "scores.parquet", data, row_scores(data))
    facts = report_facts(
        scores,
        manifest(data),
        None,
        {},
        observations=sample_observations(data.pieces(), len(data)),
        grouping=Grouping("operator", ["ada", "somebody with a long name"], np.arange(episodes) % 2),
    )
    page = render_html(facts, "large.vaco")
    assert len(page.encode()) < LARGEST
    assert f"{DRAWN:,} of the {episodes:,} episodes are drawn" in page
    listed = page_data(page)["episodes"]["columns"]
    assert len(listed["episode"]) == LISTED
    assert (f"{LISTED:,} of the {episodes:,} episodes" in page) == (episodes > LISTED)
    score = facts.episodes["score"]
    for extreme in (score.max(), score.min()):
        assert any(value == pytest.approx(extreme, rel=1e-4) for value in listed["score"])


def test_courses_are_kept_to_a_part_in_65536(made, page):
    kept = page_data(page)["courses"]
    values = np.frombuffer(base64.b64decode(kept["scores"]), "<u2")
    decoded = kept["low"] + (kept["high"] - kept["low"]) * values / 65535
    expected = np.concatenate([course.score for course in made.facts.courses])
    np.testing.assert_allclose(decoded, expected, atol=(kept["high"] - kept["low"]) / 65535)


def test_the_header_says_what_was_applied_in_words(made):
    origin = {"folder": "/runs/first.vaco", "manifest": {"sha256": "ab"}, "scorer": [], "fingerprint": "f" * 64}
    described = manifest(made.data, scorer_from=origin)
    facts = {fact.name: f"{fact.value} {fact.more}" for fact in header(described, "2026-11-28T04:39:49+00:00")}
    assert facts["Scorer"].startswith("applied, from the run first.vaco")
    assert "another dataset (fingerprint ffffffffffff)" in facts["Scorer"]
    assert not any("{" in text and "sha256" in text for text in facts.values())
    assert facts["Scored"].startswith("28 November 2026, 04:39 UTC")
    assert facts["Preset"].startswith("quick")
    assert facts["Members"].startswith("mean of 3 scorers")


def test_commands_are_quoted_for_a_shell(made):
    steps = next_steps("a b.vaco", manifest(made.data, members=1))
    assert steps[0].command == "vaco-curate filter 'a b.vaco' --top 10%"
    assert any("--compare 'a b-again.vaco'" in step.command for step in steps)


def test_numbers_are_written_for_people():
    values = (None, 3, 2150.0, 1234567, 1234.56, 0.12345, -41.04, 1e-5, -1e-5)
    assert [number(value) for value in values] == [
        *("-", "3", "2,150", "1,234,567", "1,234.6", "0.123", "-41.0", "0.000", "0.000"),
    ]


def test_every_figure_says_what_to_look_for(made):
    for name, figure in figures(made.facts).items():
        spec = figure.chart.to_dict()
        assert spec["title"], name
        assert figure.caption in spec["description"], name
        assert figure.caption.endswith("."), name


def test_a_report_of_equal_scores_of_one_episode_is_made(tmp_path):
    data = make_transitions(episodes=1)
    zeros = np.zeros(20, np.float32)
    scores = write_scores(tmp_path / "scores.parquet", data, RowScores(zeros, *[zeros] * 4))
    facts = report_facts(scores, manifest(data, members=1, persists_over=None), None, {})
    page = render_html(facts, "one.vaco")
    assert "There is no picture of the observations: the dataset was not read." in page
    assert "There is no advice by learner" in page
