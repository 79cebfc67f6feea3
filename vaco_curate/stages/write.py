"""Writing what a selection decides: the decision, the rows that it keeps or drops, and the manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array, Fingerprint
from vaco_curate.curation import Candidates, Selection, Summary, before_and_after
from vaco_curate.curation.ordering import count_groups
from vaco_curate.curation.output import SELECTION_FILE, write_selection, write_weights
from vaco_curate.curation.selection import KEPT, REASONS, rows_are_consecutive
from vaco_curate.data.formats import DATA_FOLDER, MASKS, WRITERS, Dataset, Target, opened_once
from vaco_curate.data.formats.arrow import parquet_file
from vaco_curate.data.formats.dataset import read_ahead
from vaco_curate.data.formats.lerobot_episodes import lengths_of_episodes
from vaco_curate.data.formats.others import chosen_rows
from vaco_curate.data.successors import Findings
from vaco_curate.errors import RunError
from vaco_curate.stages.runs import Run
from vaco_curate.stages.shards import write_units
from vaco_curate.store.engines import Engine, JobResult
from vaco_curate.store.files import FolderLike, place
from vaco_curate.store.folders import CURATED, finished_as_asked, work_folder
from vaco_curate.store.manifest import hash_folder, now, versions, write_manifest, write_times
from vaco_curate.store.progress import advance, task

LEROBOT_FILE, EPISODES_FILE, SHOWN_EPISODES = "_lerobot.txt", "_episodes.json", 20


@dataclass(frozen=True)
class Decision:
    """A selection, and what is said of it; the candidates are not held any longer.

    Attributes:
        before, after: size and quality of all rows, and of the selection.
        consecutive: whether a kept row's successor is the next kept row.
        return_range: lowest and highest return of an episode of all rows; other programs scale rewards by it,
            and that of the kept episodes alone is another.
    """

    selection: Selection
    before: Summary
    after: Summary
    consecutive: bool
    return_range: tuple[float, float]

    @classmethod
    def of(cls, candidates: Candidates, selection: Selection) -> Decision:
        """The decision on some rows."""
        consecutive = rows_are_consecutive(candidates, selection.keep)
        returns = candidates.episode_return
        return_range = float(returns.min()), float(returns.max())
        return cls(selection, *before_and_after(candidates, selection), consecutive, return_range)


@dataclass(frozen=True)
class Output:
    """What is written where, and by what.

    Attributes:
        folder: for the result.
        excluded: for the dropped rows, None to leave them out.
        part: what the folder holds: rows that are "kept" or "weighted", "weights", or the "selection" alone.
        file_format: of the rows, or of the weights.
        columns: of the source beyond those of transitions, to be written beside them; None for all.
        engine: of ``run_jobs``.
        replace: whether a folder of ours is replaced.
    """

    folder: Path
    excluded: Path | None
    part: str
    file_format: str
    columns: Sequence[str] | None
    engine: Engine
    replace: bool


@opened_once()
def write_output(
    run: Run,
    decision: Decision,
    output: Output,
    moved_to: FolderLike | None,
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
    request = request | _about(run, output)
    keep = {"replace": output.replace, "keep": output.engine != "local"}
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
        if part == "kept" and file_format in MASKS:
            dataset = run.opened(moved_to)
            run.check(dataset)
            (folder / DATA_FOLDER).mkdir(exist_ok=True)
            MASKS[file_format](folder / DATA_FOLDER, dataset, selection.keep, output.folder.resolve().name)
        elif part in ("kept", "weighted"):
            notes = _write_rows(run, decision, output, run.opened(moved_to), folder, dropped)
        if part in ("kept", "selection"):
            notes = (*notes, *_lerobot_command(run, selection, folder, output.folder))
        run.refuse_replaced()
        if dropped is not None:
            _write_manifest(dropped, run, decision, "excluded", request)
        _write_manifest(folder, run, decision, part, request, notes)
    return notes


def finished_outputs(
    run: Run, output: Output, moved_to: FolderLike | None, request: dict[str, Any]
) -> dict[str, Any] | None:
    """The manifest of what is asked for, if all of it is there already; None if there is none of it.

    Args:
        moved_to: where the dataset is now, if it has moved.

    Raises:
        RunError: what is there was made for another request, is damaged, or is not all there; or the
            dataset, of which it holds rows, is gone.
        DatasetError: the dataset is no longer what was scored.
    """
    request = request | _about(run, output)
    folders = [folder for folder in (output.folder, output.excluded) if folder is not None]
    made = {folder: finished_as_asked(folder, CURATED, request) for folder in folders}
    there = [folder for folder, manifest in made.items() if manifest is not None]
    if not there:
        return None
    if len(there) < len(folders):
        (lacking,) = set(folders) - set(there)
        raise RunError(
            f"{there[0]} is finished, but {lacking}, which was written with it, is not there",
            fix="write both again: --if-exists replace",
        )
    run.check_dataset_files(moved_to, may_be_gone=output.part in ("selection", "weights"))
    return made[output.folder]


def _about(run: Run, output: Output) -> dict[str, Any]:
    """What an output is made from and as, beside the decision."""
    columns = None if output.columns is None else list(output.columns)
    about = {"part": output.part, "format": output.file_format, "columns": columns}
    return about | {"excluded": output.excluded is not None, "run": run.identity()}


def _lerobot_command(run: Run, selection: Selection, work: Path, folder: Path) -> tuple[str, ...]:
    """The command by which LeRobot deletes the dropped episodes of its dataset, in a file and as a note.

    The copy lies beside the folder: in it, its rows would be read with ours. Its name is an absolute path,
    because LeRobot 0.4 puts others into the source, and 0.5 and later into the user's cache.
    """
    facts = run.manifest["dataset"]
    if facts["format"] != "lerobot":
        return ()
    episode = run.scores.column("episode_id")
    start = np.concatenate([[0], np.flatnonzero(np.diff(episode)) + 1])
    kept, touched = (reduce.reduceat(selection.keep, start) for reduce in (np.logical_and, np.logical_or))
    if (kept != touched).any():  # of some episodes a part is kept
        return ()
    ids = episode[start]
    (work / EPISODES_FILE).write_text(f"{json.dumps(ids[kept].tolist())}\n")
    source = place(facts["address"])
    empty = lengths_of_episodes(source).keys() - set(ids.tolist())  # or they would stay in the copy
    dropped = sorted([*ids[~kept].tolist(), *empty])
    if not dropped:
        return ()
    copy = folder.resolve().with_name(f"{folder.resolve().name}.lerobot")
    command = (
        f"lerobot-edit-dataset --root {shlex.quote(str(source))} --repo_id {shlex.quote(source.name)} "
        f"--new_repo_id {shlex.quote(str(copy))} --operation.type delete_episodes "
        f'--operation.episode_indices "{dropped}"'
    )
    (work / LEROBOT_FILE).write_text(f"{command}\n")
    without = f"{len(dropped) - len(empty)} dropped episodes"
    if empty:
        without += f" and {len(empty)} without frames"
    shown = f": {command}" if len(dropped) <= SHOWN_EPISODES else ""
    exists = f". Remove {copy} first: it is of an earlier cut" if copy.exists() else ""
    return (
        f"{folder / LEROBOT_FILE} makes a copy without the {without}, {copy.name}, by "
        f"LeRobot's own tool, in LeRobot's environment{shown}{exists}",
        f"{folder / EPISODES_FILE} has the numbers of the kept episodes, for LeRobotDataset(..., episodes=)",
    )


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
    columns, selection = ["score", "rank", "weight"], decision.selection
    if selection.weight is None and (selection.reason[selection.keep] != KEPT).any():
        columns.append("reason")
    carried, notes_on_columns = dataset.further.written(output.columns, WRITERS[output.file_format])
    units = dataset.units()
    if WRITERS[output.file_format].one_file:
        names = (output.folder.resolve().name,) * len(dataset.recordings)
        units = [dataclasses.replace(dataset, names=names)]
    run.scores.check_rows(dataset.source, len(dataset))
    worker = partial(
        WriteShards,
        units,
        folder / SELECTION_FILE,
        output.file_format,
        tuple(columns),
        carried,
        {
            "rows_consecutive": decision.consecutive,
            "return_range": decision.return_range,
            "scored_fingerprint": run.scores.fingerprint,
            "rule": selection.rule,
        },
    )
    folders = [of / DATA_FOLDER for of in (folder, dropped) if of is not None]
    for data in folders:
        data.mkdir(exist_ok=True)
    fingerprint, findings, notes = Fingerprint(), Findings(), dict[str, None]()
    with task("writing", len(dataset)):
        done = write_units(output.engine, worker, len(units), folders)
    for facts in done:
        fingerprint.add_json(facts["fingerprint"])
        findings.add(Findings(**facts["findings"]))
        notes |= dict.fromkeys(facts["notes"])
    run.scores.check_dataset(dataset.source, fingerprint.hexdigest())
    return (*findings.notes(), *notes, *notes_on_columns)


@dataclass(frozen=True)
class WriteShards:
    """Writes the kept rows of a unit, and the dropped ones, as a selection on disk says.

    Attributes:
        units: of the dataset.
        selection: the file of the decision, in which row i is raw row i.
        file_format: of ``formats.WRITERS``.
        columns: of the selection, to be written with kept rows.
        carried: names that further columns of the source get, by their own.
        facts: metadata of the files of kept rows.
    """

    units: Sequence[Dataset]
    selection: Path
    file_format: str
    columns: tuple[str, ...]
    carried: Mapping[str, str]
    facts: Mapping[str, Any]

    def __call__(self, number: int, folders: Sequence[Path | None]) -> JobResult:
        """Write a unit, the kept rows to the first folder and the others to the second; as ``WriteUnit``."""
        unit = self.units[number]
        rows = [recording.rows for recording in unit.recordings]
        writers = {}
        for keep, folder in zip((True, False), folders, strict=False):
            if folder is None:
                continue
            facts = {**self.facts} if keep else {**self.facts, "rows_consecutive": False}
            writers[keep] = WRITERS[self.file_format].writer(
                Target(folder, unit.shard_names, rows, facts, unit.first_row)
            )
        fingerprint = Fingerprint()
        columns = {True: self.columns, False: ("score", "rank", "reason")}
        names = {name for keep in writers for name in columns[keep]}
        decision = _SelectionRows(self.selection, ["keep", *sorted(names)])
        findings = Findings()
        others = unit.further.rows(list(self.carried))
        pieces = unit.pieces(findings=findings, beside=list(self.carried))
        for piece in read_ahead(fingerprint.over(read_ahead(pieces))):
            decided = decision.read(piece.first_row, len(piece))
            carried = others.read(len(piece)) if self.carried else pa.table({})
            keeps = decided.column("keep").to_numpy()
            for keep, writer in writers.items():
                chosen = np.flatnonzero(keeps == keep)
                taken = decided.select(columns[keep]).take(pa.array(chosen))
                extra = {name: _values(taken.column(name)) for name in columns[keep]}
                writer.write(piece, chosen, extra | chosen_rows(carried, chosen, self.carried))
            advance(len(piece))
        for writer in writers.values():
            writer.close()
        notes = [note for writer in writers.values() for note in writer.notes]
        return {
            "rows": len(unit),
            "fingerprint": fingerprint.to_json(),
            "notes": notes,
            "findings": findings.to_json(),
        }


class _SelectionRows:
    """Columns of a selection by row numbers, read row group by row group as they are asked for, in order."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._columns = list(columns)
        self._file = parquet_file(path, pre_buffer=False)
        groups = range(self._file.metadata.num_row_groups)
        self._ends = np.cumsum([self._file.metadata.row_group(group).num_rows for group in groups])
        self._held: dict[int, pa.Table] = {}

    def read(self, first_row: int, count: int) -> pa.Table:
        first = int(np.searchsorted(self._ends, first_row, side="right"))
        last = int(np.searchsorted(self._ends, first_row + count, side="left"))
        groups = range(first, min(last, len(self._ends) - 1) + 1)
        self._held = {g: self._held[g] if g in self._held else self._read(g) for g in groups}
        before = int(self._ends[first - 1]) if first else 0
        return pa.concat_tables(self._held.values()).slice(first_row - before, count).combine_chunks()

    def _read(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, self._columns)


def _values(column: pa.ChunkedArray) -> Array | pa.Array:
    if pa.types.is_string(column.type):
        return column.combine_chunks()
    return column.to_numpy()


def rows_by_reason(selection: Selection) -> dict[str, int]:
    """How many rows are dropped, or kept though not for their own sake, for each reason."""
    everything = np.ones(len(selection.keep), bool)
    counts = count_groups(selection.reason, everything, len(REASONS))
    return {reason: int(count) for reason, count in zip(REASONS, counts, strict=True) if reason and count}


def _write_manifest(
    folder: Path,
    run: Run,
    decision: Decision,
    part: str,
    request: dict[str, Any],
    notes: tuple[str, ...] = (),
) -> None:
    selection = decision.selection
    kept = int(selection.keep.sum())
    write_times(folder, {"finished": now()})
    write_manifest(
        folder,
        {
            "kind": CURATED,
            "complete": True,
            "part": part,
            "request": request,
            "rule": {"words": selection.rule, "cut": selection.cut, "ties": "lowest index ranks first"},
            "notes": list(notes),
            "return_range": decision.return_range,
            "rows": {"kept": kept, "dropped": len(selection.keep) - kept, "reasons": rows_by_reason(selection)},
            "files": hash_folder(folder),
            "run": {"folder": str(run.folder.resolve()), **run.identity()},
            "dataset": run.manifest["dataset"],
            "versions": versions(),
        },
    )
