"""The stages behind ``vaco-curate filter`` and ``reweight``: decide, then write."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaco_curate.curation import Cut, Level, Selection, Summary, before_and_after, reweight, select
from vaco_curate.curation.output import write_dropped, write_kept, write_weights
from vaco_curate.errors import RunError
from vaco_curate.folders import CURATED, beside, refuse_existing, refuse_overlap, replaced_folder
from vaco_curate.manifest import hash_file, now, versions, write_manifest
from vaco_curate.stages.runs import Run, open_run


@dataclass(frozen=True)
class SelectionResult:
    """What a filter or a reweighting did.

    Attributes:
        run: whose scores decided.
        out: the folder written, None after a dry run.
        rule: the decision in words.
        cut: lowest score kept, None for weights.
        before, after: size and quality of all rows, and of the selection.
        effective_sample_share_before_clipping: for weights, in (0, 1].
    """

    run: Path
    out: Path | None
    rule: str
    cut: float | None
    before: Summary
    after: Summary
    effective_sample_share_before_clipping: float | None = None


def filter_dataset(
    run_folder: str | Path,
    cut: Cut,
    *,
    level: Level = "transition",
    out: str | Path | None = None,
    excluded: str | Path | None = None,
    dry_run: bool = False,
    force: bool = False,
    dataset: str | None = None,
) -> SelectionResult:
    """Keep the best rows or episodes of a scored dataset and write them as Parquet.

    Args:
        out: folder for the kept rows; None derives it from the run and the cut.
        excluded: folder for the dropped rows with the reason, None to leave them out.
        dry_run: decide and summarize, write nothing.
        dataset: where the dataset is now, if it has moved since it was scored.

    Raises:
        CurateError: the dataset changed, nothing would be kept, or a folder is in the way.
    """
    run = open_run(Path(run_folder))
    out = Path(out) if out is not None else default_out(run.folder, cut, level)
    excluded = Path(excluded) if excluded is not None else None
    if not dry_run:
        _check_outputs(run, out, excluded, dataset, force=force)
    data = run.dataset(dataset)
    selection = select(data, run.scores.column("score"), run.scores.column("rank"), cut, level)
    before, after = before_and_after(data, selection)
    request = {"level": level, **cut.to_json()}
    if not dry_run:
        # The stack closes in reverse: the kept rows, which are the result, are put in place last.
        with contextlib.ExitStack() as stack:
            kept_folder = stack.enter_context(replaced_folder(out, CURATED, force=force))
            if excluded is not None:
                folder = stack.enter_context(replaced_folder(excluded, CURATED, force=force))
                files = write_dropped(folder, data, run.scores, selection, _parquet_facts(run))
                _write_manifest(folder, run, selection, files, "excluded", request)
            files = write_kept(
                kept_folder, data, run.scores, selection, weighted=False, facts=_parquet_facts(run)
            )
            _write_manifest(kept_folder, run, selection, files, "kept", request)
    return SelectionResult(run.folder, None if dry_run else out, selection.rule, selection.cut, before, after)


def reweight_dataset(
    run_folder: str | Path,
    *,
    temperature: float = 1.0,
    clip: float | None = None,
    weights_only: bool = False,
    out: str | Path | None = None,
    force: bool = False,
    dataset: str | None = None,
) -> SelectionResult:
    """Write every row of a scored dataset with a weight of mean 1, or just the weights.

    Args:
        temperature: weights are w ** (1 / temperature) of the scorer's.
        clip: largest weight allowed.
        weights_only: write ``index, weight`` only.

    Raises:
        CurateError: the dataset changed, a setting is out of range, or a folder is in the way.
    """
    run = open_run(Path(run_folder))
    part = "weights" if weights_only else "weighted"
    out = Path(out) if out is not None else beside(run.folder, f"{run_stem(run.folder)}.{part}")
    _check_outputs(run, out, None, dataset, force=force)
    data = run.dataset(dataset)
    selection, share_before = reweight(run.scores.column("score"), temperature=temperature, maximum=clip)
    before, after = before_and_after(data, selection)
    with replaced_folder(out, CURATED, force=force) as folder:
        if weights_only:
            files = write_weights(folder, selection)
        else:
            files = write_kept(folder, data, run.scores, selection, weighted=True, facts=_parquet_facts(run))
        _write_manifest(folder, run, selection, files, part, {"temperature": temperature, "clip": clip})
    return SelectionResult(run.folder, out, selection.rule, None, before, after, share_before)


def run_stem(run_folder: Path) -> str:
    """``hopper`` for ``hopper.vaco``."""
    return run_folder.resolve().name.removesuffix(".vaco")


def default_out(run_folder: Path, cut: Cut, level: Level) -> Path:
    """``hopper.vaco`` and top 50 % -> ``hopper.top50pct``, beside the run."""
    if cut.share is not None:
        name = f"top{float(100 * cut.share):g}pct"
    else:
        name = f"top{cut.rows}" if cut.rows is not None else f"above{cut.threshold!r}".removesuffix(".0")
    suffix = "-episodes" if level == "episode" else ""
    return beside(run_folder, f"{run_stem(run_folder)}.{name}{suffix}")


def _check_outputs(run: Run, out: Path, excluded: Path | None, dataset: str | None, *, force: bool) -> None:
    """Refuse before any work; an output never replaces what it comes from."""
    source = Path(dataset or run.manifest["dataset"]["path"])
    for folder in [out] if excluded is None else [out, excluded]:
        refuse_overlap(folder, {"the run": run.folder, "the dataset": source})
        refuse_existing(folder, CURATED, force=force)
    if excluded is not None:
        one, other = out.resolve(), excluded.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise RunError(f"--out {out} and --excluded {excluded} overlap", fix="give two separate folders")


def _parquet_facts(run: Run) -> dict[str, Any]:
    return {"scored_dataset": run.scores.source, "scored_fingerprint": run.scores.fingerprint}


def _write_manifest(
    folder: Path, run: Run, selection: Selection, files: list[Path], part: str, request: dict[str, Any]
) -> None:
    write_manifest(
        folder,
        {
            "kind": CURATED,
            "complete": True,
            "part": part,
            "created": now(),
            "rule": {"words": selection.rule, "cut": selection.cut, "ties": "lowest index first", **request},
            "rows": {"kept": len(selection.kept_rows), "dropped": len(selection.dropped_rows)},
            "files": [hash_file(path, relative_to=folder) for path in files],
            "run": {"folder": str(run.folder.resolve()), "scorer": run.scorer_hashes()},
            "dataset": run.manifest["dataset"],
            "versions": versions(),
        },
    )
