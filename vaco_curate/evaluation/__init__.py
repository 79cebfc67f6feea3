"""Train a policy on weighted data, roll it out, compare."""

from vaco_curate.evaluation.cloning import CloningSettings, clone_policies
from vaco_curate.evaluation.comparisons import COMPARISONS, ComparisonInputs
from vaco_curate.evaluation.rollout import Environment, check_environment, rollout_returns
from vaco_curate.evaluation.statistics import bootstrap_interval, normalized_return, reference_returns

__all__ = [
    "COMPARISONS",
    "CloningSettings",
    "ComparisonInputs",
    "Environment",
    "bootstrap_interval",
    "check_environment",
    "clone_policies",
    "normalized_return",
    "reference_returns",
    "rollout_returns",
]
