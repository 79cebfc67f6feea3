"""Training state to one safetensors file and back, by walking the fields of its dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from vaco_curate.errors import RunError
from vaco_curate.files import write_atomically


def save_checkpoint(path: Path, states: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Write all states and JSON-able facts to ``path`` in one atomic replacement."""
    tensors = {
        f"{name}.{key}": tensor.detach().cpu().contiguous().clone()
        for name, state in states.items()
        for key, tensor in _tensors(state)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written by Python rather than by safetensors, so that a full disk shows as an OSError.
    write_atomically(path, to_bytes(tensors, metadata={"facts": json.dumps(facts)}))


def load_checkpoint(path: Path, states: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the states in place and return the facts.

    Raises:
        RunError: the file is damaged or holds other networks than the states.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["facts"])
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        for name, state in states.items():
            _fill(state, _below(stored, name))
    except Exception as error:
        raise RunError(
            f"{path}: the checkpoint cannot be used",
            details=(str(error).splitlines()[0],),
            fix="start again with --force instead of --resume",
        ) from error
    return facts


def _tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) for everything a state holds."""
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, nn.Module):
            yield from ((f"{field.name}.{key}", tensor) for key, tensor in value.state_dict().items())
        elif isinstance(value, Optimizer):
            for number, slots in value.state_dict()["state"].items():
                yield from ((f"{field.name}.{number}.{slot}", tensor) for slot, tensor in slots.items())
        elif isinstance(value, torch.Generator):
            yield field.name, value.get_state()
        else:
            yield field.name, torch.as_tensor(value)


def _fill(state: Any, stored: dict[str, Tensor]) -> None:
    for field in dataclasses.fields(state):
        value = getattr(state, field.name)
        if isinstance(value, nn.Module):
            value.load_state_dict(_below(stored, field.name))
        elif isinstance(value, Optimizer):
            slots: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(stored, field.name).items():
                number, slot = key.split(".")
                slots.setdefault(int(number), {})[slot] = tensor
            value.load_state_dict({"state": slots, "param_groups": value.state_dict()["param_groups"]})
        elif isinstance(value, torch.Generator):
            value.set_state(stored[field.name])
        elif isinstance(value, Tensor):
            value.copy_(stored[field.name])
        else:
            setattr(state, field.name, type(value)(stored[field.name].item()))


def _below(stored: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in stored.items() if key.startswith(prefix)}
