"""The loop around a phase's update: blocks of draws, CUDA graphs, metrics, progress, checkpoints."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vaco_curate.core.fast import native
from vaco_curate.core.training.arithmetic import MOST_THREADS
from vaco_curate.core.training.checkpoint import load_checkpoint, save_checkpoint, snapshot
from vaco_curate.core.training.draws import DRAWN_UPDATES, Draws
from vaco_curate.core.training.settings import MEASURE_EVERY
from vaco_curate.core.training.settling import LOOKS_TO_SETTLE, Settling

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """What a running phase tells its caller.

    Attributes:
        phase: "value" or "bilevel".
        update, updates: done and planned.
        interval: updates since the last report; 0 for the report with which a phase begins.
        updates_per_second: over that interval.
        metrics: means over that interval.
        settled: the phase ends here, before its last planned update.
    """

    phase: str
    update: int
    updates: int
    interval: int
    updates_per_second: float
    metrics: Mapping[str, float]
    settled: bool = False


OnProgress = Callable[[Progress], None]

SAVED_AT_LEAST = 60.0
"""Seconds of training after which a checkpoint is written at the next logged update; a kill costs no more."""


class Updates(ABC):
    """Runs ranges of updates and sums their metrics, without a word from the device within a block.

    On CUDA a whole block of updates is captured as one graph and replayed: an update's kernels are so
    short that launching them one by one would take longer than running them.
    """

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    @abstractmethod
    def update(self, number: int, measure: bool) -> dict[str, Tensor]:
        """One update, on the draws of this number within their block; metrics of (K,) each, if ``measure``."""

    def before(self, update: int) -> None:  # noqa: B027 (most have nothing to do)
        """Called with the first update of what is run next, at least once for every block."""

    def drawn(self) -> None:  # noqa: B027
        """Called when a block is drawn, before its updates."""

    def run(self, first: int, last: int) -> None:
        """Updates ``first`` to ``last - 1``."""
        while first < last:
            block, begin = divmod(first, DRAWN_UPDATES)
            end = min(DRAWN_UPDATES, begin + last - first)
            self.before(first)
            self.draws.fill(block)
            self.drawn()
            if self.draws.rows.is_cuda and end - begin == DRAWN_UPDATES:
                self._replay()
            else:
                self._run_block(begin, end)
            first += end - begin

    def means(self) -> dict[str, float]:
        """Metrics since the last call, means over the measured updates and the members.

        At least every ``MEASURE_EVERY`` updates one is measured; ``log_every`` is a multiple of it.
        """
        assert self.sums is not None, "no update was run"
        *sums, count = self.sums.mean(dim=1).tolist()
        self.sums.zero_()
        return {name: total / count for name, total in zip(self.names, sums, strict=True)}

    def _run_block(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            measure = number % MEASURE_EVERY == 0
            metrics = self.update(number, measure)
            if not measure:
                continue
            values = list(metrics.values())
            summands = torch.stack([*values, torch.ones_like(values[0])])
            if self.sums is None:
                self.names, self.sums = list(metrics), torch.zeros_like(summands)
            self.sums += summands

    def _replay(self) -> None:
        if self.sums is None:  # the first block is run as it is: libraries set themselves up in it
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._run_block(0, DRAWN_UPDATES)
            torch.cuda.current_stream().wait_stream(side)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._run_block(0, DRAWN_UPDATES)
        self.graph.replay()


class PhaseState(Protocol):
    """A state that counts its updates."""

    update: int


class Phase(Updates):
    """The updates of one phase on members that are computed together."""

    def __init__(self, draws: Draws, state: PhaseState, settling: Settling) -> None:
        super().__init__(draws)
        self.state, self.settling = state, settling

    @abstractmethod
    def signals(self) -> Tensor:
        """What decides the order of the rows after this phase, (K, signals, rows)."""

    @property
    def members(self) -> int:
        """K."""
        return self.draws.rows.shape[1]


@dataclass(frozen=True)
class Schedule:
    """When a phase logs, saves, looks and ends.

    Attributes:
        updates: at most.
        log_every, checkpoint_every: in updates.
        settled_at: rank correlation between looks at which the phase may end; None for never.
        first_look: updates before the first of them.
    """

    updates: int
    log_every: int
    checkpoint_every: int
    settled_at: float | None
    first_look: int


class SideBySide:
    """Runs phases of different members, each on a thread of its own where there are cores for them.

    Only with the native library: between its calls, threads share nothing of torch's settings but the
    precision of products, which it does not touch.

    Args:
        phases: how many there will be.
        threads: of the process.
    """

    def __init__(self, phases: int, threads: int) -> None:
        workers = min(phases, threads)
        self._pool: ThreadPoolExecutor | None = None
        if workers > 1 and native.load() is not None:
            native.use_threads(max(1, min(threads // workers, MOST_THREADS)))
            self._pool = ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1))

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, phases: Sequence[Updates], first: int, last: int) -> None:
        """Updates ``first`` to ``last - 1`` of each."""
        if self._pool is None:
            for phase in phases:
                phase.run(first, last)
        else:
            futures = [self._pool.submit(phase.run, first, last) for phase in phases]
            for future in futures:
                future.result()


@dataclass
class Record:
    """What a training leaves while it runs, also when it is interrupted.

    Attributes:
        metrics: of every interval so far.
        kept: the states after the last interval that ended, and how many intervals there were.
        states: everything that training changes, by name.
        checkpoint: file to keep both in; None for none.
        facts: what else the file is to hold.
        on_progress: whom to tell.
    """

    states: Mapping[str, Any]
    checkpoint: Path | None
    facts: Mapping[str, Any]
    on_progress: OnProgress
    metrics: list[Metrics] = field(default_factory=list)
    kept: tuple[dict[str, Tensor], int] | None = None
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is so old that the next one should not wait for its update."""
        return time.monotonic() - self.saved_at >= SAVED_AT_LEAST

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        self.metrics += load_checkpoint(checkpoint, self.states)["metrics"]

    def keep(self) -> None:
        """Copy the states, between intervals: updates that are broken off leave them in no usable order."""
        if self.checkpoint is not None:
            self.kept = snapshot(self.states), len(self.metrics)

    def save(self) -> None:
        """Write what was kept last to the checkpoint."""
        if self.checkpoint is not None and self.kept is not None:
            tensors, intervals = self.kept
            save_checkpoint(self.checkpoint, tensors, {**self.facts, "metrics": self.metrics[:intervals]})
        self.saved_at = time.monotonic()

    @contextmanager
    def saved_when_interrupted(self) -> Iterator[None]:
        """Write the checkpoint when Ctrl-C or SIGTERM ends the block."""
        try:
            yield
        except KeyboardInterrupt:
            self.save()
            raise


def run_phase(
    name: str, phases: Sequence[Phase], schedule: Schedule, record: Record, side_by_side: SideBySide
) -> None:
    """Update all members until the phase ends; a metrics row every ``log_every``.

    Checkpoints fall on logged updates, so that a resumed run has the same metrics rows.
    """
    done = phases[0].state.update
    settled = done < schedule.updates and _ended(phases, schedule)  # before an interruption
    record.on_progress(Progress(name, done, schedule.updates, 0, 0.0, {}, settled))
    while not _ended(phases, schedule):
        started, since = time.perf_counter(), done
        done = min(schedule.updates, (since // schedule.log_every + 1) * schedule.log_every)
        side_by_side.run(phases, since, done)
        for phase in phases:
            phase.state.update = done
        row = _means(phases)
        if schedule.settled_at is not None and phases[0].settling.is_due(done, schedule.first_look):
            looks = [phase.settling.look(done, phase.signals(), schedule.settled_at) for phase in phases]
            row["rank_correlation"] = min(looks)
        count, seconds = done - since, time.perf_counter() - started
        record.metrics.append({"phase": name, "update": done, "seconds": seconds, **row})
        record.keep()
        settled = done < schedule.updates and _ended(phases, schedule)
        record.on_progress(Progress(name, done, schedule.updates, count, count / seconds, row, settled))
        if done % schedule.checkpoint_every == 0 or record.is_due or _ended(phases, schedule):
            record.save()


def _ended(phases: Sequence[Phase], schedule: Schedule) -> bool:
    settled = all(phase.settling.settled >= LOOKS_TO_SETTLE for phase in phases)
    return settled or phases[0].state.update >= schedule.updates


def _means(phases: Sequence[Phase]) -> dict[str, float]:
    """Metrics of the interval, means over all members."""
    rows = [(phase.members, phase.means()) for phase in phases]
    members = sum(count for count, _ in rows)
    return {name: sum(count * row[name] for count, row in rows) / members for name in rows[0][1]}
