"""The plain statement of both updates, which lies beside the tests that hold the trainer against it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from reference import bilevel_step, reference_bilevel_state, reference_value_state, value_step

__all__ = ["bilevel_step", "reference_bilevel_state", "reference_value_state", "value_step"]
