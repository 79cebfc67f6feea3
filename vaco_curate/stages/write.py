"""Writing what a selection decides: the decision, the rows that it keeps or drops, and the manifest."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaco_curate.curation import Candidates, Selection, Summary, before_and_after
from vaco_curate.curation.ordering import count_groups
from vaco_curate.curation.output import SELECTION_FILE, write_selection, write_weights
from vaco_curate.curation.selection import KEPT, REASONS, rows_are_consecutive
from vaco_curate.engines import Engine
from vaco_curate.folders import CURATED, work_folder
from vaco_curate.formats import DATA_FOLDER, Dataset, robomimic
from vaco_curate.manifest import hash_folder, now, versions, write_manifest
from vaco_curate.stages.runs import Run
from vaco_curate.stages.shards import WriteShards, run_shards
from vaco_curate.successors import Findings
from vaco_curate.transitions import Fingerprint


@dataclass(frozen=True)
class Decision:
    """A selection, and what is said of it; the candidates are not held any longer.

    Attributes:
        before, after: size and quality of all rows, and of the selection.
        consecutive: whether a kept row's successor is the next kept row.
    """

    selection: Selection
    before: Summary
    after: Summary
    consecutive: bool

    @classmethod
    def of(cls, candidates: Candidates, selection: Selection) -> Decision:
        """The decision on some rows."""
        consecutive = rows_are_consecutive(candidates, selection.keep)
        return cls(selection, *before_and_after(candidates, selection), consecutive)


@dataclass(frozen=True)
class Output:
    """What is written where, and by what.

    Attributes:
        folder: for the result.
        excluded: for the dropped rows, None to leave them out.
        part: what the folder holds: rows that are "kept" or "weighted", "weights", or the "selection" alone.
        file_format: of the rows, or of the weights.
        engine: of ``run_jobs``.
        force: replace a folder of ours.
    """

    folder: Path
    excluded: Path | None
    part: str
    file_format: str
    engine: Engine
    force: bool


def write_output(
    run: Run,
    decision: Decision,
    output: Output,
    moved_to: str | None,
    request: dict[str, Any],
) -> tuple[str, ...]:
    """Write what is asked for, with its manifest; a folder appears when it is complete.

    Args:
        moved_to: where the dataset is now, if it has moved.
        request: what was asked for, for the manifest.

    Returns:
        Notes on what was found in the source, and on what the format could not hold.

    Raises:
        CurateError: the dataset is not the one that was scored, or a folder is in the way.
    """
    selection, part, file_format = decision.selection, output.part, output.file_format
    request = request | {"part": part, "format": file_format, "run": run.identity()}
    keep = {"force": output.force, "keep": output.engine != "local"}
    notes: tuple[str, ...] = ()
    # The stack closes in reverse: the kept rows, which are the result, are put in place last.
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(work_folder(output.folder, CURATED, request, **keep))
        dropped = None
        if output.excluded is not None:
            dropped = stack.enter_context(work_folder(output.excluded, CURATED, request, **keep))
        if part == "weights":
            write_weights(folder, selection, file_format)
        else:
            write_selection(folder / SELECTION_FILE, run.scores, selection)
        if part == "kept" and file_format == "robomimic":
            dataset = run.opened(moved_to)
            run.check(dataset)
            (folder / DATA_FOLDER).mkdir(exist_ok=True)
            robomimic.write_masks(folder / DATA_FOLDER, dataset, selection.keep, output.folder.resolve().name)
        elif part in ("kept", "weighted"):
            notes = _write_rows(run, decision, output, run.opened(moved_to), folder, dropped)
        if dropped is not None:
            _write_manifest(dropped, run, selection, "excluded", request)
        _write_manifest(folder, run, selection, part, request, notes)
    return notes


def _write_rows(
    run: Run,
    decision: Decision,
    output: Output,
    dataset: Dataset,
    folder: Path,
    dropped: Path | None,
) -> tuple[str, ...]:
    """Write kept and dropped rows, unit by unit; at the end it shows whether the dataset is the one scored.

    Returns:
        Notes on what was found in the source, and on what the format could not hold.
    """
    columns, selection = ["score", "rank"], decision.selection
    if selection.weight is not None:
        columns.append("weight")
    elif (selection.reason[selection.keep] != KEPT).any():
        columns.append("reason")
    # A dataset of Minari's is written as one, whatever files it comes from.
    units = dataset.units() if output.file_format != "minari" else [dataset]
    run.scores.check_rows(dataset.source, len(dataset))
    excluded = None if dropped is None else dropped / DATA_FOLDER
    worker = partial(
        WriteShards,
        units,
        folder / SELECTION_FILE,
        folder / DATA_FOLDER,
        excluded,
        output.file_format,
        tuple(columns),
        {
            "rows_consecutive": decision.consecutive,
            "scored_fingerprint": run.scores.fingerprint,
            "rule": selection.rule,
        },
    )
    folders = [folder / DATA_FOLDER, *([excluded] if excluded is not None else [])]
    fingerprint, findings, notes = Fingerprint(), Findings(), dict[str, None]()
    for facts in run_shards(output.engine, worker, len(units), folders):
        fingerprint.add_json(facts["fingerprint"])
        findings.add(Findings(**facts["findings"]))
        notes |= dict.fromkeys(facts["notes"])
    run.scores.check_dataset(dataset.source, fingerprint.hexdigest())
    return (*findings.notes(), *notes)


def rows_by_reason(selection: Selection) -> dict[str, int]:
    """How many rows are dropped, or kept though not for their own sake, for each reason."""
    everything = np.ones(len(selection.keep), bool)
    counts = count_groups(selection.reason, everything, len(REASONS))
    return {reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if reason and count}


def _write_manifest(
    folder: Path,
    run: Run,
    selection: Selection,
    part: str,
    request: dict[str, Any],
    notes: tuple[str, ...] = (),
) -> None:
    kept = int(selection.keep.sum())
    write_manifest(
        folder,
        {
            "kind": CURATED,
            "complete": True,
            "part": part,
            "created": now(),
            "rule": {
                "words": selection.rule,
                "cut": selection.cut,
                "ties": "lowest index ranks first",
                **request,
            },
            "notes": list(notes),
            "rows": {"kept": kept, "dropped": len(selection.keep) - kept, "reasons": rows_by_reason(selection)},
            "files": hash_folder(folder),
            "run": {"folder": str(run.folder.resolve()), **run.identity()},
            "dataset": run.manifest["dataset"],
            "versions": versions(),
        },
    )
