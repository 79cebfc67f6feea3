"""What is advised of scores, and where nothing is."""

from __future__ import annotations

import pytest

from vaco_curate.curation.advice import BEST, Standing


@pytest.mark.parametrize("kind", BEST)
def test_the_command_to_begin_with_is_the_first_that_is_advised(kind):
    standing = Standing(kind, (), demonstrations=False)
    (line,) = standing.advice
    assert (
        f"for cloning and IQL, {standing.proposed} or" in line or f"for cloning, {standing.proposed} or" in line
    )
    share, whole = standing.share_to_keep
    assert f"filter --top {share}%" in line
    assert not whole


@pytest.mark.parametrize(
    ("standing", "proposed"),
    [
        (Standing("whole episodes", ("scores",), demonstrations=False), None),
        (Standing("whole episodes", ("scores", "weights"), demonstrations=True), None),
        (Standing("whole episodes", ("weights",), demonstrations=False), "filter --top 80%ep"),
        (Standing("whole episodes", (), demonstrations=True), "filter --top 80%ep"),
        (Standing(None, (), demonstrations=False), "filter --top 10%"),
    ],
)
def test_nothing_is_advised_against_a_warning_or_of_data_that_the_board_lacks(standing, proposed):
    assert not standing.advice
    assert not standing.advised
    assert standing.proposed == proposed
