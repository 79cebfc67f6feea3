"""Opening a finished run: its manifest, scores, scorer and the dataset it was made from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from vaco_curate.core.transitions import Fingerprint, Transitions
from vaco_curate.data.formats import Dataset, ReadOptions, open_dataset, opened_once
from vaco_curate.data.formats.arrow import parquet_file
from vaco_curate.data.formats.cache import loaded
from vaco_curate.data.formats.provenance import dataset_facts
from vaco_curate.data.scores import SCHEMA, ScoreTable
from vaco_curate.errors import DatasetError, RunError
from vaco_curate.store.files import FolderLike, place, write_atomically
from vaco_curate.store.folders import require_run
from vaco_curate.store.locks import locked
from vaco_curate.store.manifest import FILE_NAME, check_files, hash_file, hashes_of, read_manifest
from vaco_curate.store.progress import advance, task

SCORER_FOLDER = "scorer"
POLICY_FOLDER = "policy"
SCORES_FOLDER = "scores"
METRICS_FILE = "metrics.parquet"
EVALUATIONS_FILE = "evaluations.json"
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Run:
    """A finished run folder.

    Attributes:
        opened_as: name, size and hash of its manifest file when it was opened.
    """

    folder: Path
    manifest: dict[str, Any]
    scores: ScoreTable
    opened_as: dict[str, Any]

    def opened(self, moved_to: FolderLike | None = None) -> Dataset:
        """The dataset that was scored, opened in the same way; whether it is the same shows when it is read.

        Args:
            moved_to: where it is now, if not where it was.

        Raises:
            DatasetError: it cannot be opened.
            RunError: it is gone.
        """
        facts = self.manifest["dataset"]
        options = ReadOptions.from_json(facts["read_options"])
        try:
            return open_dataset(facts["address"] if moved_to is None else moved_to, options)
        except DatasetError as error:
            if moved_to is not None or not self._dataset_is_gone():
                raise
            raise RunError(
                f"{self.folder}: its dataset is no longer at {facts['address']}",
                fix="say where it is: --dataset PATH",
            ) from error

    def _dataset_is_gone(self) -> bool:
        return not any(
            place(recording["path"]).exists() for recording in self.manifest["dataset"]["recordings"]
        )

    @opened_once()
    def check_dataset_files(self, moved_to: FolderLike | None, *, may_be_gone: bool) -> None:
        """Hold the files of the dataset against the hashes that were recorded when it was scored.

        Args:
            moved_to: as for ``opened``.
            may_be_gone: for an output that holds no rows of it.

        Raises:
            DatasetError: they differ; and as ``opened``.
            RunError: it is gone.
        """
        if may_be_gone and moved_to is None and self._dataset_is_gone():
            return
        recorded = self.manifest["dataset"]
        found = dataset_facts(self.opened(moved_to), ReadOptions.from_json(recorded["read_options"]))
        if hashes_of(found) != hashes_of(recorded):
            raise DatasetError(
                "the scores were made for a different dataset",
                details=(f"{found['source']}: its files have changed since {self.folder} was scored",),
                fix=f"score it first: vaco-curate score {found['source']}; or if the rows are the same, give "
                "--if-exists replace",
            )

    @opened_once()
    def dataset(self, moved_to: FolderLike | None = None) -> tuple[Transitions, Path | None]:
        """The dataset that was scored, as ``cache.loaded`` gives it.

        Args:
            moved_to: as for ``opened``.

        Raises:
            DatasetError: it is not what was scored; and as ``opened``.
        """
        data, scratch = loaded(self.opened(moved_to))
        self.scores.check_dataset(data.source, data.fingerprint)
        return data, scratch

    def scorer_hashes(self) -> list[dict[str, Any]]:
        """Names, sizes and SHA-256 of the scorer's networks: which scorer this is.

        Its JSON file is left out, for it says when the scorer was trained: training again with the
        same data, settings and seed gives the same scorer.
        """
        folder = self.folder / SCORER_FOLDER
        return [hash_file(path, relative_to=folder) for path in sorted(folder.glob("*.safetensors"))]

    def identity(self) -> dict[str, Any]:
        """What tells this run from any other: its manifest, its scorer, and the rows that were scored."""
        return {
            "manifest": hash_file(self.folder / FILE_NAME, relative_to=self.folder),
            "scorer": self.scorer_hashes(),
            "fingerprint": self.scores.fingerprint,
        }

    def refuse_replaced(self) -> None:
        """To be called when all has been read of it.

        Raises:
            RunError: another run has taken its place, and some of what was read may be that one's.
        """
        if hash_file(self.folder / FILE_NAME, relative_to=self.folder) != self.opened_as:
            raise RunError(f"{self.folder}: was replaced while it was read", fix="give the command again")

    def check(self, dataset: Dataset) -> None:
        """Read a dataset through, and refuse any other than the one that was scored.

        Raises:
            DatasetError: its rows differ.
        """
        for _ in self.checked(dataset):
            pass

    def checked(self, dataset: Dataset) -> Iterator[Transitions]:
        """The pieces of a dataset, of which the last is followed by a refusal if it is not the one scored.

        Raises:
            DatasetError: its rows differ.
        """
        self.scores.check_rows(dataset.source, len(dataset))
        fingerprint = Fingerprint()
        with task("checking the dataset", len(dataset)):
            for piece in fingerprint.over(dataset.pieces()):
                yield piece
                advance(len(piece))
        self.scores.check_dataset(dataset.source, fingerprint.hexdigest())

    def metrics(self) -> pl.DataFrame | None:
        """One row per log interval and phase; None for an applied scorer, which was not trained here.

        Raises:
            RunError: the file is damaged.
        """
        path = self.folder / METRICS_FILE
        if not path.is_file():
            return None
        try:
            with parquet_file(path) as file:
                frame = pl.from_arrow(file.read())
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{path}: not readable", details=(str(error).splitlines()[0],)) from error
        assert isinstance(frame, pl.DataFrame)
        return frame

    def evaluations(self) -> dict[str, Any]:
        """What ``eval`` last measured on this run and on data curated by it, by rule and environment.

        Raises:
            RunError: the file is damaged.
        """
        path = self.folder / EVALUATIONS_FILE
        if not path.is_file():
            return {}
        try:
            facts: dict[str, Any] = json.loads(path.read_text())
        except ValueError as error:
            raise RunError(f"{path}: not readable", details=(str(error),), fix="remove it") from error
        return facts

    def record_evaluation(self, rule: str, facts: dict[str, Any]) -> None:
        """Keep an evaluation with the run, in place of an earlier one of the same rule."""
        with locked(self.folder / EVALUATIONS_FILE, wait=True):
            text = json.dumps(self.evaluations() | {rule: facts}, indent=2) + "\n"
            write_atomically(self.folder / EVALUATIONS_FILE, text)


def load_scores(run: FolderLike) -> pl.DataFrame:
    """The scores of all rows of a run, in the order of its dataset; columns of ``data.scores.SCHEMA``.

    Raises:
        RunError: no run, an unfinished one, or a damaged one.
    """
    scores = open_run(place(run), parts=(SCORES_FOLDER,)).scores
    frame = pl.from_arrow(pa.Table.from_batches(scores.batches(SCHEMA.names), SCHEMA))
    assert isinstance(frame, pl.DataFrame)
    return frame


def open_run(
    folder: Path, parts: Collection[str] = (SCORER_FOLDER, POLICY_FOLDER, SCORES_FOLDER, METRICS_FILE)
) -> Run:
    """A finished run.

    Args:
        parts: what will be read of it, whose files are held against their hashes.

    Raises:
        RunError: no run, an unfinished one, or a damaged one.
    """
    require_run(folder)
    opened_as = hash_file(folder / FILE_NAME, relative_to=folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest, parts)
    dataset = manifest["dataset"]
    scores = ScoreTable(
        files=tuple(folder / SCORES_FOLDER / name for name in manifest["scores"]),
        fingerprint=dataset["fingerprint"],
        source=dataset["source"],
        reward_scale=manifest["reward_scale"],
    )
    return Run(folder, manifest, scores, opened_as)
