"""How a training computes: CPU threads and the precision of products."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from vaco_curate.core.fast import native
from vaco_curate.core.fast.passes import uses_triton
from vaco_curate.core.fast.stacked import float32_products
from vaco_curate.errors import SettingsError

MOST_THREADS = 4
"""Threads that share the rows of a minibatch; more were not measured."""


@contextlib.contextmanager
def training_arithmetic() -> Iterator[None]:
    """Run torch on one CPU thread and in float32, the native library on a few; restores what was set.

    One thread of torch's: the matrices of a minibatch are small, and each of an update's hundred parallel
    regions would wait for the scheduler where another process holds a core. The native library shares rows
    among threads in a way that waits for none that has not begun.

    Float32: the precision of the few products that may be lower is set around each (``StackedMLP``).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    native.use_threads(min(threads, MOST_THREADS))
    try:
        with float32_products():
            yield
    finally:
        native.use_threads(1)
        torch.set_num_threads(threads)


def chosen_device(device: str) -> torch.device:
    """The device of a name; "auto" is CUDA when there is one.

    Raises:
        SettingsError: CUDA is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: torch finds no CUDA device here", fix="use --device cpu or auto")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def device_name(device: torch.device) -> str:
    """The name of a device for people: ``cpu``, or that of the GPU."""
    return str(device) if device.type == "cpu" else torch.cuda.get_device_name(device)


def arithmetic(device: torch.device, matmul_precision: str) -> str:
    """How a training computes, for the manifest; only within one way are results equal to the last bit."""
    if device.type != "cpu" and uses_triton(device):
        return f"Triton and torch kernels, precision {matmul_precision}"
    if device.type != "cpu" or native.load() is None:
        return f"torch kernels, precision {matmul_precision}"
    if matmul_precision == "medium" and native.multiplies_bfloat16():
        return "native library, bfloat16 between hidden layers"
    return "native library, float32"
