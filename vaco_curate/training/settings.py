"""Settings of the two phases. Every default names its source."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vaco_curate.errors import SettingsError
from vaco_curate.networks import PAPER_INPUTS, SCORER_INPUTS

MEASURE_EVERY = 10
"""Updates between measured ones. Measuring all would add a tenth to an update's cost."""


@dataclass(frozen=True)
class ValueSettings:
    """Value phase: IQL's expectile TD learning. Defaults are IQL's for locomotion."""

    updates: int = 30_000  # K1, not published; early stop ends it before (docs/performance.md)
    batch_size: int = 256
    learning_rate: float = 3e-4
    expectile: float = 0.7
    discount: float = 0.99
    polyak: float = 0.005
    hidden: tuple[int, ...] = (256, 256)
    reward_shift: float = 0.0  # AntMaze: -1
    reward_horizon: int | None = None  # IQL: 1000; None: the longest episode (scaling.fit_scaling)
    settled_at: float | None = 0.98  # rank correlation that ends the phase early (training/settling.py)


@dataclass(frozen=True)
class BilevelSettings:
    """Bi-level phase. The paper's values where published; departures are switches, off in ``paper``.

    Attributes:
        updates: K2.
        inputs: what the meta-scoring network sees, of ``networks.SCORER_INPUTS``.
        noise: standard deviation of the upper level's noise, at the first and the last update, in
            normalized units; it falls linearly over the planned updates, so that a phase which ends early
            (``settled_at``) ends with some noise left.
        noise_on: the paper's poster has the noise on the state, other summaries on the action.
        standardize_q: show the network Q with mean 0 and deviation 1 over the data, instead of in scaled
            reward units.
        activation: how the weight follows from the network's output, a key of ``losses.LOG_WEIGHT``.
        score_bound: largest absolute output of the network; None for a linear one.
        normalize_weights: divide weights by their batch mean, so that rows compete.
        standardize_alignment: divide alignments by their deviation in the batch.
        divergence_coefficient: of KL(prior w || prior) in the upper level; 0 leaves it out.
        data_divergence_coefficient: of KL(w || 1), over all rows of the data alike: holds w to one on rows that
            the prior leaves without weight; 0 leaves it out.
        prior: the base measure that the network's weight multiplies: "uniform", or "advantage": the exponential
            of the advantage of the trajectory around a row (prior.py).
        upper_states: which states the policy's value is averaged over: "data", as in the paper, or "prior".
        prior_sample_size: effective sample size of "advantage", as a share of the rows; larger where many rows
            are nearly as good as the best, smaller where few are far better (prior.inverse_temperature_for).
        scorer_average: share of itself that the average of the scorer's parameters, which is exported, keeps in
            an update; 0 exports the last scorer.
        merge_value_updates: the paper's appendix: a value update before every bi-level update.
        settled_at: as in ``ValueSettings``.
    """

    updates: int = 6_000  # K2, not published; likewise
    batch_size: int = 256
    policy_learning_rate: float = 3e-4
    scorer_learning_rate: float = 3e-4  # published: 3e-5, which needs ten times the updates
    hidden: tuple[int, ...] = (256, 256)
    noise: tuple[float, float] = (0.2, 0.0)
    noise_on: Literal["state", "action"] = "state"
    inputs: tuple[str, ...] = PAPER_INPUTS
    standardize_q: bool = True
    activation: Literal["exp", "sigmoid"] = "exp"
    score_bound: float | None = 5.0
    normalize_weights: bool = True
    standardize_alignment: bool = True
    divergence_coefficient: float = 10.0
    data_divergence_coefficient: float = 1.0
    prior: Literal["advantage", "uniform"] = "advantage"
    prior_sample_size: float = 0.15
    upper_states: Literal["data", "prior"] = "prior"
    scorer_average: float = 0.0
    merge_value_updates: bool = False
    settled_at: float | None = 0.995


@dataclass(frozen=True)
class TrainSettings:
    """Everything that, with the data, the seeds and the device, decides the result of a run.

    Attributes:
        matmul_precision: of the products between hidden layers, in torch's words: "highest" is float32,
            "high" lets CUDA use TF32, "medium" also lets a CPU use its bfloat16 matrix units. Sums,
            parameters, and the first and last layers are float32 in all (docs/performance.md).
    """

    value: ValueSettings = field(default_factory=ValueSettings)
    bilevel: BilevelSettings = field(default_factory=BilevelSettings)
    matmul_precision: Literal["highest", "high", "medium"] = "medium"
    log_every: int = 500
    checkpoint_every: int = 5_000

    def __post_init__(self) -> None:
        _check(self)

    def to_json(self) -> dict[str, Any]:
        """Nested JSON values; ``settings_from_json`` reads them back."""
        facts: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return facts


def settings_from_json(facts: Mapping[str, Any], base: TrainSettings) -> TrainSettings:
    """``base`` with the given values in place of its own.

    Args:
        facts: any part of what ``TrainSettings.to_json`` gives.

    Raises:
        SettingsError: an unknown name, a value of the wrong type, or one out of range.
    """
    settings: TrainSettings = _override(base, facts, "")
    return settings


def _override(base: Any, facts: Mapping[str, Any], where: str) -> Any:
    names = {f.name for f in dataclasses.fields(base)}
    changes: dict[str, Any] = {}
    for name, value in facts.items():
        if name not in names:
            raise SettingsError(
                f"unknown setting {where}{name}", details=(f"known: {', '.join(sorted(names))}",)
            )
        current = getattr(base, name)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, Mapping):
                raise SettingsError(f"setting {where}{name} must be an object of settings, not {value!r}")
            changes[name] = _override(current, value, f"{where}{name}.")
        else:
            changes[name] = _typed(type(base), name, value, where)
    return dataclasses.replace(base, **changes)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
}


def _typed(owner: type, name: str, value: Any, where: str) -> Any:
    declared = next(f.type for f in dataclasses.fields(owner) if f.name == name)
    assert isinstance(declared, str)
    if declared.startswith("tuple["):
        element = declared.removeprefix("tuple[").split(",")[0]
        if not isinstance(value, (list, tuple)) or not all(_is(v, _TYPES[element]) for v in value):
            raise SettingsError(f"setting {where}{name} must be a list of {element}, not {value!r}")
        return tuple(value)
    if declared.startswith("Literal["):
        return value  # _check names the choices
    if not _is(value, _TYPES[declared]):
        raise SettingsError(f"setting {where}{name} must be a finite {declared}, not {value!r}")
    return value


def _is(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _check(settings: TrainSettings) -> None:
    value, bilevel = settings.value, settings.bilevel
    rules = (
        ("value.updates", value.updates, value.updates >= 1 or bilevel.merge_value_updates, ">= 1"),
        ("value.batch_size", value.batch_size, value.batch_size >= 1, ">= 1"),
        ("value.learning_rate", value.learning_rate, value.learning_rate > 0, "> 0"),
        ("value.expectile", value.expectile, 0 < value.expectile < 1, "between 0 and 1"),
        ("value.discount", value.discount, 0 <= value.discount < 1, "in [0, 1)"),
        ("value.polyak", value.polyak, 0 < value.polyak <= 1, "in (0, 1]"),
        ("value.hidden", value.hidden, _sizes(value.hidden), "layer sizes >= 1"),
        (
            "value.reward_horizon",
            value.reward_horizon,
            value.reward_horizon is None or value.reward_horizon >= 1,
            ">= 1 or null",
        ),
        (
            "value.settled_at",
            value.settled_at,
            value.settled_at is None or 0 < value.settled_at <= 1,
            "in (0, 1] or null",
        ),
        (
            "bilevel.settled_at",
            bilevel.settled_at,
            bilevel.settled_at is None or 0 < bilevel.settled_at <= 1,
            "in (0, 1] or null",
        ),
        ("bilevel.updates", bilevel.updates, bilevel.updates >= 1, ">= 1"),
        ("bilevel.batch_size", bilevel.batch_size, bilevel.batch_size >= 2, ">= 2, rows compete in a batch"),
        ("bilevel.policy_learning_rate", bilevel.policy_learning_rate, bilevel.policy_learning_rate > 0, "> 0"),
        ("bilevel.scorer_learning_rate", bilevel.scorer_learning_rate, bilevel.scorer_learning_rate > 0, "> 0"),
        ("bilevel.hidden", bilevel.hidden, _sizes(bilevel.hidden), "layer sizes >= 1"),
        (
            "bilevel.noise",
            bilevel.noise,
            len(bilevel.noise) == 2 and min(bilevel.noise) >= 0,
            "two values >= 0",
        ),
        ("bilevel.noise_on", bilevel.noise_on, bilevel.noise_on in ("state", "action"), "state or action"),
        ("bilevel.activation", bilevel.activation, bilevel.activation in ("exp", "sigmoid"), "exp or sigmoid"),
        (
            "bilevel.score_bound",
            bilevel.score_bound,
            bilevel.score_bound is None or bilevel.score_bound > 0,
            "> 0 or null",
        ),
        (
            "bilevel.divergence_coefficient",
            bilevel.divergence_coefficient,
            bilevel.divergence_coefficient >= 0,
            ">= 0",
        ),
        (
            "bilevel.data_divergence_coefficient",
            bilevel.data_divergence_coefficient,
            bilevel.data_divergence_coefficient >= 0,
            ">= 0",
        ),
        ("bilevel.prior", bilevel.prior, bilevel.prior in ("advantage", "uniform"), "advantage or uniform"),
        (
            "bilevel.upper_states",
            bilevel.upper_states,
            bilevel.upper_states in ("data", "prior"),
            "data or prior",
        ),
        ("bilevel.scorer_average", bilevel.scorer_average, 0 <= bilevel.scorer_average < 1, "in [0, 1)"),
        (
            "bilevel.merge_value_updates",
            bilevel.merge_value_updates,
            not bilevel.merge_value_updates or bilevel.prior == "uniform",
            "false unless bilevel.prior is uniform: TD errors need finished values",
        ),
        (
            "bilevel.inputs",
            bilevel.inputs,
            len(bilevel.inputs) > 0
            and bilevel.inputs == tuple(n for n in SCORER_INPUTS if n in bilevel.inputs),
            f"some of {', '.join(SCORER_INPUTS)}, in this order",
        ),
        (
            "bilevel.inputs",
            bilevel.inputs,
            not (bilevel.merge_value_updates and "value" in bilevel.inputs),
            "without value while values still learn (merge_value_updates)",
        ),
        (
            "bilevel.standardize_q",
            bilevel.standardize_q,
            bilevel.standardize_q or not bilevel.merge_value_updates,
            "true while values still learn (merge_value_updates)",
        ),
        (
            "bilevel.prior_sample_size",
            bilevel.prior_sample_size,
            0 < bilevel.prior_sample_size < 1,
            "in (0, 1)",
        ),
        (
            "matmul_precision",
            settings.matmul_precision,
            settings.matmul_precision in ("highest", "high", "medium"),
            "highest, high or medium",
        ),
        (
            "log_every",
            settings.log_every,
            settings.log_every >= 1 and settings.log_every % MEASURE_EVERY == 0,
            f"a multiple of {MEASURE_EVERY}, for every so many updates one is measured",
        ),
        (
            "checkpoint_every",
            settings.checkpoint_every,
            settings.checkpoint_every >= 1 and settings.checkpoint_every % settings.log_every == 0,
            "a multiple of log_every",
        ),
    )
    for name, given, holds, rule in rules:
        if not holds:
            raise SettingsError(f"setting {name} is {given!r}, it must be {rule}")


def _sizes(hidden: tuple[int, ...]) -> bool:
    return len(hidden) > 0 and min(hidden) >= 1
