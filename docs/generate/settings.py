"""The reference of settings, made of the dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import BilevelSettings, TrainSettings, ValueSettings
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.evaluation import CloningSettings
from vaco_curate.stages.evaluate import EvaluationSettings

TRAINING: Mapping[type, str] = {TrainSettings: "", ValueSettings: "value", BilevelSettings: "bilevel"}
"""Where the settings of a preset lie in it."""

SHOWN = (TrainSettings, ValueSettings, BilevelSettings, ReadOptions, EvaluationSettings, CloningSettings)


def table(owner: type) -> str:
    """A row for each field: its name and type, its default, and what it means."""
    meanings = attributes(owner)
    lines = [f"| setting | {'standard' if owner in TRAINING else 'default'} | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(owner):
        if field.name in TRAINING.values():
            continue
        standard, others = _values(owner, field)
        meaning = " ".join([meanings[field.name], *_rule(field), *others])
        cells = [f"`{field.name}`<br>{_type(field)}", standard, meaning]
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines)


def attributes(owner: type) -> dict[str, str]:
    """The sentence of the docstring for every attribute, its pages as links."""
    _, _, section = inspect.getdoc(owner).partition("Attributes:\n")  # type: ignore[union-attr]
    section = re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", section)
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, flags=re.M)
    return {name: _sentence(" ".join(text.split())) for name, text in found}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _type(field: Any) -> str:
    return "str" if field.type.startswith("Literal") else field.type.replace("[", "\\[")


def _rule(field: Any) -> list[str]:
    rule = field.metadata.get("rule")
    return [] if rule is None else [f"Must be {rule.words}."]


def _values(owner: type, field: Any) -> tuple[str, list[str]]:
    """The default, and what other presets have in its place."""
    if owner not in TRAINING:
        return _shown(_default(field)), []
    part = TRAINING[owner]
    values = {
        name: _shown(getattr(getattr(preset, part) if part else preset, field.name))
        for name, preset in PRESETS.items()
    }
    standard = values["standard"]
    others = [f"*{name}*: {value}." for name, value in values.items() if value != standard]
    return standard, others


def _default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _shown(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return "below"
    return f"`{json.dumps(value)}`"
