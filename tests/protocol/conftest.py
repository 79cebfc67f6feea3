"""The quality protocol's modules, which are scripts beside the package."""

from __future__ import annotations

import importlib
import importlib.util

import pytest
from helpers import PROTOCOL


@pytest.fixture
def protocol(monkeypatch):
    """The protocol's modules, by name."""
    monkeypatch.syspath_prepend(str(PROTOCOL))
    spec = importlib.util.spec_from_file_location("quality_main", PROTOCOL / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    names = ("tasks", "signals", "results", "goals", "page", "datasets", "scripted")
    return {name: importlib.import_module(name) for name in names} | {"main": main}


@pytest.fixture
def setup(protocol, tmp_path):
    """The whole protocol, with datasets and scores in an empty folder."""
    return protocol["tasks"].Setup(tmp_path, tmp_path, smoke=False)
