"""Networks and facts in a folder: one safetensors file, one JSON file, nothing pickled."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from vaco_curate.errors import RunError

HASH = "sha256"
"""Key of the hash of all other facts and of the tensors."""


def save_artifact(folder: Path, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``name.safetensors`` with the tensors and ``name.json`` with the facts and a hash of both."""
    folder.mkdir(parents=True, exist_ok=True)
    stored = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    # Written by Python rather than by safetensors, so that a full disk shows as an OSError.
    networks = to_bytes(stored)
    (folder / f"{name}.safetensors").write_bytes(networks)
    signed = {**facts, HASH: _hash_of(facts, networks)}
    (folder / f"{name}.json").write_text(json.dumps(signed, indent=2) + "\n")


def _hash_of(facts: Mapping[str, Any], networks: bytes) -> str:
    return hashlib.sha256(json.dumps(facts).encode() + networks).hexdigest()


def load_facts(folder: Path, name: str, kind: str, schema_version: int) -> dict[str, Any]:
    """The JSON file that ``save_artifact`` wrote.

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


@contextlib.contextmanager
def complete(folder: Path, name: str) -> Iterator[None]:
    """Use facts of ``load_facts``, which may lack something or hold something else.

    Raises:
        RunError: they do.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise RunError(
            f"{folder / name}.json: damaged, a fact is missing or is none that was written there",
            details=(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else name}",),
            fix="copy it again from where it is whole, or score again",
        ) from error


def load_tensors(folder: Path, name: str, facts: Mapping[str, Any], into: Mapping[str, Tensor]) -> None:
    """Fill tensors from the file that ``save_artifact`` wrote.

    Args:
        facts: of ``load_facts``.

    Raises:
        RunError: it is missing, damaged, or of other shapes.
    """
    path = folder / f"{name}.safetensors"
    try:
        networks = path.read_bytes()
        unsigned = {key: value for key, value in facts.items() if key != HASH}
        if facts.get(HASH) != _hash_of(unsigned, networks):
            raise ValueError(f"it and {name}.json do not match the hash that was written with them")
        stored = from_bytes(networks)
        if stored.keys() != into.keys():
            raise ValueError(f"it holds {', '.join(sorted(stored))}, not {', '.join(sorted(into))}")
        with torch.no_grad():
            for key, tensor in into.items():
                if tensor.shape != stored[key].shape:
                    raise ValueError(f"{key} has shape {tuple(stored[key].shape)}, not {tuple(tensor.shape)}")
                tensor.copy_(stored[key])
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"{path}: cannot be loaded", details=(str(error).splitlines()[0],)) from error
