"""What ``filter`` or ``reweight`` decided of every row, for programs that read the source itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.curation.output import SELECTION_FILE, WEIGHTS_ARRAY, WEIGHTS_FILE
from vaco_curate.data.formats.arrow import label_column
from vaco_curate.errors import RunError
from vaco_curate.store.files import FolderLike, place
from vaco_curate.store.folders import CURATED
from vaco_curate.store.manifest import check_files, read_manifest


def load_weights(path: FolderLike) -> Array:
    """(n,) float64 weights of all rows of the source, in their order: row i is raw row i.

    Of a filter they are 1 for kept and 0 for dropped rows.

    Raises:
        RunError: no folder of curated data, or one that has changed since it was written.
    """
    folder = place(path)
    return weights_in(folder, _curated(folder))


def weights_in(folder: Path, manifest: dict[str, Any]) -> Array:
    """The same of a folder whose manifest has been read.

    Raises:
        RunError: a file has changed since it was written.
    """
    check_files(folder, manifest, [SELECTION_FILE, WEIGHTS_ARRAY, WEIGHTS_FILE])
    if (folder / WEIGHTS_ARRAY).is_file():
        return np.asarray(np.load(folder / WEIGHTS_ARRAY), np.float64)
    file = next(name for name in (SELECTION_FILE, WEIGHTS_FILE) if (folder / name).is_file())
    return label_column(folder / file, "weight").astype(np.float64)


def kept_episodes(path: FolderLike) -> list[int]:
    """Ids of the episodes of which every row is kept, in the order of the source.

    For ``LeRobotDataset(..., episodes=kept_episodes(FOLDER))`` and its like.

    Raises:
        RunError: as ``load_weights``; or the folder holds weights alone, without a decision.
    """
    folder = place(path)
    manifest = _curated(folder)
    if not (folder / SELECTION_FILE).is_file():
        raise RunError(f"{folder}: holds {manifest['part']}, no decision", fix="vaco-curate filter RUN")
    check_files(folder, manifest, [SELECTION_FILE])
    episode, keep = (label_column(folder / SELECTION_FILE, name) for name in ("episode_id", "keep"))
    start = np.concatenate([[0], np.flatnonzero(np.diff(episode)) + 1])
    found: list[int] = episode[start][np.logical_and.reduceat(keep, start)].tolist()
    return found


def _curated(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if manifest.get("kind") != CURATED:
        raise RunError(
            f"{folder}: holds {manifest.get('kind')!r}, not curated data", fix="vaco-curate filter RUN"
        )
    return manifest
