"""Settings of the two phases. Every default names its source."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vaco_curate.errors import SettingsError

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
    settled_at: float | None = 0.98  # rank correlation that ends the phase early (training/settling.py)


@dataclass(frozen=True)
class BilevelSettings:
    """Bi-level phase. The paper's values where published.

    Attributes:
        updates: K2; 0 leaves the phase out, and with it the network's own score.
        noise: standard deviation of the noise on the upper level's states, at the first and the last update, in
            normalized units; it falls linearly over the planned updates, so that a phase which ends early
            (``settled_at``) ends with some noise left.
        settled_at: as in ``ValueSettings``.
    """

    updates: int = 6_000  # K2, not published; likewise
    batch_size: int = 256
    policy_learning_rate: float = 3e-4
    scorer_learning_rate: float = 3e-4  # published: 3e-5, which needs ten times the updates
    hidden: tuple[int, ...] = (256, 256)
    noise: tuple[float, float] = (0.2, 0.0)
    settled_at: float | None = 0.995


@dataclass(frozen=True)
class TrainSettings:
    """Everything that, with the data, the seeds and the device, decides the result of a run.

    Attributes:
        sample_size: effective sample size of the score's weights, as a share of the rows; larger where many
            rows are nearly as good as the best, smaller where few are far better
            (``trajectory_score.inverse_temperature_for``).
        matmul_precision: of the products between hidden layers, in torch's words: "highest" is float32,
            "high" lets CUDA use TF32, "medium" also lets a CPU multiply in bfloat16. Sums,
            parameters, and the first and last layers are float32 in all (docs/performance.md).
    """

    value: ValueSettings = field(default_factory=ValueSettings)
    bilevel: BilevelSettings = field(default_factory=BilevelSettings)
    sample_size: float = 0.15
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
    return isinstance(value, types) and not isinstance(value, bool)


def _check(settings: TrainSettings) -> None:
    value, bilevel = settings.value, settings.bilevel
    rules = (
        ("value.updates", value.updates, value.updates >= 1, ">= 1"),
        ("value.batch_size", value.batch_size, value.batch_size >= 1, ">= 1"),
        ("value.learning_rate", value.learning_rate, value.learning_rate > 0, "> 0"),
        ("value.expectile", value.expectile, 0 < value.expectile < 1, "between 0 and 1"),
        ("value.discount", value.discount, 0 <= value.discount < 1, "in [0, 1)"),
        ("value.polyak", value.polyak, 0 < value.polyak <= 1, "in (0, 1]"),
        ("value.hidden", value.hidden, _sizes(value.hidden), "layer sizes >= 1"),
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
        ("bilevel.updates", bilevel.updates, bilevel.updates >= 0, ">= 0"),
        ("bilevel.batch_size", bilevel.batch_size, bilevel.batch_size >= 1, ">= 1"),
        ("bilevel.policy_learning_rate", bilevel.policy_learning_rate, bilevel.policy_learning_rate > 0, "> 0"),
        ("bilevel.scorer_learning_rate", bilevel.scorer_learning_rate, bilevel.scorer_learning_rate > 0, "> 0"),
        ("bilevel.hidden", bilevel.hidden, _sizes(bilevel.hidden), "layer sizes >= 1"),
        (
            "bilevel.noise",
            bilevel.noise,
            len(bilevel.noise) == 2 and min(bilevel.noise) >= 0,
            "two values >= 0",
        ),
        ("sample_size", settings.sample_size, 0 < settings.sample_size < 1, "in (0, 1)"),
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
