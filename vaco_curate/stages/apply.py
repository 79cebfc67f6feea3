"""The stage behind ``vaco-curate score --scorer``: score every row by an earlier run's scorer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vaco_curate.core.scorer import Scorer
from vaco_curate.core.training.arithmetic import chosen_device
from vaco_curate.core.training.settings import TrainSettings, settings_from_json
from vaco_curate.data.formats import ReadOptions, opened_once
from vaco_curate.data.formats.in_memory import Source
from vaco_curate.stages.runs import SCORER_FOLDER, open_run
from vaco_curate.stages.score_runs import (
    ScoreResult,
    finish_run,
    new_manifest,
    open_scorable,
    recorded_result,
    request_of,
)
from vaco_curate.stages.scoring import score_into
from vaco_curate.stages.sources import Settled, settled
from vaco_curate.store.engines import Engine, check_engine
from vaco_curate.store.files import FolderLike, place
from vaco_curate.store.folders import (
    RUN,
    IfExists,
    check_if_exists,
    finished_as_asked,
    refuse_overlap,
    work_folder,
)


@opened_once()
def apply_scorer(
    source: Source,
    scorer_run: FolderLike,
    *,
    out: FolderLike | None = None,
    device: str = "auto",
    engine: Engine = "local",
    if_exists: IfExists = "fail",
    read_options: ReadOptions | None = None,
) -> ScoreResult:
    """Score a dataset with the scorer of an earlier run, without training.

    Args:
        source: as for ``score_dataset``.
        device: "cpu", "cuda", or "auto" for CUDA where units are scored, if it is there.
        engine: "ray" scores units of the dataset on a cluster; what is complete is not done again when it is
            called again after a failure.
        if_exists: "skip" leaves a finished run that has the same data and scorer; "replace" replaces it.

    Raises:
        CurateError: unusable data, vectors of other sizes, or a folder in the way.
    """
    check_if_exists(if_exists)
    if engine == "local":
        chosen_device(device)  # or a refusal, before anything is read
    where = settled(source, out, read_options)
    with where.removed_if_refused():
        return _applied(where, scorer_run, device, engine, if_exists, read_options or ReadOptions())


def _applied(
    where: Settled,
    scorer_run: FolderLike,
    device: str,
    engine: Engine,
    if_exists: IfExists,
    read_options: ReadOptions,
) -> ScoreResult:
    out = where.run
    trained = open_run(place(scorer_run), parts=(SCORER_FOLDER,))
    refuse_overlap(out, {"the run of the scorer": trained.folder})
    check_engine(engine, device)
    started = time.perf_counter()
    dataset = open_scorable(where.address, read_options, out)
    settings = settings_from_json(trained.manifest["settings"], TrainSettings())
    manifest = new_manifest(
        dataset, read_options, settings, trained.manifest["seed"], trained.manifest["members"]
    )
    manifest["request"] = request_of(manifest, trained.scorer_hashes())
    if if_exists == "skip" and (made := finished_as_asked(out, RUN, manifest["request"])) is not None:
        return recorded_result(out, made)
    scorer_folder = trained.folder.resolve() / SCORER_FOLDER
    opened = time.perf_counter()
    request = {"dataset": manifest["dataset"], "run": trained.identity(), "device": device}
    with work_folder(out, RUN, request, replace=if_exists == "replace", keep=engine != "local") as work:
        scorer = Scorer.load(scorer_folder)
        load, scale = partial(_load_scorer, scorer_folder, device), scorer.scaling.reward_scale
        scored = score_into(work, dataset, load, scale, engine=engine, device=device)
        dataset.refuse_changed()
        manifest["dataset"] |= scored.found
        manifest |= {
            "scorer_from": {"folder": str(trained.folder.resolve()), **trained.identity()},
            "arithmetic": trained.manifest["arithmetic"],
            "device": scored.device,
        }
        (work / SCORER_FOLDER).mkdir(exist_ok=True)
        for file in scorer_folder.iterdir():
            (work / SCORER_FOLDER / file.name).write_bytes(file.read_bytes())
        seconds = {"read": opened - started, "score": time.perf_counter() - opened}
        warnings = _read_otherwise(trained.manifest["dataset"], manifest["dataset"])
        return finish_run(work, out, manifest, scored, scorer, seconds, warnings)


def _read_otherwise(trained: Mapping[str, Any], applied: Mapping[str, Any]) -> list[str]:
    """Warnings of options by which the rows are read otherwise than those that the scorer was trained on.

    A flag of success may have another name, and names tell nothing between files of two formats.

    Args:
        trained, applied: facts of both datasets, of the manifests of their runs.
    """
    before, now = (ReadOptions.from_json(facts["read_options"]) for facts in (trained, applied))
    compared: tuple[str, ...] = ("--success", "--step-cost")
    if (before.success is None) == (now.success is None):
        compared = ("--step-cost",)
    if trained["format"] == applied["format"]:
        compared += ("--column", "--drop-columns", "--max-episode-steps")
    warnings = []
    for option in compared:
        was, given = (_given(options)[option] for options in (before, now))
        if was != given:
            with_was = f"with {option} {was}" if was else f"without {option}"
            with_given = f"with {option} {given}" if given else "without"
            warnings.append(
                f"the scorer was trained {with_was}, and these rows are read {with_given}: their scores "
                "are not comparable"
            )
    return warnings


def _given(options: ReadOptions) -> dict[str, str]:
    """The values of options as they are given to a command; empty for those that are not."""
    return {
        "--success": options.success or "",
        "--step-cost": f"{options.step_cost:g}" if options.step_cost else "",
        "--column": ",".join(f"{ours}={theirs}" for ours, theirs in sorted(options.columns.items())),
        "--drop-columns": ",".join(sorted(options.drop_columns)),
        "--max-episode-steps": str(options.max_episode_steps or ""),
    }


def _load_scorer(folder: Path, device: str) -> Scorer:
    """The scorer on a device of the machine where this is called."""
    return Scorer.load(folder, chosen_device(device))
