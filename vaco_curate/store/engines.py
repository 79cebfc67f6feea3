"""Independent jobs, done here one after the other, or by the workers of a Ray cluster."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from vaco_curate.errors import CurateError, SettingsError

Engine = Literal["local", "ray"]
ENGINES: tuple[Engine, ...] = get_args(Engine)

JobResult = dict[str, Any]
"""What a job says of what it did, as JSON can hold it."""

Worker = Callable[[int], JobResult]
"""Does the job of a number; it can be done again, and then does what is not done yet."""


QUIET = {
    "ray.data._internal.execution.streaming_executor": logging.WARNING,  # when it has ended
    "ray.data._internal.progress": logging.ERROR,  # that it shows no progress
}
"""What of Ray's own words is left out."""


def check_engine(engine: Engine, device: str = "cpu") -> None:
    """Refuse what ``run_jobs`` could not do, before anything is begun.

    Raises:
        CurateError: an unknown engine; Ray is not installed; CUDA is asked for and no machine has any.
    """
    if engine not in ENGINES:
        raise SettingsError(f"--engine {engine}: unknown", fix=f"choose from {', '.join(ENGINES)}")
    if engine == "ray":
        gpus = _connected_ray().cluster_resources().get("GPU", 0)
        if device == "cuda" and not gpus:
            raise SettingsError(
                "--device cuda: no machine of the Ray cluster has one", fix="use --device cpu or auto"
            )


def run_jobs(
    engine: Engine, make_worker: Callable[[], Worker], count: int, *, device: str = "cpu"
) -> Iterator[JobResult]:
    """Do jobs 0 to ``count - 1``, in any order, and give the facts of each when it is done.

    Args:
        make_worker: makes what does jobs; called once where jobs run, where it may load a model and keep it.
            For Ray it must be picklable.
        device: whether Ray gives every worker a GPU of its own: "cpu" for none, "cuda", or "auto" for one if
            the cluster has any. What a worker computes on is its own choice.

    Raises:
        CurateError: what a job raises; as ``check_engine``.
    """
    check_engine(engine, device)
    if engine == "local":
        worker = make_worker()
        yield from (worker(number) for number in range(count))
    else:
        yield from _run_on_ray(make_worker, count, device)


class _Actor:
    """A worker in a process of its own; an error that a user can act on comes back as facts."""

    def __init__(self, make_worker: Callable[[], Worker]) -> None:
        self.worker = make_worker()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        return {"facts": [json.dumps(self._facts(int(number))) for number in batch["id"]]}

    def _facts(self, number: int) -> JobResult:
        try:
            return self.worker(number)
        except CurateError as error:
            return {"refused": [error.problem, list(error.details), error.fix]}


def _run_on_ray(make_worker: Callable[[], Worker], count: int, device: str) -> Iterator[JobResult]:
    with _quiet():
        for row in _plan(make_worker, count, device).iter_rows():
            facts = json.loads(row["facts"])
            if "refused" in facts:
                problem, details, fix = facts["refused"]
                raise CurateError(problem, details=tuple(details), fix=fix)
            yield facts


def _connected_ray() -> Any:
    """Ray's module, connected to the cluster of ``RAY_ADDRESS`` or to one of this machine alone."""
    try:
        import ray  # deferred: optional
    except ImportError as error:
        raise CurateError("Ray is not installed", fix="pip install 'ray[data]'") from error
    with _quiet():
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
    return ray


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Ray's warnings of what it uses itself, and without ``QUIET``."""
    before = {name: logging.getLogger(name).level for name in QUIET}
    try:
        for name, level in QUIET.items():
            logging.getLogger(name).setLevel(level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _plan(make_worker: Callable[[], Worker], count: int, device: str) -> Any:
    """A Ray dataset whose rows are the facts of the jobs: an actor does one after the other."""
    import ray  # deferred: optional
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if device != "cpu" else 0
    cores = int(resources.get("CPU", 1))
    # One core stays free: Ray's own tasks would wait for it for ever.
    size = min(count, gpus if gpus else max(1, cores - 1))
    return ray.data.range(count, override_num_blocks=count).map_batches(
        _Actor,
        fn_constructor_args=(make_worker,),
        batch_size=1,
        compute=ActorPoolStrategy(size=size),
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
    )
