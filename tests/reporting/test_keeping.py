"""What the slider says is what ``filter`` would do."""

from __future__ import annotations

import numpy as np
import pytest

from vaco_curate.curation import Candidates, Cut, before_and_after, select
from vaco_curate.reporting.keeping import keeping


def candidates(lengths, value):
    start = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    count = len(lengths)
    goes_on = np.ones(sum(lengths), bool)
    return Candidates(
        np.asarray(value, np.float32), "score", start, np.arange(count) * 10.0, np.arange(count), goes_on
    )


@pytest.mark.parametrize("share", [1, 7, 10, 25, 33, 50, 99, 100])
def test_every_share_keeps_what_select_keeps(made, share):
    kept = keeping(made.candidates)
    cuts = Cut(f"{share}%"), Cut(f"{share}%ep")
    for cut, found in zip(cuts, (kept.rows[share - 1], kept.episodes[share - 1]), strict=True):
        selection = select(made.candidates, cut)
        expected = vars(before_and_after(made.candidates, selection)[1])
        assert vars(found.summary) == {name: pytest.approx(value) for name, value in expected.items()}
        assert found.lowest == selection.cut
    rows, whole = (select(made.candidates, cut).keep for cut in cuts)
    np.testing.assert_array_equal(kept.row_share <= share, rows)
    np.testing.assert_array_equal(np.repeat(kept.episode_share <= share, made.candidates.episode_length), whole)


def test_shares_of_few_episodes_are_rounded_up():
    few = candidates([30, 10], np.repeat([2.0, 1.0], [30, 10]))
    kept = keeping(few)
    assert [one.summary.episodes for one in kept.episodes] == [1] * 50 + [2] * 50
    assert kept.episode_share.tolist() == [1, 51]
    assert kept.rows[9].summary.rows == 4


def test_ties_are_kept_in_the_order_of_the_rows():
    kept = keeping(candidates([2, 2], [1.0, 1.0, 1.0, 1.0]))
    assert kept.row_share.tolist() == [1, 26, 51, 76]
    assert [kept.rows[share - 1].summary.return_mean for share in (50, 75, 100)] == pytest.approx(
        [0, 10 / 3, 5]
    )
