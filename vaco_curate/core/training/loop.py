"""The loop around a phase's update: blocks of draws, CUDA graphs, metrics, progress, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from vaco_curate.core.training.draws import BLOCK, Draws
from vaco_curate.core.training.settings import MEASURE_EVERY
from vaco_curate.core.training.settling import LOOKS_TO_SETTLE, Settling

Metrics = dict[str, Any]
Update = Callable[[int, bool], dict[str, Tensor]]
"""The update of this number within the block that is drawn; gives metrics of (K,) each if asked."""


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


class Updates:
    """Runs ranges of updates and sums their metrics, without a word from the device within a block.

    On CUDA a whole block of updates is captured as one graph and replayed: an update's kernels are so
    short that launching them one by one would take longer than running them.

    Args:
        drawn: called when a block is drawn, before its updates.
        before: called with the first update of what is run next, at least once for every block.
    """

    def __init__(
        self,
        update: Update,
        draws: Draws,
        *,
        drawn: Callable[[], None] = lambda: None,
        before: Callable[[int], None] = lambda update: None,
    ) -> None:
        self.update, self.draws, self.drawn, self.before = update, draws, drawn, before
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.graph: torch.cuda.CUDAGraph | None = None

    def run(self, first: int, last: int) -> None:
        """Updates ``first`` to ``last - 1``."""
        while first < last:
            block, begin = divmod(first, BLOCK)
            end = min(BLOCK, begin + last - first)
            self.before(first)
            self.draws.fill(block)
            self.drawn()
            if self.draws.rows.is_cuda and end - begin == BLOCK:
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
                self._run_block(0, BLOCK)
            torch.cuda.current_stream().wait_stream(side)
            return
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._run_block(0, BLOCK)
        self.graph.replay()


class PhaseState(Protocol):
    """A state that counts its updates."""

    update: int


@dataclass(frozen=True)
class Part:
    """One group's part in a phase.

    Attributes:
        signals: what decides the order of the rows after this phase, (K, signals, rows).
    """

    state: PhaseState
    updates: Updates
    settling: Settling
    signals: Callable[[], Tensor]

    @property
    def members(self) -> int:
        """K."""
        return self.updates.draws.rows.shape[1]


@dataclass(frozen=True)
class Pacing:
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


def run_phase(
    phase: str,
    parts: Sequence[Part],
    pacing: Pacing,
    *,
    run_all: Callable[[Sequence[Callable[[], None]]], None],
    metrics: list[Metrics],
    save: Callable[[], None],
    on_progress: OnProgress,
) -> None:
    """Update all parts until the phase ends; append a metrics row every ``log_every``.

    Checkpoints fall on logged updates, so that a resumed run has the same metrics rows.

    Args:
        run_all: runs independent pieces of work, side by side where that is worth it.
    """
    done = parts[0].state.update
    on_progress(Progress(phase, done, pacing.updates, 0, 0.0, {}))
    while not _ended(parts, pacing):
        started, since = time.perf_counter(), done
        done = min(pacing.updates, (since // pacing.log_every + 1) * pacing.log_every)
        run_all([partial(part.updates.run, since, done) for part in parts])
        for part in parts:
            part.state.update = done
        row = _means(parts)
        if pacing.settled_at is not None and parts[0].settling.is_due(done, pacing.first_look):
            looks = [part.settling.look(done, part.signals(), pacing.settled_at) for part in parts]
            row["rank_correlation"] = min(looks)
        count, seconds = done - since, time.perf_counter() - started
        metrics.append({"phase": phase, "update": done, "seconds": seconds, **row})
        settled = done < pacing.updates and _ended(parts, pacing)
        on_progress(Progress(phase, done, pacing.updates, count, count / seconds, row, settled))
        if done % pacing.checkpoint_every == 0 or _ended(parts, pacing):
            save()


def _ended(parts: Sequence[Part], pacing: Pacing) -> bool:
    settled = all(part.settling.settled >= LOOKS_TO_SETTLE for part in parts)
    return settled or parts[0].state.update >= pacing.updates


def _means(parts: Sequence[Part]) -> dict[str, float]:
    """Metrics of the interval, means over all members."""
    rows = [(part.members, part.updates.means()) for part in parts]
    members = sum(count for count, _ in rows)
    return {name: sum(count * row[name] for count, row in rows) / members for name in rows[0][1]}
