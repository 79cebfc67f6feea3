"""Networks and facts in a folder: one safetensors file, one JSON file, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from vaco_curate.errors import RunError


def save_networks(folder: Path, name: str, networks: Mapping[str, nn.Module], facts: Mapping[str, Any]) -> None:
    """Write ``name.safetensors`` with every parameter and ``name.json`` with the facts."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{part}.{key}": tensor.detach().cpu().contiguous()
        for part, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    # Written by Python rather than by safetensors, so that a full disk shows as an OSError.
    (folder / f"{name}.safetensors").write_bytes(to_bytes(tensors))
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")


def load_facts(folder: Path, name: str, kind: str, schema_version: int) -> dict[str, Any]:
    """The JSON file that ``save_networks`` wrote.

    Raises:
        RunError: it is missing, damaged, of another kind, or of a schema this version does not know.
    """
    path = folder / f"{name}.json"
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: not a readable {name}", details=(str(error),)) from error
    if not isinstance(facts, dict) or facts.get("kind") != kind:
        raise RunError(f"{path}: not a {kind}")
    if facts.get("schema_version") != schema_version:
        raise RunError(
            f"{path}: schema version {facts.get('schema_version')}, this vaco-curate reads {schema_version}",
            fix="use the version that wrote it, or score again",
        )
    return facts


def load_networks(folder: Path, name: str, networks: Mapping[str, nn.Module]) -> None:
    """Fill the networks from the file that ``save_networks`` wrote.

    Raises:
        RunError: it is missing, damaged, or of other shapes.
    """
    path = folder / f"{name}.safetensors"
    try:
        tensors = load_file(path)
        for part, network in networks.items():
            prefix = f"{part}."
            network.load_state_dict(
                {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
            )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(f"{path}: cannot be loaded", details=(str(error).splitlines()[0],)) from error
