"""The reference of settings, made of the dataclasses when the site is built."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any

from vaco_curate.core.training import PRESETS, BilevelSettings, TrainSettings, ValueSettings
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.evaluation import CloningSettings
from vaco_curate.stages.evaluate import EvaluationSettings

PAGE = "reference/settings.md"
TRAINING: Mapping[type, str] = {TrainSettings: "", ValueSettings: "value", BilevelSettings: "bilevel"}
"""Where the settings of a preset lie in it."""

SHOWN = (TrainSettings, ValueSettings, BilevelSettings, ReadOptions, EvaluationSettings, CloningSettings)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put a table in place of each mark, ``<!-- settings: NAME -->``."""
    if page.file.src_uri == PAGE:
        for owner in SHOWN:
            markdown = markdown.replace(f"<!-- settings: {owner.__name__} -->", table(owner))
    return markdown


def table(owner: type) -> str:
    """A row for each field: its type, its default or that of every preset, and what it means."""
    meanings = attributes(owner)
    columns = list(PRESETS) if owner in TRAINING else ["default"]
    lines = [f"| setting | type | {' | '.join(columns)} | meaning |", "|---" * (len(columns) + 3) + "|"]
    for field in dataclasses.fields(owner):
        if field.name in TRAINING.values():
            continue
        meaning = meanings[field.name]
        if rule := field.metadata.get("rule"):
            meaning = f"{meaning} Must be {rule.words}."
        cells = [f"`{field.name}`", f"`{field.type}`", *_values(owner, field), meaning]
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines)


def attributes(owner: type) -> dict[str, str]:
    """The sentence of the docstring for every attribute."""
    _, _, section = inspect.getdoc(owner).partition("Attributes:\n")  # type: ignore[union-attr]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, flags=re.M)
    return {name: _sentence(" ".join(text.split())) for name, text in found}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _values(owner: type, field: Any) -> list[str]:
    if owner not in TRAINING:
        return [_shown(_default(field))]
    part = TRAINING[owner]
    parts = [getattr(preset, part) if part else preset for preset in PRESETS.values()]
    return [_shown(getattr(settings, field.name)) for settings in parts]


def _default(field: Any) -> Any:
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _shown(value: Any) -> str:
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
    return f"`{json.dumps(plain)}`"
