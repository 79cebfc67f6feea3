"""Training state to one safetensors file and back, by walking the fields of its dataclasses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.training.optim import Adam
from vaco_curate.errors import RunError
from vaco_curate.store.files import write_atomically

LAYOUT = "2"
"""How parameters lie in their vectors (``StackedMLP``); raised when that changes."""


def snapshot(states: Mapping[str, Any]) -> dict[str, Tensor]:
    """A copy of all states, on the CPU."""
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous().clone()
        for name, state in states.items()
        for key, tensor in _tensors(state)
    } | {
        f"{name}.{key}": torch.tensor(getattr(state, key))
        for name, state in states.items()
        for key in _counters(state)
    }


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a ``snapshot`` and JSON-able facts to ``path`` in one atomic replacement."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written by Python rather than by safetensors, so that a full disk shows as an OSError.
    metadata = {"facts": json.dumps(facts), "layout": LAYOUT}
    write_atomically(path, to_bytes(dict(tensors), metadata=metadata | {"sha256": _hash_of(tensors, metadata)}))


def load_checkpoint(path: Path, states: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the states in place and return the facts.

    Raises:
        RunError: the file is damaged or holds other networks than the states.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        facts = _facts(metadata)
        if metadata.pop("sha256", None) != _hash_of(stored, metadata):
            raise ValueError("it is damaged: it does not match its own hash")
        for name, state in states.items():
            for key, tensor in _tensors(state):
                _fill(tensor, stored[f"{name}.{key}"])
            for key in _counters(state):
                setattr(state, key, int(stored[f"{name}.{key}"].item()))
    except Exception as error:
        raise _unusable(path, error) from error
    return facts


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint alone.

    Raises:
        RunError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _facts(file.metadata())
    except Exception as error:
        raise _unusable(path, error) from error


def _facts(metadata: Mapping[str, str]) -> dict[str, Any]:
    if metadata.get("layout") != LAYOUT:
        raise ValueError("another version of vaco-curate wrote it")
    facts: dict[str, Any] = json.loads(metadata["facts"])
    return facts


def _hash_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _unusable(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path}: the checkpoint cannot be used",
        details=(str(error).splitlines()[0],),
        fix="start again with --if-exists replace instead of --resume",
    )


def _tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) for everything a state holds, except its counters."""
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, StackedMLP):
            yield field.name, value.flat
        elif isinstance(value, Adam):
            yield f"{field.name}.steps", value.steps
            for slot in ("first", "second"):
                yield from ((f"{field.name}.{slot}.{i}", t) for i, t in enumerate(getattr(value, slot)))
        elif isinstance(value, Tensor):
            yield field.name, value


def _counters(state: Any) -> Iterator[str]:
    return (field.name for field in dataclasses.fields(state) if isinstance(getattr(state, field.name), int))


def _fill(tensor: Tensor, stored: Tensor) -> None:
    if tensor.shape != stored.shape:
        raise ValueError(f"shape {tuple(stored.shape)} where {tuple(tensor.shape)} was expected")
    tensor.copy_(stored)
