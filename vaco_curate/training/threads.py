"""How many CPU threads a training uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's CPU operations on one thread, as every training of ours does.

    The matrices of a minibatch are small. A second thread made an update 1.35 times as fast on an
    idle machine of two cores, and 30 times as slow when another process held one of them: each of
    an update's hundred parallel regions then waits for the scheduler.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
