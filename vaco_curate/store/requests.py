"""How what is asked for differs from what is there, in words."""

from __future__ import annotations

from typing import Any

_MEANING = {
    "dataset": "dataset: its contents have changed, or it is another one",
    "run": "run: it has been made anew, or it is another one",
}
"""What it means that some values of a request differ."""

_LABELS = {"share": "--top", "rows": "--top", "episodes": "--top", "worst": "--bottom", "part": "what it holds"}
_OPTIONS = (
    *("threshold", "budget", "by", "level", "per", "min_episode_length", "keep_successors", "columns"),
    *("excluded", "format", "temperature", "clip", "rows_per_shard", "seed", "members"),
)
"""Values of a request that are an option of the same name; ``_LABELS`` are what others are called."""


def label(name: str) -> str:
    """What a value of a request is called."""
    return _LABELS.get(name, f"--{name.replace('_', '-')}" if name in _OPTIONS else name.replace("_", " "))


def difference(name: str, there: Any, asked: Any) -> str:
    """In words, how a value of a request differs from that of what is there."""
    if name in _MEANING:
        return _MEANING[name]
    what = name.replace("_", " ")
    if isinstance(there, dict) and isinstance(asked, dict):
        changed = [key for key in asked if there.get(key) != asked[key]]
        inner = (difference(key, there.get(key), asked[key]) for key in changed)
        return f"{what}: {'; '.join(inner)}"
    if isinstance(there, list) and isinstance(asked, list) and any(isinstance(one, dict) for one in there):
        return f"{what}: others"
    was, now = ("none" if value is None else value for value in (there, asked))
    return f"{what}: {was} there, {now} asked for"
