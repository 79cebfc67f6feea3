"""The formats that ``filter`` and ``reweight`` write."""

from __future__ import annotations

from vaco_curate.data.formats import MASKS, WRITERS

FILTER_FORMATS = (*WRITERS, *MASKS)
"""What ``filter`` writes: rows, or a mask beside the source."""

STORED_FORMATS = (*(name for name, form in WRITERS.items() if form.in_stores), "weights")
"""What is written to an object store."""

WEIGHT_FORMATS = ("parquet", "d4rl", "npz", "weights", "npy", "lerobot")
"""What ``reweight`` writes: rows with weights, or the weights alone."""

WITHOUT_WEIGHTS = {
    "minari": "Minari's episodes have no weights, and what reads them would draw all steps alike. "
    "Give parquet, or filter --level episode --format minari",
    "robomimic": "a filter key names whole demonstrations, without weights. Give weights, for a sampler",
}
"""Formats of ``filter`` that ``reweight`` does not write, and why."""
