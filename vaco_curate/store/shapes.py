"""What a manifest must hold: anybody can write one that matches its own hash."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NUMBER = (int, float)
FILE = {"name": str, "bytes": int, "sha256": str}
PARENT = {"folder": str, "manifest": FILE}
DATASET = {
    "source": str,
    "address": str,
    "format": str,
    "read_options": dict,
    "recordings": [{"path": str, "files": [FILE], "rows": int}],
    "parent": (None, PARENT),
    "rows": int,
    "env_id": (None, str),
    "env_kwargs": dict,
}
SCORED = DATASET | {"fingerprint": str, "episodes": int}
TRAINED = {"dataset": DATASET, "settings": {"bilevel": {"updates": int}}, "seed": int, "members": int}
WRITTEN = {"request": dict, "notes": [str], "files": [FILE], "dataset": SCORED}

SHAPES: Mapping[str, Any] = {
    "run": TRAINED
    | WRITTEN
    | {
        "device": str,
        "arithmetic": object,
        "scores": [str],
        "reward_scale": NUMBER,
        "persists_over": (None, str),
        "success_rate": (None, NUMBER),
        "effective_sample_share": NUMBER,
        "effective_episodes": NUMBER,
        "best_rows": (None, int),
        "warnings": [{"text": str, "against": (None, str)}],
    },
    "curated": WRITTEN
    | {
        "part": str,
        "rule": {"words": str},
        "return_range": [object],
        "run": PARENT | {"scorer": [FILE], "fingerprint": str},
    },
    "converted": WRITTEN,
}
"""Of finished folders, by kind: a type, the keys of an object, what a list has, or alternatives.

Further keys are allowed. ``object`` is anything.
"""


def misshapen(facts: Mapping[str, Any]) -> str | None:
    """What is wrong with the facts of a manifest, in words; None for nothing."""
    kind = facts.get("kind")
    if not isinstance(kind, str):
        return "kind is missing"
    if facts.get("complete") is True:
        return _wrong(facts, SHAPES.get(kind, {}), "")
    # of what is unfinished, a training is gone on with, and anything else is begun anew
    return _wrong(facts, TRAINED if "dataset" in facts else {}, "")


def _wrong(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where or 'it'} is no object"
        missing = [name for name in shape if name not in value]
        if missing:
            return f"{'.'.join(filter(None, (where, missing[0])))} is missing"
        found = (_wrong(value[name], of, f"{where}.{name}".lstrip(".")) for name, of in shape.items())
        return next(filter(None, found), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        found = (_wrong(item, shape[0], f"{where}[{number}]") for number, item in enumerate(value))
        return next(filter(None, found), None)
    for one in shape if isinstance(shape, tuple) else (shape,):
        if (value is None) if one is None else _wrong_alternative(value, one, where) is None:
            return None
    return f"{where} is {type(value).__name__}"


def _wrong_alternative(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, type):
        return None if isinstance(value, shape) else where
    return _wrong(value, shape, where)
