"""What a manifest says of a dataset: where it was found, its files with hashes, and what it holds."""

from __future__ import annotations

from typing import Any

from vaco_curate.data.formats.dataset import Dataset
from vaco_curate.data.formats.options import ReadOptions
from vaco_curate.store.files import place
from vaco_curate.store.manifest import FILE_NAME, hash_file, hash_source, is_ours


def dataset_facts(dataset: Dataset, options: ReadOptions) -> dict[str, Any]:
    """Facts that are known before the rows are read; reads all files once for their hashes."""
    return {
        "source": dataset.source,
        "address": dataset.address,
        "format": dataset.format,
        "read_options": options.to_json(),
        "recordings": [
            hash_source(recording.path, dataset.hashes) | {"rows": recording.rows}
            for recording in dataset.recordings
        ],
        "parent": _parent(dataset.address),
        "rows": len(dataset),
        "env_id": dataset.facts.get("env_id"),
        "env_kwargs": dict(dataset.facts.get("env_kwargs", {})),
        "observation_parts": dataset.facts.get("observation_parts", ()),
    }


def _parent(address: str) -> dict[str, Any] | None:
    """The manifest of a dataset that we wrote; None for any other."""
    folder = place(address)
    if not is_ours(folder):
        return None
    return {"folder": str(folder), "manifest": hash_file(folder / FILE_NAME, relative_to=folder)}
