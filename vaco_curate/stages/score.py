"""The stage behind ``vaco-curate score``: train, export, score every row."""

from __future__ import annotations

import dataclasses
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from vaco_curate import native
from vaco_curate.curation.health import score_warnings
from vaco_curate.curation.weights import effective_sample_share, weights_from_scores
from vaco_curate.errors import RunError, SettingsError
from vaco_curate.folders import (
    RUN,
    UNFINISHED,
    is_complete,
    put_in_place,
    refuse_existing,
    refuse_overlap,
    replaced_folder,
    run_folder_for,
)
from vaco_curate.formats import ReadOptions, read_dataset
from vaco_curate.formats.parquet import write_table
from vaco_curate.manifest import FILE_NAME, hash_source, now, read_manifest, versions, write_manifest
from vaco_curate.scorer import Scorer
from vaco_curate.scores import ScoreTable, score_table
from vaco_curate.stages.runs import METRICS_FILE, POLICY_FOLDER, SCORER_FOLDER, SCORES_FILE, open_run
from vaco_curate.training import (
    PRESETS,
    OnProgress,
    TrainSettings,
    arithmetic,
    settings_from_json,
    train,
)
from vaco_curate.transitions import Transitions

CHECKPOINT_FILE = "checkpoint.safetensors"
LARGEST_SEED = 2**62
LARGEST_MEMBERS = 256


@dataclass(frozen=True)
class ScoreResult:
    """What a scoring run gave.

    Attributes:
        run: the run folder.
        rows, episodes: of the dataset.
        members: scorers whose mean is the score.
        effective_sample_share: of the scorer's weights, in (0, 1].
        seconds: wall time by part.
        notes: what was assumed.
        warnings: signs that the scores are not worth trusting.
    """

    run: Path
    rows: int
    episodes: int
    members: int
    effective_sample_share: float
    seconds: dict[str, float]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def resolve_device(device: str) -> torch.device:
    """The device to train on; "auto" is CUDA when there is one.

    Raises:
        SettingsError: CUDA is asked for and not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: torch finds no CUDA device here", fix="use --device cpu or auto")
    return torch.device(device)


def score_dataset(
    source: str | Path,
    *,
    out: str | Path | None = None,
    settings: TrainSettings | None = None,
    seed: int | None = None,
    members: int | None = None,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    read_options: ReadOptions | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> ScoreResult:
    """Train VACO on a dataset and write the run folder.

    Training happens in a folder named ``<out>.partial`` beside the result, which takes the name
    ``out`` when everything in it is complete.

    Args:
        out: run folder; None for ``NAME.vaco`` in the current directory.
        settings: None for the ``standard`` preset, or with ``resume`` for what the run began with.
        seed: None for 0, or with ``resume`` for what the run began with.
        members: independent scorers, with seeds from ``seed`` on, whose mean is the score and whose spread
            is ``score_std``; None for 1, or with ``resume`` for what the run began with.
        resume: continue an unfinished run; starts from the beginning when there is none.
        force: replace a finished run, or start an unfinished one over.
        read_options: None for the defaults, or with ``resume`` for what the run began with.

    Raises:
        CurateError: unusable data, settings out of range, or a folder in the way.
    """
    source = str(source)
    _check_seed(seed, members)
    torch_device = resolve_device(device)
    out = Path(out) if out is not None else run_folder_for(source)
    work = out.resolve().with_name(f"{out.resolve().name}{UNFINISHED}")
    began = _unfinished_run(out, work, resume=resume, force=force)
    settings = settings or _began_settings(began) or PRESETS["standard"]
    if seed is None:
        seed = 0 if began is None else int(began["seed"])
    if members is None:
        members = 1 if began is None else int(began["members"])
    if read_options is None and began is not None:
        read_options = ReadOptions(**began["dataset"]["read_options"])
    read_options = read_options or ReadOptions()

    started = time.perf_counter()
    data = read_dataset(source, read_options)
    refuse_overlap(out, {"the dataset": _path(data)})
    manifest = _manifest(source, data, read_options, settings, seed, members, torch_device)
    if began is not None:
        _check_same_run(work, began, manifest)
        manifest["started"] = began["started"]
        if began["complete"]:  # it stopped between its last write and its renaming
            put_in_place(work, out, RUN, force=force)
            return _recorded_result(out, began)
    elif work.exists():
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_manifest(work, manifest)
    read_seconds = time.perf_counter() - started

    training = train(
        data,
        settings,
        seed=seed,
        members=members,
        device=torch_device,
        checkpoint=work / CHECKPOINT_FILE,
        resume=began is not None,
        on_progress=on_progress,
    )
    scorer = dataclasses.replace(training.scorer, provenance=manifest)
    scorer.save(work / SCORER_FOLDER)
    training.policy.save(work / POLICY_FOLDER, manifest)
    write_table(
        work / METRICS_FILE, pa.Table.from_pylist(training.metrics, schema=_metrics_schema(training.metrics))
    )
    scoring = time.perf_counter()
    scores = _score_into(work, data, scorer)
    seconds = {
        "read": read_seconds,
        "train": sum(row["seconds"] for row in training.metrics),
        "score": time.perf_counter() - scoring,
    }
    result = _result(out, data, scores, scorer, seconds)
    write_manifest(work, manifest | {"finished": now(), **_outcome(result), "complete": True})
    put_in_place(work, out, RUN, force=force)
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    return result


def apply_scorer(
    source: str | Path,
    scorer_run: str | Path,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    force: bool = False,
    read_options: ReadOptions | None = None,
) -> ScoreResult:
    """Score a dataset with the scorer of an earlier run, without training.

    Raises:
        CurateError: unusable data, vectors of other sizes, or a folder in the way.
    """
    source = str(source)
    torch_device = resolve_device(device)
    out = Path(out) if out is not None else run_folder_for(source)
    trained = open_run(Path(scorer_run))
    refuse_overlap(out, {"the run of the scorer": trained.folder})
    refuse_existing(out, RUN, force=force)
    scorer = Scorer.load(trained.folder / SCORER_FOLDER, torch_device)
    started = time.perf_counter()
    data = read_dataset(source, read_options)
    refuse_overlap(out, {"the dataset": _path(data)})
    settings = settings_from_json(trained.manifest["settings"], TrainSettings())
    manifest = _manifest(
        source,
        data,
        read_options or ReadOptions(),
        settings,
        trained.manifest["seed"],
        trained.manifest["members"],
        torch_device,
    ) | {"scorer_from": str(trained.folder.resolve()), "arithmetic": trained.manifest["arithmetic"]}
    read = time.perf_counter()
    with replaced_folder(out, RUN, force=force) as work:
        scores = _score_into(work, data, scorer)
        shutil.copytree(trained.folder / SCORER_FOLDER, work / SCORER_FOLDER)
        seconds = {"read": read - started, "score": time.perf_counter() - read}
        result = _result(out, data, scores, scorer, seconds)
        write_manifest(work, manifest | {"finished": now(), **_outcome(result), "complete": True})
    return result


def _score_into(work: Path, data: Transitions, scorer: Scorer) -> ScoreTable:
    table = score_table(
        data,
        scorer.score(data),
        reward_scale=scorer.scaling.reward_scale,
    )
    table.save(work / SCORES_FILE)
    return table


def _result(
    out: Path, data: Transitions, scores: ScoreTable, scorer: Scorer, seconds: dict[str, float]
) -> ScoreResult:
    score = scores.column("score")
    return ScoreResult(
        run=out,
        rows=len(data),
        episodes=len(data.episode_start),
        members=scorer.members,
        effective_sample_share=effective_sample_share(weights_from_scores(score, 1.0)),
        seconds={part: round(value, 3) for part, value in seconds.items()},
        notes=(*data.notes, _note_on_actions(scorer), *_notes_on_kernels(scorer)),
        warnings=tuple(score_warnings(score, data.episode_return)),
    )


def _recorded_result(out: Path, manifest: dict[str, Any]) -> ScoreResult:
    return ScoreResult(
        run=out,
        rows=manifest["dataset"]["rows"],
        episodes=manifest["dataset"]["episodes"],
        members=manifest["members"],
        effective_sample_share=manifest["effective_sample_share"],
        seconds=manifest["seconds"],
        notes=tuple(manifest["notes"]),
        warnings=tuple(manifest["warnings"]),
    )


def _note_on_actions(scorer: Scorer) -> str:
    scaling = scorer.scaling
    low, high = scaling.action_low.round(4).tolist(), scaling.action_high.round(4).tolist()
    return f"actions are scaled to [-1, 1] by the {scaling.action_bounds_from}: low {low}, high {high}"


def _notes_on_kernels(scorer: Scorer) -> list[str]:
    if scorer.q_mean.is_cuda or native.load() is not None:
        return []
    return [f"torch's own kernels were used, which are slower: {native.why_not()}"]


def _outcome(result: ScoreResult) -> dict[str, Any]:
    return {
        "effective_sample_share": result.effective_sample_share,
        "seconds": result.seconds,
        "notes": list(result.notes),
        "warnings": list(result.warnings),
    }


def _manifest(
    source: str,
    data: Transitions,
    options: ReadOptions,
    settings: TrainSettings,
    seed: int,
    members: int,
    device: torch.device,
) -> dict[str, Any]:
    return {
        "kind": RUN,
        "complete": False,
        "started": now(),
        "dataset": {
            "source": source,
            "format": data.format,
            "read_options": options.to_json(),
            **hash_source(_path(data)),
            "fingerprint": data.fingerprint,
            "env_id": data.env_id,
            "env_kwargs": dict(data.env_kwargs),
            "rows": len(data),
            "episodes": len(data.episode_start),
        },
        "settings": settings.to_json(),
        "seed": seed,
        "members": members,
        "arithmetic": arithmetic(device, settings.matmul_precision),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "versions": versions(),
    }


def _unfinished_run(out: Path, work: Path, *, resume: bool, force: bool) -> dict[str, Any] | None:
    """The manifest of the unfinished run to go on with, None to begin anew; refuses what is in the way."""
    if not (resume and (work / FILE_NAME).is_file()):
        if resume and is_complete(out, RUN):
            raise RunError(
                f"{out} is finished, there is nothing to resume", fix="train again with --force alone"
            )
        if (work / FILE_NAME).is_file() and not force:
            raise RunError(
                f"{work} holds an unfinished run", fix="continue it with --resume, or start over with --force"
            )
        refuse_existing(work, RUN, force=force)
        refuse_existing(out, RUN, force=force)
        return None
    refuse_existing(out, RUN, force=force)
    return read_manifest(work)


def _began_settings(began: dict[str, Any] | None) -> TrainSettings | None:
    return None if began is None else settings_from_json(began["settings"], TrainSettings())


def _path(data: Transitions) -> Path:
    assert data.path is not None, "every reader says what it read"
    return data.path


def _check_seed(seed: int | None, members: int | None) -> None:
    if members is not None and not 1 <= members <= LARGEST_MEMBERS:
        raise SettingsError(f"--members {members} must be from 1 to {LARGEST_MEMBERS}")
    if seed is not None and not 0 <= seed < LARGEST_SEED:
        raise SettingsError(f"--seed {seed} must be at least 0 and below 2**62")


def _check_same_run(work: Path, began: dict[str, Any], now_asked: dict[str, Any]) -> None:
    pairs = {
        "dataset": (began["dataset"]["fingerprint"], now_asked["dataset"]["fingerprint"]),
        "settings": (settings_from_json(began["settings"], TrainSettings()).to_json(), now_asked["settings"]),
        "seed": (began["seed"], now_asked["seed"]),
        "members": (began["members"], now_asked["members"]),
        "device": (began["device"], now_asked["device"]),
        "arithmetic": (began["arithmetic"], now_asked["arithmetic"]),
    }
    changed = [name for name, (before, after) in pairs.items() if before != after]
    if changed == ["arithmetic"]:
        raise RunError(
            f"{work}: the unfinished run began with another arithmetic, it would not go on exactly",
            details=(f"began: {began['arithmetic']}", f"now:   {now_asked['arithmetic']}"),
            fix="resume where C compiler and VACO_CURATE_NATIVE are as they were, or start over with --force",
        )
    if changed:
        raise RunError(
            f"{work}: the unfinished run began with other values of: {', '.join(changed)}",
            fix="resume with what it began with (leave the options out), or start over with --force",
        )


def _metrics_schema(metrics: list[dict[str, Any]]) -> pa.Schema:
    """phase and update first, then every metric of either phase as a nullable float."""
    names = dict.fromkeys(name for row in metrics for name in row)
    kinds = {"phase": pa.string(), "update": pa.int64()}
    return pa.schema([pa.field(name, kinds.get(name, pa.float64())) for name in names])
