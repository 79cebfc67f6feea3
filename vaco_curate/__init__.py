"""vaco-curate: which rows of an offline-RL dataset are worth learning from.

Names are imported on first use, so that the training core can be imported without the packages that
only reading, writing and evaluation need.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaco_curate.curated import CuratedDataset, load_curated
    from vaco_curate.curation import Cut, Selection
    from vaco_curate.errors import CurateError
    from vaco_curate.evaluation import CloningSettings, Environment
    from vaco_curate.formats import ReadOptions, read_dataset
    from vaco_curate.policy import TrainedPolicy
    from vaco_curate.scorer import Scorer
    from vaco_curate.scores import ScoreTable
    from vaco_curate.stages import (
        EvaluationSettings,
        apply_scorer,
        evaluate_policy,
        filter_dataset,
        inspect_dataset,
        report_run,
        reweight_dataset,
        score_dataset,
    )
    from vaco_curate.streaming import score_stream
    from vaco_curate.training import PRESETS, BilevelSettings, TrainSettings, ValueSettings
    from vaco_curate.transitions import Transitions

_MODULES = {
    "curated": ("CuratedDataset", "load_curated"),
    "curation": ("Cut", "Selection"),
    "errors": ("CurateError",),
    "evaluation": ("CloningSettings", "Environment"),
    "formats": ("ReadOptions", "read_dataset"),
    "policy": ("TrainedPolicy",),
    "scorer": ("Scorer",),
    "scores": ("ScoreTable",),
    "stages": (
        "EvaluationSettings",
        "apply_scorer",
        "evaluate_policy",
        "filter_dataset",
        "inspect_dataset",
        "report_run",
        "reweight_dataset",
        "score_dataset",
    ),
    "streaming": ("score_stream",),
    "training": ("PRESETS", "BilevelSettings", "TrainSettings", "ValueSettings"),
    "transitions": ("Transitions",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "PRESETS",
    "BilevelSettings",
    "CloningSettings",
    "CurateError",
    "CuratedDataset",
    "Cut",
    "Environment",
    "EvaluationSettings",
    "ReadOptions",
    "ScoreTable",
    "Scorer",
    "Selection",
    "TrainSettings",
    "TrainedPolicy",
    "Transitions",
    "ValueSettings",
    "apply_scorer",
    "evaluate_policy",
    "filter_dataset",
    "inspect_dataset",
    "load_curated",
    "read_dataset",
    "report_run",
    "reweight_dataset",
    "score_dataset",
    "score_stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
