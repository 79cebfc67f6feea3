"""One function for each command: read, compute, write, and return the facts."""

from vaco_curate.stages.apply import apply_scorer
from vaco_curate.stages.convert import ConvertResult, convert_dataset
from vaco_curate.stages.evaluate import EvaluationResult, EvaluationSettings, PolicyResult, evaluate_policy
from vaco_curate.stages.inspect import Inspection, inspect_dataset
from vaco_curate.stages.report import ReportResult, report_run
from vaco_curate.stages.scoring import ScoreResult
from vaco_curate.stages.select import Choice, SelectionResult, filter_dataset, reweight_dataset
from vaco_curate.stages.train import score_dataset
from vaco_curate.stages.verify import Check, Verification, verify_folder

__all__ = [
    "Check",
    "Choice",
    "ConvertResult",
    "EvaluationResult",
    "EvaluationSettings",
    "Inspection",
    "PolicyResult",
    "ReportResult",
    "ScoreResult",
    "SelectionResult",
    "Verification",
    "apply_scorer",
    "convert_dataset",
    "evaluate_policy",
    "filter_dataset",
    "inspect_dataset",
    "report_run",
    "reweight_dataset",
    "score_dataset",
    "verify_folder",
]
