"""Fixtures for what is reported of a scored dataset."""

from __future__ import annotations

import pytest
from made_up import Made, made_up


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Made:
    """A scored dataset that was made up, and its facts."""
    return made_up(tmp_path_factory.mktemp("made"))
