"""Coverage of the observations in two dimensions."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_transitions

from vaco_curate.reporting import projection
from vaco_curate.reporting.projection import ObservationSample, project, sample_observations


def plane(count=400):
    """Points of a grid in a plane within five dimensions, of which one is constant."""
    side = np.linspace(-1, 1, int(np.sqrt(count)))
    x, y = (axis.reshape(-1) for axis in np.meshgrid(side, side))
    observation = np.stack([3 * x + 7, 2 * y, np.full_like(x, 5.0), x, x], axis=1)
    return ObservationSample(np.arange(len(x)), observation), x, y


def test_the_two_directions_of_a_plane_are_found():
    sample, x, y = plane()
    found = project(sample, np.ones(len(x)), np.ones(len(x)))
    assert found.explained == pytest.approx((0.75, 0.25))
    assert abs(np.corrcoef(found.place[:, 0], x)[0, 1]) == pytest.approx(1)
    assert abs(np.corrcoef(found.place[:, 1], y)[0, 1]) == pytest.approx(1)


def test_coverage_is_the_share_of_cells_that_kept_rows_reach(monkeypatch):
    monkeypatch.setattr(projection, "CELLS", 2)
    sample, x, y = plane()
    quarter = (x > 0) & (y > 0)
    row_share = np.where(quarter, 10, np.where(x > 0, 60, 100))
    found = project(sample, row_share, np.full(len(x), 255))
    assert [found.by_row[share - 1] for share in (9, 10, 59, 60, 99, 100)] == [0, 0.25, 0.25, 0.5, 0.5, 1]
    assert found.by_episode == [0.0] * 100


def test_equal_observations_have_no_directions_and_one_dimension_has_one():
    rows = np.arange(10)
    assert project(ObservationSample(rows, np.ones((10, 3))), rows, rows) is None
    line = project(ObservationSample(rows, rows[:, None].astype(float)), rows + 1, rows + 1)
    assert line.explained == pytest.approx((1, 0))
    assert not line.place[:, 1].any()


def test_a_sample_is_of_the_rows_that_it_names(monkeypatch):
    monkeypatch.setattr(projection, "SAMPLE_ROWS", 50)
    data = make_transitions(episodes=30)
    sample = sample_observations((data.part(row, row + 100) for row in range(0, 600, 100)), 600)
    assert len(sample.row) == len(np.unique(sample.row)) == 50
    np.testing.assert_array_equal(sample.observation, data.observation[sample.row])
