"""How a training computes: CPU threads and the precision of products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from vaco_curate.stacked import float32_products


@contextlib.contextmanager
def training_arithmetic() -> Iterator[None]:
    """Run torch on one CPU thread and in float32, as every training of ours does; restores what was set.

    One thread: the matrices of a minibatch are small. A second thread made an update 1.35 times as fast
    on an idle machine of two cores, and 30 times as slow when another process held one of them: each of
    an update's hundred parallel regions then waits for the scheduler.

    Float32: the precision of the few products that may be lower is set around each (``StackedMLP``).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with float32_products():
            yield
    finally:
        torch.set_num_threads(threads)
