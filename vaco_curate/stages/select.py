"""The stages behind ``vaco-curate filter`` and ``reweight``: check, decide, have it written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vaco_curate.arguments import real_number, several_names, whole_number
from vaco_curate.core.transitions import Array
from vaco_curate.curation import (
    ORDERS,
    TRANSITION,
    By,
    Candidates,
    Cut,
    Level,
    Summary,
    reweight,
    select,
)
from vaco_curate.curation.health import kept_signs, weight_signs
from vaco_curate.data.formats import WRITERS
from vaco_curate.errors import RunError, SettingsError
from vaco_curate.stages.outputs import FILTER_FORMATS, STORED_FORMATS, WEIGHT_FORMATS, WITHOUT_WEIGHTS
from vaco_curate.stages.remarks import advice, doubts, mixed_episodes, signs_of_scores, texts
from vaco_curate.stages.runs import Run, open_run
from vaco_curate.stages.words import counted, rounded, warned
from vaco_curate.stages.write import Decision, Output, finished_outputs, rows_by_reason, write_output
from vaco_curate.store.engines import Engine, check_engine
from vaco_curate.store.files import FolderLike, beside, is_local, lies_in, place
from vaco_curate.store.folders import (
    CURATED,
    IfExists,
    check_if_exists,
    refuse_existing,
    refuse_overlap,
    run_stem,
)
from vaco_curate.wording import Note, as_notes


@dataclass(frozen=True)
class Choice:
    """How ``filter`` chooses, beside the cut; its attributes are arguments of ``filter_dataset``."""

    by: By = "score"
    level: Level = TRANSITION
    per: str | None = None
    min_episode_length: int = 1
    keep_successors: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in ORDERS:
            raise SettingsError(f"--by {self.by}: unknown", fix=f"choose from {', '.join(ORDERS)}")
        for name, least in (("min_episode_length", 1), ("keep_successors", 0), ("seed", 0)):
            option = f"--{name.replace('_', '-')}"
            object.__setattr__(self, name, whole_number(getattr(self, name), option, least))


@dataclass(frozen=True)
class SelectionResult:
    """What a filter or a reweighting did.

    Attributes:
        run: whose scores decided.
        out: the folder written, None after a dry run.
        rule: the decision in words.
        cut: lowest value kept, None for weights.
        before, after: size and quality of all rows, and of the selection.
        reasons: rows by the reason for dropping them, or for keeping them though not for their own sake.
        notes: on what the format could not hold, and what the board says of such data.
        effective_sample_share_before_clipping: for weights, in (0, 1].
        warnings: signs that the selection rests on too little.
        skipped: the output was there already.
    """

    run: Path
    out: Path | None
    rule: str
    cut: float | None
    before: Summary
    after: Summary
    reasons: dict[str, int]
    notes: tuple[Note, ...] = ()
    effective_sample_share_before_clipping: float | None = None
    warnings: tuple[Note, ...] = ()
    skipped: bool = False

    def __fspath__(self) -> str:
        if self.out is None:
            raise SettingsError("a dry run wrote nothing", fix="leave dry_run out")
        return str(self.out)

    def __repr__(self) -> str:
        kept = ", ".join(
            f"{getattr(self.after, name):,} of {counted(getattr(self.before, name), name[:-1])}"
            for name in ("rows", "episodes")
        )
        mean = f"mean return {rounded(self.after.return_mean)}"
        return f"<SelectionResult {self.out or 'not written'}: {kept}, {mean}{warned(self.warnings)}>"


def filter_dataset(
    run: FolderLike,
    top: Cut | str,
    *,
    by: By = "score",
    level: Level | str = TRANSITION,
    per: str | None = None,
    min_episode_length: int = 1,
    keep_successors: int = 0,
    seed: int = 0,
    out: FolderLike | None = None,
    excluded: FolderLike | None = None,
    file_format: str = "parquet",
    columns: Sequence[str] | str | None = None,
    engine: Engine = "local",
    selection_only: bool = False,
    dry_run: bool = False,
    if_exists: IfExists = "fail",
    dataset: FolderLike | None = None,
) -> SelectionResult:
    """Keep the best rows, episodes or windows of a scored dataset and write them.

    The decision comes first, ``_selection.pq``; rows are then read once and written, some at a time.

    Args:
        run: a run folder, or what ``score_dataset`` gave.
        top: what to keep: "50%", "20000" (rows), "80%ep" or "64ep" (whole episodes); a ``Cut`` for a threshold,
            a budget or the worst.
        by: what rows are ordered by: "score", "vaco_score", "q_value", "advantage", "return" or "random".
        level: what is kept or dropped as a whole: "transition", "episode" or "window:N".
        per: a column whose values are groups that are cut to the same share each; None for one group.
        min_episode_length: shorter episodes are left out.
        keep_successors: steps after a kept row that are kept with it, for n-step learners.
        seed: of the order by chance.
        out: folder for the selection and the kept rows; None derives it from the run and the cut.
        excluded: folder for the dropped rows with the reason, None to leave them out.
        file_format: "parquet", "d4rl", "npz", "minari", "robomimic" or "lerobot".
        columns: of the source beyond those of transitions, to be written beside them; None for all.
        engine: "ray" writes units of the dataset on a cluster; what is complete is not done again when the same
            is asked for after a failure.
        selection_only: write the decision, no rows.
        dry_run: decide and summarize, write nothing.
        if_exists: "skip" leaves a finished output of the same run and options; "replace" replaces it.
        dataset: where the dataset is now, if it has moved since it was scored.

    Raises:
        CurateError: the dataset changed, nothing would be kept, or a folder is in the way.
    """
    check_if_exists(if_exists)
    columns = None if columns is None else several_names(columns, "--columns")
    cut = top if isinstance(top, Cut) else Cut(top)
    level = cut.level_of(level if isinstance(level, Level) else Level(level))
    choice = Choice(by, level, per, min_episode_length, keep_successors, seed)
    opened = open_run(place(run))
    out = place(out) if out is not None else default_out(opened.folder, cut, choice)
    excluded = place(excluded) if excluded is not None else None
    _check_format(file_format, FILTER_FORMATS)
    writes_rows = not selection_only and file_format in WRITERS
    _check_engine(engine, writes_rows)
    if not writes_rows:
        what = "--selection-only" if selection_only else f"--format {file_format}"
        _refuse_without_rows(what, {"--excluded": excluded, "--columns": columns})
    part = "selection" if selection_only else "kept"
    output = Output(out, excluded, part, file_format, columns, engine, replace=if_exists == "replace")
    request = {**cut.to_json(), **dataclasses.asdict(choice), "level": str(choice.level)}
    made = finished_outputs(opened, output, dataset, request) if if_exists == "skip" and not dry_run else None
    writes = made is None and not dry_run
    if dry_run and dataset is not None:
        opened.check_dataset_files(dataset, may_be_gone=False)
    if writes:
        _check_outputs(opened, output, dataset)
        check_engine(engine)
    decision = _decide(opened, cut, choice, dataset)
    selection = decision.selection
    notes = () if made is None else tuple(made["notes"])
    if writes:
        notes = write_output(opened, decision, output, dataset, request)
    return SelectionResult(
        opened.folder,
        None if dry_run else out,
        selection.rule,
        selection.cut,
        decision.before,
        decision.after,
        rows_by_reason(selection),
        as_notes(
            [
                *notes,
                *doubts(cut, decision.before),
                *mixed_episodes(opened, choice.level),
                *advice(opened, cut, choice.by),
            ]
        ),
        warnings=texts(
            [
                *(signs_of_scores(opened) if choice.by == "score" else []),
                *kept_signs(decision.after.effective_episodes, decision.before.episodes),
            ]
        ),
        skipped=made is not None,
    )


def reweight_dataset(
    run: FolderLike,
    *,
    temperature: float = 1.0,
    clip: float | None = None,
    file_format: str = "parquet",
    columns: Sequence[str] | str | None = None,
    engine: Engine = "local",
    out: FolderLike | None = None,
    if_exists: IfExists = "fail",
    dataset: FolderLike | None = None,
) -> SelectionResult:
    """Write every row of a scored dataset with a weight of mean 1, or just the weights.

    Args:
        temperature: weights are w ** (1 / temperature) of the scorer's.
        clip: largest weight allowed.
        file_format: "parquet", "d4rl" or "npz" for rows with weights; "weights", "npy" or "lerobot" for the
            weights alone.
        run: as for ``filter_dataset``.
        columns: as for ``filter_dataset``.
        engine: as for ``filter_dataset``.
        if_exists: as for ``filter_dataset``.

    Raises:
        CurateError: the dataset changed, a setting is out of range, or a folder is in the way.
    """
    check_if_exists(if_exists)
    columns = None if columns is None else several_names(columns, "--columns")
    opened = open_run(place(run))
    if file_format in WITHOUT_WEIGHTS:
        raise SettingsError(f"--format {file_format}: {WITHOUT_WEIGHTS[file_format]}")
    _check_format(file_format, WEIGHT_FORMATS)
    scored_format = opened.manifest["dataset"]["format"]
    if file_format == "lerobot" and scored_format != "lerobot":
        raise SettingsError(
            f"--format lerobot goes with a LeRobot dataset, and {scored_format} was scored",
            fix="give weights, which is a table of index and weight",
        )
    if file_format == "lerobot":
        _refuse_other_numbers(opened, dataset)
    part = "weighted" if file_format in WRITERS else "weights"
    _check_engine(engine, part == "weighted")
    if part == "weights":
        _refuse_without_rows(f"--format {file_format}", {"--columns": columns})
    out = place(out) if out is not None else beside(opened.folder, f"{run_stem(opened.folder)}.{part}")
    output = Output(out, None, part, file_format, columns, engine, replace=if_exists == "replace")
    temperature = real_number(temperature, "--temperature")
    clip = None if clip is None else real_number(clip, "--clip")
    request = {"temperature": temperature, "clip": clip}
    made = finished_outputs(opened, output, dataset, request) if if_exists == "skip" else None
    if made is None:
        _check_outputs(opened, output, dataset)
        check_engine(engine)
    decision, share_before = _weigh(opened, temperature, clip)
    notes = write_output(opened, decision, output, dataset, request) if made is None else tuple(made["notes"])
    after = decision.after
    share = after.effective_sample_size / after.rows
    return SelectionResult(
        opened.folder,
        out,
        decision.selection.rule,
        None,
        decision.before,
        after,
        {},
        as_notes(notes),
        share_before,
        texts([*signs_of_scores(opened), *weight_signs(share, after.effective_episodes, after.episodes)]),
        skipped=made is not None,
    )


def default_out(run_folder: Path, cut: Cut, choice: Choice) -> Path:
    """``hopper.vaco`` and top 50 % -> ``hopper.top50pct``, beside the run."""
    end = "bottom" if cut.worst else "top"
    if cut.share is not None:
        name = f"{end}{float(100 * cut.share):g}pct"
    elif cut.rows is not None:
        name = f"{end}{cut.rows}"
    elif isinstance(cut.episodes, Fraction):
        name = f"{end}{float(100 * cut.episodes):g}pctep"
    elif cut.episodes is not None:
        name = f"{end}{cut.episodes}ep"
    else:
        name = f"{'below' if cut.worst else 'above'}{cut.threshold!r}".removesuffix(".0")
    parts = [name]
    if choice.by != "score":
        parts.append(f"by-{choice.by}")
    if choice.level != TRANSITION and cut.episodes is None:
        parts.append("episodes" if choice.level.window is None else f"windows{choice.level.window}")
    if choice.per is not None:
        parts.append(f"per-{choice.per}".replace("/", "-"))
    return beside(run_folder, f"{run_stem(run_folder)}.{'-'.join(parts)}")


def _decide(run: Run, cut: Cut, choice: Choice, moved_to: FolderLike | None) -> Decision:
    if choice.by == "vaco_score" and run.manifest["settings"]["bilevel"]["updates"] == 0:
        raise SettingsError(
            f"--by vaco_score: the training of the scorer behind {run.folder} left the bi-level phase out",
            fix="train one with --preset standard",
        )
    group = None if choice.per is None else _groups(run, choice.per, moved_to)
    candidates = Candidates.scored(run.scores, choice.by, group=group, seed=choice.seed)
    selection = select(
        candidates,
        cut,
        choice.level,
        min_episode_length=choice.min_episode_length,
        keep_successors=choice.keep_successors,
    )
    return Decision.of(candidates, selection)


def _weigh(run: Run, temperature: float, clip: float | None) -> tuple[Decision, float]:
    """The decision, and the effective sample share before clipping."""
    candidates = Candidates.scored(run.scores)
    selection, share_before = reweight(candidates, temperature=temperature, maximum=clip)
    return Decision.of(candidates, selection), share_before


def _groups(run: Run, name: str, moved_to: FolderLike | None) -> Array:
    """(n,) numbers of the groups that a column of the dataset makes."""
    dataset = run.opened(moved_to)
    run.scores.check_rows(dataset.source, len(dataset))
    return dataset.further.groups(name)


def _check_outputs(run: Run, output: Output, dataset: FolderLike | None) -> None:
    """Refuse before any work; an output never replaces what it comes from."""
    out, excluded, file_format = output.folder, output.excluded, output.file_format
    recordings = [place(recording["path"]) for recording in run.manifest["dataset"]["recordings"]]
    sources = {"the dataset": place(dataset)} if dataset else {f"the dataset's {p.name}": p for p in recordings}
    for folder in [out] if excluded is None else [out, excluded]:
        if not is_local(folder) and file_format not in STORED_FORMATS:
            raise SettingsError(
                f"--format {file_format} is not written to an object store", fix="write it here"
            )
        refuse_overlap(folder, {"the run": run.folder} | sources)
        if lies_in(folder, run.folder):
            raise RunError(f"{folder} would lie in the run {run.folder}", fix="give a folder outside of it")
        refuse_existing(folder, CURATED, replace=output.replace)
    if excluded is not None and (lies_in(out, excluded) or lies_in(excluded, out)):
        raise RunError(f"--out {out} and --excluded {excluded} overlap", fix="give two separate folders")


def _check_engine(engine: Engine, writes_rows: bool) -> None:
    if engine != "local" and not writes_rows:
        raise SettingsError(
            f"--engine {engine} is for writing rows, and none are to be written", fix="leave it out"
        )


def _refuse_other_numbers(run: Run, moved_to: FolderLike | None) -> None:
    """Refuse a LeRobot dataset whose frames have other numbers than their rows, for LeRobot goes by them."""
    source = run.opened(moved_to)
    if "index" in source.further.types and (source.further.label("index") != np.arange(len(source))).any():
        raise SettingsError(
            f"--format lerobot: the column index of {source.source} does not count its frames from 0",
            fix="remove episodes by lerobot-edit-dataset, which counts them anew, and score the result",
        )


def _refuse_without_rows(what: str, options: dict[str, object]) -> None:
    """Refuse what has a meaning for rows alone, where none are to be written."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise SettingsError(
            f"{what} writes no rows, so {given[0]} has nothing to write", fix="leave one of them out"
        )


def _check_format(file_format: str, known: tuple[str, ...]) -> None:
    if file_format not in known:
        raise SettingsError(f"--format {file_format}: unknown here", fix=f"choose from {', '.join(known)}")
