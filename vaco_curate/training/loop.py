"""The loop around a phase's update: blocks of draws, CUDA graphs, metrics, progress, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from vaco_curate.training.draws import BLOCK, Draws

Metrics = dict[str, Any]
Update = Callable[[Tensor, Tensor, bool], dict[str, Tensor]]
"""One update from its rows (K, batch) and noise (K, batch, width); gives metrics of (K,) each if asked."""

MEASURE_EVERY = 10
"""Updates between measured ones. Measuring all would add a tenth to an update's cost."""


@dataclass(frozen=True)
class Progress:
    """What a running phase tells its caller.

    Attributes:
        phase: "value" or "bilevel".
        update, updates: done and planned.
        interval: updates since the last report; 0 for the report with which a phase begins.
        updates_per_second: over that interval.
        metrics: means over that interval.
    """

    phase: str
    update: int
    updates: int
    interval: int
    updates_per_second: float
    metrics: Mapping[str, float]


OnProgress = Callable[[Progress], None]


class PhaseState(Protocol):
    """A state that counts its updates."""

    update: int


class Updates:
    """Runs ranges of updates and sums their metrics, without a word from the device in between.

    On CUDA a whole block of updates is captured as one graph and replayed: an update's kernels are so
    short that launching them one by one would take longer than running them.
    """

    def __init__(self, update: Update, draws: Draws) -> None:
        self.update, self.draws = update, draws
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, first: int, last: int) -> None:
        """Updates ``first`` to ``last - 1``."""
        while first < last:
            block, begin = divmod(first, BLOCK)
            end = min(BLOCK, begin + last - first)
            self.draws.fill(block)
            if self.draws.rows.is_cuda and end - begin == BLOCK:
                self._replay()
            else:
                self._run_block(begin, end)
            first += end - begin

    def means(self) -> dict[str, float]:
        """Metrics since the last call, means over the measured updates and the members."""
        assert self.sums is not None, "no update was run"
        *sums, count = self.sums.mean(dim=1).tolist()
        self.sums.zero_()
        return {name: total / count for name, total in zip(self.names, sums, strict=True)}

    def _run_block(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            measure = number % MEASURE_EVERY == 0
            metrics = self.update(self.draws.rows[number], self.draws.noise[number], measure)
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
                self._run_block(0, BLOCK)
            torch.cuda.current_stream().wait_stream(side)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._run_block(0, BLOCK)
        self.graph.replay()


def run_phase(
    phase: str,
    state: PhaseState,
    run: Updates,
    *,
    updates: int,
    log_every: int,
    checkpoint_every: int,
    metrics: list[Metrics],
    save: Callable[[], None],
    on_progress: OnProgress,
) -> None:
    """Update until the state has counted ``updates``; append a metrics row every ``log_every``.

    Checkpoints fall on logged updates, so that a resumed run has the same metrics rows.
    """
    on_progress(Progress(phase, state.update, updates, 0, 0.0, {}))
    while state.update < updates:
        started, since = time.perf_counter(), state.update
        state.update = min(updates, (since // log_every + 1) * log_every)
        run.run(since, state.update)
        count = state.update - since
        means = run.means()
        seconds = time.perf_counter() - started
        metrics.append({"phase": phase, "update": state.update, "seconds": seconds, **means})
        on_progress(Progress(phase, state.update, updates, count, count / seconds, means))
        if state.update % checkpoint_every == 0 or state.update == updates:
            save()
