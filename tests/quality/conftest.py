"""The board's modules, which are scripts beside the package."""

from __future__ import annotations

import importlib
import importlib.util

import pytest
from helpers import PROTOCOL

MODULES = ("board", "columns", "datasets", "figures", "learners", "page")


@pytest.fixture
def quality(monkeypatch):
    """The board's modules, by name."""
    monkeypatch.syspath_prepend(str(PROTOCOL))
    spec = importlib.util.spec_from_file_location("quality_main", PROTOCOL / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    main = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(main)
    return {name: importlib.import_module(name) for name in MODULES} | {"main": main}
