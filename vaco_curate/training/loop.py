"""The loop around a phase's step: metrics, progress, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

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


def run_phase(
    phase: str,
    state: PhaseState,
    step: Callable[[int], dict[str, Tensor]],
    *,
    updates: int,
    log_every: int,
    checkpoint_every: int,
    metrics: list[Metrics],
    save: Callable[[], None],
    on_progress: OnProgress,
) -> None:
    """Run ``step`` until the state has counted ``updates``; append a metrics row every ``log_every``.

    Metrics stay on the device as running sums and are read only when logged. Checkpoints fall on
    logged updates, so that a resumed run has the same metrics rows.
    """
    on_progress(Progress(phase, state.update, updates, 0, 0.0, {}))
    sums: dict[str, Tensor] = {}
    started, since = time.perf_counter(), state.update
    while state.update < updates:
        for name, tensor in step(state.update).items():
            sums[name] = sums[name] + tensor if name in sums else tensor
        state.update += 1
        finished = state.update == updates
        if state.update % log_every and not finished:
            continue
        count = state.update - since
        means = dict(zip(sums, (torch.stack(list(sums.values())) / count).tolist(), strict=True))
        seconds = time.perf_counter() - started
        rate = count / seconds
        metrics.append({"phase": phase, "update": state.update, "seconds": seconds, **means})
        on_progress(Progress(phase, state.update, updates, count, rate, means))
        if state.update % checkpoint_every == 0 or finished:
            save()
        sums, since, started = {}, state.update, time.perf_counter()
