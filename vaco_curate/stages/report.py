"""The stage behind ``vaco-curate report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.curation import Candidates
from vaco_curate.data.formats import Dataset, opened_once
from vaco_curate.data.formats.arrow import parquet_file
from vaco_curate.data.formats.further import SOURCE_FILE
from vaco_curate.errors import DatasetError, RunError
from vaco_curate.reporting import Correlation, ReportFacts, figures, render_html, report_facts
from vaco_curate.reporting.comparison import Comparison, compare
from vaco_curate.reporting.episodes import Grouping
from vaco_curate.reporting.projection import ObservationSample, sample_observations
from vaco_curate.stages.runs import REPORT_FILE, SCORES_FOLDER, Run, open_run
from vaco_curate.stages.words import warned
from vaco_curate.store.files import FolderLike, place, write_atomically
from vaco_curate.store.manifest import HASH, read_times
from vaco_curate.wording import Note, as_notes

if TYPE_CHECKING:
    import altair


@dataclass(frozen=True)
class ReportResult:
    """Where the report lies, and its main facts.

    Attributes:
        successes: episodes that succeed, where rewards say no more than that; else None.
    """

    run: Path
    report: Path
    correlations: list[Correlation]
    successes: int | None
    effective_sample_share: float
    warnings: tuple[Note, ...]

    def __repr__(self) -> str:
        score = next((found.spearman for found in self.correlations if found.signal == "score"), None)
        told = "scores or returns are all alike"
        if score is not None:
            told = f"scores and returns agree by {score:.2f} (Spearman)"
        return f"<ReportResult {self.report}: {told}{warned(self.warnings)}>"


@opened_once()
def report_run(
    run: FolderLike,
    *,
    dataset: FolderLike | None = None,
    per: str | None = None,
    compare_with: FolderLike | None = None,
) -> ReportResult:
    """Write ``report.html`` into the run folder.

    Args:
        run: a run folder, or what ``score_dataset`` gave.
        dataset: where the dataset is now, if it has moved since it was scored. Where it is gone, the report
            says so, and leaves out what it takes observations for.
        per: a column of the dataset whose values are groups of episodes; None for source files.
        compare_with: another run on the same dataset.

    Raises:
        CurateError: no finished run, its dataset changed, or the other run is on another dataset.
    """
    opened = open_run(place(run))
    facts = _facts(opened, dataset, per, compare_with)
    opened.refuse_replaced()
    path = opened.folder / REPORT_FILE
    finished = read_times(opened.folder).get("finished")
    write_atomically(path, render_html(facts, opened.folder.name, finished))
    share = opened.manifest["effective_sample_share"]
    successes = None if facts.outcomes is None else int(facts.outcomes.succeeded.sum())
    return ReportResult(opened.folder, path, facts.correlations, successes, share, as_notes(facts.warnings))


@opened_once()
def report_figures(
    run: FolderLike, *, dataset: FolderLike | None = None
) -> dict[str, altair.Chart | altair.LayerChart | altair.FacetChart]:
    """The charts of a report by name, for a notebook: ``report_figures("hopper.vaco")["returns"]``.

    Args:
        run: a run folder, or what ``score_dataset`` gave.
        dataset: as for ``report_run``.

    Raises:
        CurateError: as ``report_run``.
    """
    facts = _facts(open_run(place(run)), dataset, None, None)
    return {name: figure.chart for name, figure in figures(facts).items()}


def _facts(
    run: Run, moved_to: FolderLike | None, per: str | None, compare_with: FolderLike | None
) -> ReportFacts:
    comparison = None if compare_with is None else _comparison(run, place(compare_with))
    source = _dataset(run, moved_to, needed=per is not None)
    observations: ObservationSample | str
    if isinstance(source, str):
        observations = source
    else:
        observations = sample_observations(run.checked(source), len(run.scores))
    grouping = _by_file(run)
    if per is not None:
        assert isinstance(source, Dataset), "needed"
        grouping = _by_column(run, source, per)
    return report_facts(
        run.scores,
        run.manifest,
        run.metrics(),
        run.evaluations(),
        observations=observations,
        grouping=grouping,
        comparison=comparison,
    )


def _dataset(run: Run, moved_to: FolderLike | None, *, needed: bool) -> Dataset | str:
    """The scored dataset; where it is gone and not needed, why it is not read."""
    try:
        return run.opened(moved_to)
    except RunError:
        if needed:
            raise
        address = run.manifest["dataset"]["address"]
        return f"the dataset is no longer at {address}. To say where it is: report --dataset PATH"


def _by_file(run: Run) -> Grouping | None:
    """Episodes by the file in which they begin; None for one file."""
    files = run.scores.files
    if len(files) == 1:
        return None
    rows = []
    for file in files:
        with parquet_file(file) as parquet:
            rows.append(parquet.metadata.num_rows)
    numbers = np.searchsorted(np.cumsum(rows), _first_rows(run), side="right")
    return Grouping("source file", [file.stem for file in files], numbers)


def _by_column(run: Run, dataset: Dataset, name: str) -> Grouping:
    label, first = dataset.further.label(name), _first_rows(run)
    values, number = np.unique(label.astype(str), return_inverse=True)
    lowest, highest = np.minimum.reduceat(number, first), np.maximum.reduceat(number, first)
    title = "source file" if name == SOURCE_FILE else name
    group = np.where(lowest == highest, lowest, -1)
    return Grouping(title, [str(value) for value in values], group, number if (group < 0).any() else None)


def _first_rows(run: Run) -> Array:
    """(episodes,) row number with which each begins."""
    found, row = [np.zeros(0, np.int64)], 0
    for piece in run.scores.pieces([]):
        identity = piece["episode_id"]
        found.append(row + np.concatenate([[0], np.flatnonzero(np.diff(identity)) + 1]))
        row += len(identity)
    return np.concatenate(found)


def _same_rows(run: Run, other: Run) -> bool:
    """Whether both are of the same files, cut into the same episodes: rewards may be read differently."""
    hashes, lengths = (
        [
            [[file[HASH] for file in part["files"]] for part in one.manifest["dataset"]["recordings"]]
            for one in (run, other)
        ],
        [[one.manifest["dataset"][name] for name in ("rows", "episodes")] for one in (run, other)],
    )
    if hashes[0] != hashes[1] or lengths[0] != lengths[1]:
        return False
    ours, theirs = (Candidates.scored(one.scores).episode_start for one in (run, other))
    return np.array_equal(ours, theirs)


def _comparison(run: Run, folder: Path) -> Comparison:
    other = open_run(folder, parts=(SCORES_FOLDER,))
    if other.scores.fingerprint != run.scores.fingerprint and not _same_rows(run, other):
        raise DatasetError(
            f"{other.folder}: made for a different dataset than {run.folder}",
            details=(
                f"{run.folder}: {run.scores.source}  (fingerprint {run.scores.fingerprint[:12]})",
                f"{other.folder}: {other.scores.source}  (fingerprint {other.scores.fingerprint[:12]})",
            ),
            fix="compare two runs on the same dataset",
        )
    return compare(run.scores, other.scores, other.folder.name)
