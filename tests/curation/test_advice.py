"""What is advised of scores, and where nothing is."""

from __future__ import annotations

import pytest

from vaco_curate.curation.advice import BEST, Standing


def standing(kind, doubted=(), demonstrations=False, success_rate=None, **others):
    facts = {"episodes": 1_000, "effective_share": 0.15, "best_rows": 10} | others
    return Standing(kind, doubted, demonstrations, success_rate, **facts)


@pytest.mark.parametrize("kind", BEST)
def test_the_command_to_begin_with_is_the_first_that_is_advised(kind):
    found = standing(kind)
    (line,) = found.advice
    assert f"for cloning and IQL, {found.proposed} or" in line or f"for cloning, {found.proposed} or" in line
    share, whole = found.share_to_keep
    assert f"filter --top {share}%" in line
    assert not whole


@pytest.mark.parametrize(
    ("found", "proposed"),
    [
        (standing("whole episodes", ("scores",)), None),
        (standing("whole episodes", ("scores", "weights"), demonstrations=True), None),
        (standing("whole episodes", ("weights",)), "filter --top 10%"),
        (standing("some steps", ("weights",)), "filter --top 10%"),
        (standing("whole episodes", demonstrations=True), "filter --top 80%ep"),
        (standing("whole episodes", demonstrations=True, success_rate=0.6), "filter --top 60%ep"),
        (standing(None), "filter --top 10%"),
    ],
)
def test_nothing_is_advised_against_a_warning_or_of_data_that_the_board_lacks(found, proposed):
    assert not found.advice
    assert not found.advised
    assert found.proposed == proposed


@pytest.mark.parametrize(
    ("found", "proposed"),
    [
        (standing("whole episodes", best_rows=50), "filter --top 50%"),
        (standing("whole episodes", ("weights",), best_rows=25), "filter --top 25%"),
        (standing("whole episodes", ("weights",), best_rows=None), "filter --top 80%ep"),
        (
            standing("whole episodes", demonstrations=True, success_rate=0.025, episodes=40),
            "filter --top 25%ep",
        ),
        (standing(None, demonstrations=True, success_rate=0.5, episodes=5), "filter --top 100%ep"),
        (standing("whole episodes", effective_share=0.34), "reweight"),
        (standing("whole episodes", ("weights",), effective_share=0.34), "filter --top 10%"),
    ],
)
def test_what_is_proposed_keeps_enough_episodes_and_all_that_are_good(found, proposed):
    assert found.proposed == proposed
    share, whole = found.share_to_keep
    assert "filter" not in proposed or proposed == f"filter --top {share}%{'ep' * whole}"
