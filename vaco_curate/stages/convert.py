"""The stage behind ``vaco-curate convert``: the rows of a dataset in another format, without scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from vaco_curate.arguments import several_names, whole_number
from vaco_curate.core.transitions import Array, Fingerprint
from vaco_curate.data.formats import (
    DATA_FOLDER,
    WRITERS,
    Dataset,
    ReadOptions,
    Target,
    open_dataset,
    opened_once,
)
from vaco_curate.data.formats.in_memory import Source, on_disk
from vaco_curate.data.formats.others import chosen_rows
from vaco_curate.data.formats.provenance import dataset_facts
from vaco_curate.data.successors import Findings
from vaco_curate.errors import SettingsError
from vaco_curate.stages.words import counted
from vaco_curate.store.files import FolderLike, is_local, place
from vaco_curate.store.folders import (
    CONVERTED,
    IfExists,
    check_if_exists,
    finished_as_asked,
    refuse_overlap,
    work_folder,
)
from vaco_curate.store.manifest import hash_folder, hashes_of, now, versions, write_manifest, write_times
from vaco_curate.store.progress import advance, task
from vaco_curate.wording import Note, as_notes

ROWS_PER_SHARD = 1_000_000


@dataclass(frozen=True)
class ConvertResult:
    """What was written: rows and episodes, and the files in the folder.

    Attributes:
        skipped: all of it was there already.
    """

    out: Path
    rows: int
    episodes: int
    files: list[str]
    notes: tuple[Note, ...]
    skipped: bool = False

    def __fspath__(self) -> str:
        return str(self.out)

    def __repr__(self) -> str:
        sizes = f"{counted(self.rows, 'row')} in {counted(self.episodes, 'episode')}"
        return f"<ConvertResult {self.out}: {sizes}, {counted(len(self.files), 'file')}>"


@opened_once()
def convert_dataset(
    source: Source,
    out: FolderLike,
    *,
    file_format: str = "parquet",
    columns: Sequence[str] | str | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    if_exists: IfExists = "fail",
    read_options: ReadOptions | None = None,
) -> ConvertResult:
    """Write a dataset in another format, some rows at a time.

    Args:
        source: as for ``score_dataset``.
        file_format: "parquet", "d4rl", "npz" or "minari".
        columns: of the source beyond those of transitions, to be written beside them; None for all.
        rows_per_shard: files of about so many rows, of whole episodes, where a format has several.
        if_exists: "skip" leaves a finished output of the same data and options; "replace" replaces it.

    Raises:
        CurateError: unusable data, rows that the format cannot hold, or a folder in the way.
    """
    with on_disk(source) as address:
        return _converted(
            address,
            place(out),
            file_format,
            columns,
            rows_per_shard,
            read_options or ReadOptions(),
            if_exists,
        )


def _converted(
    source: str,
    out: Path,
    file_format: str,
    columns: Sequence[str] | str | None,
    rows_per_shard: int,
    read_options: ReadOptions,
    if_exists: IfExists,
) -> ConvertResult:
    check_if_exists(if_exists)
    if file_format not in WRITERS:
        raise SettingsError(f"--format {file_format}: unknown", fix=f"choose from {', '.join(WRITERS)}")
    form = WRITERS[file_format]
    if not is_local(out) and not form.in_stores:
        raise SettingsError(f"--format {file_format} is not written to an object store", fix="write it here")
    rows_per_shard = whole_number(rows_per_shard, "--rows-per-shard", least=1)
    columns = None if columns is None else several_names(columns, "--columns")
    dataset = open_dataset(source, read_options)
    refuse_overlap(out, {f"the dataset's {path.name}": path for path in dataset.files})
    carried, notes_on_columns = dataset.further.written(columns, form)
    facts = dataset_facts(dataset, read_options)
    request = {
        "format": file_format,
        "rows_per_shard": rows_per_shard,
        "columns": list(carried),
        "dataset": hashes_of(facts),
        "read_options": facts["read_options"],
    }
    if if_exists == "skip" and (made := finished_as_asked(out, CONVERTED, request)) is not None:
        files = [file["name"] for file in made["files"]]
        rows, episodes = made["dataset"]["rows"], made["dataset"]["episodes"]
        return ConvertResult(out, rows, episodes, files, as_notes(made["notes"]), skipped=True)
    lengths, return_range, consecutive, findings = _episodes(dataset)
    shards = [len(dataset)] if form.one_file else _shards(lengths, rows_per_shard)
    names = [out.resolve().name] if form.one_file else [f"part-{n:05d}" for n in range(len(shards))]
    about = {"rows_consecutive": consecutive, "has_rewards": dataset.has_rewards, "return_range": return_range}
    fingerprint = Fingerprint()
    with work_folder(out, CONVERTED, request, replace=if_exists == "replace", keep=False) as folder:
        (folder / DATA_FOLDER).mkdir(exist_ok=True)
        writer = form.writer(Target(folder / DATA_FOLDER, names, shards, about))
        others = dataset.further.rows(list(carried))
        with task("writing", len(dataset)):
            for piece in dataset.pieces(beside=list(carried)):
                fingerprint.add(piece)
                rows = np.arange(len(piece))
                table = others.read(len(piece)) if carried else pa.table({})
                writer.write(piece, rows, chosen_rows(table, rows, carried))
                advance(len(piece))
        writer.close()
        dataset.refuse_changed()
        found = hash_folder(folder)
        notes = (*dataset.facts["notes"], *findings.notes(), *notes_on_columns, *writer.notes)
        write_times(folder, {"finished": now()})
        write_manifest(
            folder,
            {
                "kind": CONVERTED,
                "complete": True,
                "request": request,
                "notes": list(notes),
                "files": found,
                "dataset": facts | {"fingerprint": fingerprint.hexdigest(), "episodes": len(lengths)},
                "versions": versions(),
            },
        )
    return ConvertResult(out, len(dataset), len(lengths), [file["name"] for file in found], as_notes(notes))


def _episodes(dataset: Dataset) -> tuple[Array, tuple[float, float], bool, Findings]:
    """Rows of all episodes, range of their returns, whether rows are followed by their next steps, findings."""
    lengths, returns, consecutive, findings = [], [], True, Findings()
    with task("reading", len(dataset)):
        for piece in dataset.pieces(findings=findings):
            lengths.append(piece.episode_length)
            returns.append((piece.episode_return.min(), piece.episode_return.max()))
            inside = np.diff(piece.episode_id) == 0
            consecutive &= bool(piece.goes_on[inside].all())
            advance(len(piece))
    lowest, highest = zip(*returns, strict=True)
    return np.concatenate(lengths), (float(min(lowest)), float(max(highest))), consecutive, findings


def _shards(lengths: Array, rows_per_shard: int) -> list[int]:
    """Rows of each shard: whole episodes, about so many, or one longer episode."""
    ends, shards, start = np.cumsum(lengths), [], 0
    while start < ends[-1]:
        position = int(np.searchsorted(ends, start + rows_per_shard, side="right")) - 1
        stop = int(ends[position]) if position >= 0 and ends[position] > start else int(ends[position + 1])
        shards.append(stop - start)
        start = stop
    return shards
