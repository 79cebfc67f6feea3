"""vaco-curate: which rows of an offline-RL dataset are worth learning from.

Names are imported on first use, so that the training core can be imported without the packages that
only reading, writing and evaluation need.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaco_curate.adapters.curated import CuratedDataset, load_curated
    from vaco_curate.adapters.decisions import kept_episodes, load_weights
    from vaco_curate.core.policy import TrainedPolicy
    from vaco_curate.core.scorer import Scorer
    from vaco_curate.core.training.presets import PRESETS
    from vaco_curate.core.training.settings import BilevelSettings, TrainSettings, ValueSettings
    from vaco_curate.core.transitions import Transitions
    from vaco_curate.curation import EPISODE, TRANSITION, Cut, Level, Selection
    from vaco_curate.data.formats import Dataset, ReadOptions, open_dataset, read_dataset
    from vaco_curate.data.scores import ScoreTable
    from vaco_curate.errors import CurateError
    from vaco_curate.evaluation import CloningSettings, Environment
    from vaco_curate.stages.apply import apply_scorer
    from vaco_curate.stages.convert import convert_dataset
    from vaco_curate.stages.evaluate import EvaluationSettings, evaluate_policy
    from vaco_curate.stages.inspect import inspect_dataset
    from vaco_curate.stages.report import report_figures, report_run
    from vaco_curate.stages.runs import load_scores
    from vaco_curate.stages.select import filter_dataset, reweight_dataset
    from vaco_curate.stages.streaming import score_stream
    from vaco_curate.stages.train import score_dataset
    from vaco_curate.stages.verify import verify_folder

_MODULES = {
    "adapters.curated": ("CuratedDataset", "load_curated"),
    "adapters.decisions": ("kept_episodes", "load_weights"),
    "curation": ("EPISODE", "TRANSITION", "Cut", "Level", "Selection"),
    "errors": ("CurateError",),
    "evaluation": ("CloningSettings", "Environment"),
    "data.formats": ("Dataset", "ReadOptions", "open_dataset", "read_dataset"),
    "core.policy": ("TrainedPolicy",),
    "core.scorer": ("Scorer",),
    "data.scores": ("ScoreTable",),
    "stages.apply": ("apply_scorer",),
    "stages.convert": ("convert_dataset",),
    "stages.evaluate": ("EvaluationSettings", "evaluate_policy"),
    "stages.inspect": ("inspect_dataset",),
    "stages.report": ("report_figures", "report_run"),
    "stages.runs": ("load_scores",),
    "stages.select": ("filter_dataset", "reweight_dataset"),
    "stages.train": ("score_dataset",),
    "stages.verify": ("verify_folder",),
    "stages.streaming": ("score_stream",),
    "core.training.presets": ("PRESETS",),
    "core.training.settings": ("BilevelSettings", "TrainSettings", "ValueSettings"),
    "core.transitions": ("Transitions",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "EPISODE",
    "PRESETS",
    "TRANSITION",
    "BilevelSettings",
    "CloningSettings",
    "CurateError",
    "CuratedDataset",
    "Cut",
    "Dataset",
    "Environment",
    "EvaluationSettings",
    "Level",
    "ReadOptions",
    "ScoreTable",
    "Scorer",
    "Selection",
    "TrainSettings",
    "TrainedPolicy",
    "Transitions",
    "ValueSettings",
    "apply_scorer",
    "convert_dataset",
    "evaluate_policy",
    "filter_dataset",
    "inspect_dataset",
    "kept_episodes",
    "load_curated",
    "load_scores",
    "load_weights",
    "open_dataset",
    "read_dataset",
    "report_figures",
    "report_run",
    "reweight_dataset",
    "score_dataset",
    "score_stream",
    "verify_folder",
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("vaco-curate")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
