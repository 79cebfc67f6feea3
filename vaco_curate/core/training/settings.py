"""Settings of the two phases. Every default names its source."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from vaco_curate.errors import SettingsError

MEASURE_EVERY = 10
"""Updates between measured ones. Measuring all would add a tenth to an update's cost."""


@dataclass(frozen=True)
class Rule:
    """What a setting must be."""

    words: str
    holds: Callable[[Any], bool]


AT_LEAST_ONE = Rule(">= 1", lambda value: value >= 1)
POSITIVE = Rule("> 0", lambda value: value > 0)
SIZES = Rule("layer sizes >= 1", lambda hidden: len(hidden) > 0 and min(hidden) >= 1)
CORRELATION = Rule("in (0, 1] or null", lambda value: value is None or 0 < value <= 1)
PRECISIONS = ("highest", "high", "medium")


def setting(default: Any, rule: Rule) -> Any:
    """A field with its rule."""
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True)
class ValueSettings:
    """Value phase: IQL's expectile TD learning. Defaults are IQL's for locomotion.

    Attributes:
        updates: the most that are made; the phase ends earlier where ``settled_at`` is reached.
        batch_size: rows of an update.
        learning_rate: of Adam, for V and both critics.
        expectile: of Q that V is fitted to; larger is closer to the best action of the data.
        discount: of the value after a step.
        polyak: share of the critics that their targets take on after an update.
        hidden: units of each hidden layer.
        reward_shift: added to every reward before it is scaled; -1 for AntMaze.
        settled_at: rank correlation of successive looks at the order of the rows from which the order counts as
            settled; null makes all updates.
    """

    updates: int = setting(30_000, AT_LEAST_ONE)  # K1, not published; early stop (docs/performance.md)
    batch_size: int = setting(256, AT_LEAST_ONE)
    learning_rate: float = setting(3e-4, POSITIVE)
    expectile: float = setting(0.7, Rule("between 0 and 1", lambda value: 0 < value < 1))
    discount: float = setting(0.99, Rule("in [0, 1)", lambda value: 0 <= value < 1))
    polyak: float = setting(0.005, Rule("in (0, 1]", lambda value: 0 < value <= 1))
    hidden: tuple[int, ...] = setting((256, 256), SIZES)
    reward_shift: float = 0.0
    settled_at: float | None = setting(0.98, CORRELATION)  # ends the phase early (training/settling.py)


@dataclass(frozen=True)
class BilevelSettings:
    """Bi-level phase. The paper's values where published.

    Attributes:
        updates: the most that are made; 0 leaves the phase out, and with it the column ``vaco_score``.
        batch_size: rows of an update.
        policy_learning_rate: of Adam, for the cloned policy of the lower level.
        scorer_learning_rate: of Adam, for the network that weights rows.
        hidden: units of each hidden layer.
        noise: standard deviation of the noise on the upper level's states, at the first and the last update, in
            normalized units; it falls linearly over the planned updates, so that a phase which ends early
            (``settled_at``) ends with some noise left.
        settled_at: as in ``ValueSettings``.
    """

    updates: int = setting(6_000, Rule(">= 0", lambda value: value >= 0))  # K2, not published; likewise
    batch_size: int = setting(256, AT_LEAST_ONE)
    policy_learning_rate: float = setting(3e-4, POSITIVE)
    scorer_learning_rate: float = setting(3e-4, POSITIVE)  # published: 3e-5, which needs ten times the updates
    hidden: tuple[int, ...] = setting((256, 256), SIZES)
    noise: tuple[float, float] = setting(
        (0.2, 0.0), Rule("two values >= 0", lambda noise: len(noise) == 2 and min(noise) >= 0)
    )
    settled_at: float | None = setting(0.995, CORRELATION)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that, with the data, the seeds and the device, decides the result of a run.

    Attributes:
        value: of the value phase.
        bilevel: of the bi-level phase.
        sample_size: effective sample size of the score's weights, as a share of the rows; larger where many
            rows are nearly as good as the best, smaller where few are far better
            (``trajectory_score.inverse_temperature_for``).
        matmul_precision: of the products between hidden layers, in torch's words: "highest" is float32,
            "high" lets CUDA use TF32, "medium" also lets a CPU multiply in bfloat16. Sums,
            parameters, and the first and last layers are float32 in all (docs/performance.md).
        log_every: updates between rows of ``metrics.parquet``.
        checkpoint_every: updates between checkpoints, from which ``resume`` goes on; one is also written
            where a minute has passed without.
    """

    value: ValueSettings = field(default_factory=ValueSettings)
    bilevel: BilevelSettings = field(default_factory=BilevelSettings)
    sample_size: float = setting(0.15, Rule("in (0, 1)", lambda value: 0 < value < 1))
    matmul_precision: Literal["highest", "high", "medium"] = setting(
        "medium", Rule("highest, high or medium", PRECISIONS.__contains__)
    )
    log_every: int = setting(
        500,
        Rule(
            f"a multiple of {MEASURE_EVERY}, for every so many updates one is measured",
            lambda value: value >= 1 and value % MEASURE_EVERY == 0,
        ),
    )
    checkpoint_every: int = setting(5_000, AT_LEAST_ONE)

    def __post_init__(self) -> None:
        _check(self)
        if self.checkpoint_every % self.log_every:
            raise SettingsError(
                f"setting checkpoint_every is {self.checkpoint_every}, it must be a multiple of log_every"
            )

    def __repr__(self) -> str:
        from vaco_curate.core.training.presets import PRESETS  # which are made of this

        name = next((name for name, preset in PRESETS.items() if preset == self), None)
        if name is not None:
            return f"<TrainSettings: preset {name}>"
        given = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
        return f"TrainSettings({', '.join(given)})"

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
    plain = value.item() if isinstance(value, np.generic) else value
    if not _is(plain, _TYPES[declared]):
        raise SettingsError(f"setting {where}{name} must be a finite {declared}, not {value!r}")
    return plain


def _is(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False
    return isinstance(value, types) and not isinstance(value, bool)


def _check(settings: Any, where: str = "") -> None:
    """Hold every setting against its type and the rule beside it."""
    for described in dataclasses.fields(settings):
        given, rule = getattr(settings, described.name), described.metadata.get("rule")
        if dataclasses.is_dataclass(described.default_factory):
            if not isinstance(given, cast(type, described.default_factory)):
                raise SettingsError(f"setting {where}{described.name} must be {described.type}, not {given!r}")
            _check(given, f"{where}{described.name}.")
            continue
        given = _typed(type(settings), described.name, given, where)
        object.__setattr__(settings, described.name, given)
        if rule is not None and not rule.holds(given):
            raise SettingsError(f"setting {where}{described.name} is {given!r}, it must be {rule.words}")
