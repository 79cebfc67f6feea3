"""The stage behind ``vaco-curate score``: train, export, score every row."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from vaco_curate.arguments import whole_number
from vaco_curate.core.outliers import outliers
from vaco_curate.core.rewards import RewardUse
from vaco_curate.core.scorer import Scorer
from vaco_curate.core.training.arithmetic import arithmetic, device_name
from vaco_curate.core.training.loop import OnProgress, Progress
from vaco_curate.core.training.presets import PRESETS, chosen_settings
from vaco_curate.core.training.settings import TrainSettings
from vaco_curate.core.training.trainer import Training, train
from vaco_curate.core.transitions import Transitions, blocks
from vaco_curate.data.formats import Dataset, ReadOptions, opened_once
from vaco_curate.data.formats.cache import bytes_in_memory, cache_folder, mapped
from vaco_curate.data.formats.in_memory import Source
from vaco_curate.data.formats.tables import write_table
from vaco_curate.errors import DatasetError, SettingsError
from vaco_curate.stages.runs import METRICS_FILE, POLICY_FOLDER, SCORER_FOLDER
from vaco_curate.stages.score_runs import (
    ScoreResult,
    finish_run,
    new_manifest,
    open_scorable,
    recorded_result,
    request_of,
)
from vaco_curate.stages.scoring import score_into
from vaco_curate.stages.sources import settled
from vaco_curate.stages.training_request import Request, checked_numbers, continued_or_anew, prepare
from vaco_curate.stages.training_tasks import PHASES, how_far, training_tasks
from vaco_curate.store.files import FolderLike, hidden, is_local, remove
from vaco_curate.store.folders import (
    CHECKPOINT_FILE,
    RUN,
    SCRATCH,
    IfExists,
    alone,
    check_if_exists,
    discard,
    finished_as_asked,
    is_complete,
    put_in_place,
)
from vaco_curate.store.manifest import now, read_times, write_manifest, write_times
from vaco_curate.store.memory import memory_of_machine


def score_dataset(
    source: Source,
    *,
    out: FolderLike | None = None,
    settings: TrainSettings | str | None = None,
    seed: int | None = None,
    members: int | None = None,
    device: str = "auto",
    resume: bool = False,
    if_exists: IfExists = "fail",
    read_options: ReadOptions | None = None,
    memory_limit: int | None = None,
    cache: bool = True,
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> ScoreResult:
    """Train on a dataset, score its rows, and write the run folder.

    Training happens in a folder named ``<out>.partial`` beside the result, which takes the name
    ``out`` when everything in it is complete.

    Args:
        source: where the dataset lies; or one in memory (``in_memory.Source``), which is written to a file
            beside ``out``, for later commands read it again.
        out: run folder; None for ``NAME.vaco`` in the current directory.
        settings: of your own, or the name of a preset ("quick", "standard", "paper"); None for "standard", or
            with ``resume`` for what the run began with.
        seed: None for 0, or with ``resume`` for what the run began with.
        members: independent scorers, with seeds from ``seed`` on, whose mean is the score and whose spread
            is ``score_std``; None for 1, or with ``resume`` for what the run began with.
        resume: continue an unfinished run; starts from the beginning when there is none.
        if_exists: "skip" leaves a finished run that has the same data and settings, whatever computed it;
            "replace" replaces a finished run, and starts an unfinished one over. With ``resume``, it goes on
            with an unfinished run of the same request, and replaces any other run.
        read_options: None for the defaults, or with ``resume`` for what the run began with.
        memory_limit: bytes; data that would need more is trained on from mapped files. None for half of the
            machine's memory, and of its GPU's if that trains.
        cache: keep the columns of such data in the user's cache folder, for the next time.
        on_progress: called with the training's progress; None shows bars on a terminal and in a notebook.
        on_note: called with a remark about what is being done; None for nobody.

    Raises:
        CurateError: unusable data, settings out of range, or a folder in the way.
        KeyboardInterrupt: Ctrl-C; once training has begun, with a note that says what is kept.
    """
    settings = None if settings is None else chosen_settings(settings)
    seed, members = checked_numbers(seed, members)
    if memory_limit is not None:
        memory_limit = whole_number(memory_limit, "--memory-limit", least=1)
    check_if_exists(if_exists)
    on_note = on_note or (lambda note: None)
    where = settled(source, out, read_options)
    if not is_local(where.run):
        raise SettingsError(f"--out {where.run}: training needs a folder of this machine; copy it afterwards")
    replace = if_exists == "replace"
    with _kept(on_progress) as told, where.removed_if_refused(lambda: told.last is not None), alone(where.run):
        if if_exists == "skip" and is_complete(where.run, RUN, damaged_too=True):
            asked = (settings or PRESETS["standard"], seed or 0, members or 1)
            return _recorded(where.address, where.run, read_options or ReadOptions(), *asked)
        request = prepare(
            where, settings, seed, members, read_options, device, on_note, resume=resume, replace=replace
        )
        return _score(request, memory_limit, told, on_note, replace=replace, cache=cache)


class _Told:
    """Tells of a training's progress, and knows how far it is."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.on_progress = on_progress
        self.last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        self.on_progress(progress)


@contextlib.contextmanager
def _kept(on_progress: OnProgress | None) -> Iterator[_Told]:
    """Tell of a training; what ends it says what is kept, from its first word on."""
    with training_tasks() if on_progress is None else contextlib.nullcontext(on_progress) as listener:
        told = _Told(listener)
        try:
            yield told
        except KeyboardInterrupt as error:
            if told.last is not None:
                error.add_note(
                    f"What was trained is kept: {how_far(told.last)}. To go on, call score_dataset with the "
                    "same arguments and resume=True."
                )
            raise


@opened_once()
def _recorded(
    address: str, out: Path, read_options: ReadOptions, settings: TrainSettings, seed: int, members: int
) -> ScoreResult:
    """The finished run, if it is what is asked for; else it is refused."""
    dataset = open_scorable(address, read_options, out)
    request = request_of(new_manifest(dataset, read_options, settings, seed, members), None)
    manifest = finished_as_asked(out, RUN, request)
    assert manifest is not None, "the run is finished"
    return recorded_result(out, manifest)


def _score(
    request: Request,
    memory_limit: int | None,
    on_progress: OnProgress,
    on_note: Callable[[str], None],
    *,
    replace: bool,
    cache: bool,
) -> ScoreResult:
    """Train, score, and give the folder its name."""
    work = request.work
    started = time.perf_counter()
    with contextlib.ExitStack() as until_scored:
        with opened_once():
            dataset = open_scorable(request.source, request.read_options, request.out)
            manifest = _manifest(request, dataset)
            hashes = manifest["dataset"]["recordings"]
            in_memory = _fits(dataset, request.members, request.device, memory_limit)
            data, scratch = until_scored.enter_context(
                _loaded(dataset, hashes, request.read_options, request.out, in_memory, cache, on_note)
            )
            dataset.refuse_changed()
        _refuse_untellable(data, dataset.success_flag)
        warnings = outliers(data)
        manifest["dataset"] |= {"fingerprint": data.fingerprint, "episodes": len(data.episode_start)}
        request = continued_or_anew(request, manifest, on_note, replace=replace)
        if request.began is not None:
            if request.began["complete"]:  # it stopped between its last write and its renaming
                _publish(request, replace=replace)
                return dataclasses.replace(recorded_result(request.out, request.began), skipped=False)
        elif work.exists():
            discard(work, request.out)
        work.mkdir(parents=True, exist_ok=True)
        write_manifest(work, manifest)  # first: without one, nobody knows whose folder it is
        if "started" not in read_times(work):
            write_times(work, {"started": now()})
        read_seconds = time.perf_counter() - started

        training = train(
            data,
            request.settings,
            seed=request.seed,
            members=request.members,
            device=request.device,
            checkpoint=work / CHECKPOINT_FILE,
            resume=request.began is not None,
            scratch=scratch,
            on_progress=on_progress,
        )
        scorer = _save(work, training, manifest)
        scoring = time.perf_counter()
        scored = score_into(work, dataset, lambda: scorer, scorer.scaling.reward_scale, data=data)
    seconds = {
        "read": read_seconds,
        "train": sum(row["seconds"] for row in training.metrics),
        "score": time.perf_counter() - scoring,
    }
    result = finish_run(
        work, request.out, manifest, scored, scorer, seconds, warnings, _unsettled(training, request.settings)
    )
    _publish(request, replace=replace)
    return result


def _manifest(request: Request, dataset: Dataset) -> dict[str, Any]:
    settings, device = request.settings, request.device
    manifest = new_manifest(dataset, request.read_options, settings, request.seed, request.members)
    return manifest | {
        "request": request_of(manifest, None),
        "arithmetic": arithmetic(device, settings.matmul_precision),
        "device": device_name(device),
    }


def _unsettled(training: Training, settings: TrainSettings) -> list[str]:
    """A note where the value phase, of which scores are made, ended before the order had settled."""
    value = settings.value
    rows = [row for row in training.metrics if row["phase"] == "value"]
    looks = [row["rank_correlation"] for row in rows if row.get("rank_correlation") is not None]
    all_made = bool(rows) and rows[-1]["update"] == value.updates
    if value.settled_at is None or not all_made or (looks and looks[-1] >= value.settled_at):
        return []
    reached = f"rank correlation {looks[-1]:.2f} of {value.settled_at:g}" if looks else "nor was looked at"
    return [
        f"the {PHASES['value']} made all its {value.updates:,} updates, and the order of the rows had not "
        f"settled ({reached}): a --preset with more updates may change it"
    ]


def _save(work: Path, training: Training, manifest: dict[str, Any]) -> Scorer:
    """Write what a training gave; the scorer with its provenance."""
    scorer = dataclasses.replace(training.scorer, provenance=manifest)
    scorer.save(work / SCORER_FOLDER)
    if training.policy is not None:
        training.policy.save(work / POLICY_FOLDER, manifest)
    untimed = [{name: value for name, value in row.items() if name != "seconds"} for row in training.metrics]
    metrics = pa.Table.from_pylist(untimed, schema=_metrics_schema(untimed))
    write_table(work / METRICS_FILE, metrics)
    return scorer


def _publish(request: Request, *, replace: bool) -> None:
    """Give the complete run its name."""
    put_in_place(request.work, request.out, RUN, replace=replace)
    (request.out / CHECKPOINT_FILE).unlink(missing_ok=True)


def _fits(dataset: Dataset, members: int, device: torch.device, limit: int | None) -> bool:
    """Whether to train in memory: in ``limit`` bytes, or in half of what the machine and its GPU have."""
    columns, on_device = bytes_in_memory(dataset, members)
    if limit is not None or device.type == "cpu":
        return columns + on_device <= (limit if limit is not None else memory_of_machine() // 2)
    of_gpu: int = torch.cuda.get_device_properties(device).total_memory
    return columns <= memory_of_machine() // 2 and on_device <= of_gpu // 2


@contextlib.contextmanager
def _loaded(
    dataset: Dataset,
    hashes: list[dict[str, Any]],
    options: ReadOptions,
    out: Path,
    in_memory: bool,
    cache: bool,
    on_note: Callable[[str], None],
) -> Iterator[tuple[Transitions, Path | None]]:
    """The dataset in memory and None, or in mapped files and a folder for what training keeps of it.

    Args:
        hashes: of its files, which decide where its columns are cached.
    """
    if in_memory:
        yield dataset.read(), None
        return
    if cache:
        folder = cache_folder(hashes, options)
        yield mapped(dataset, folder, on_note), folder.parent
        return
    scratch = hidden(out, SCRATCH)
    try:
        yield mapped(dataset, scratch / "columns", on_note), scratch
    finally:
        remove(scratch)


def _refuse_untellable(data: Transitions, success_flag: str | None) -> None:
    """Refuse data that no scorer can tell apart: equal rows, or rewards that no target uses."""
    columns = (data.observation, data.action)
    if all((column[rows] == column[0]).all() for rows in blocks(len(data)) for column in columns):
        which = "the one row holds" if len(data) == 1 else f"all {len(data):,} rows hold"
        raise DatasetError(
            f"{data.source}: {which} one observation and action: there is nothing to tell apart",
            fix="score more data: behaviors that differ",
        )
    use = RewardUse()
    use.add(data)
    use.refuse_unused(data.source, success_flag)


def _metrics_schema(metrics: list[dict[str, Any]]) -> pa.Schema:
    """phase and update first, then every metric of either phase as a nullable float."""
    names = dict.fromkeys(name for row in metrics for name in row)
    kinds = {"phase": pa.string(), "update": pa.int64()}
    return pa.schema([pa.field(name, kinds.get(name, pa.float64())) for name in names])
