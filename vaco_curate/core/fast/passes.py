"""The fastest passes through stacked networks that there are where the networks lie."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Sequence

import torch
from torch import Tensor

from vaco_curate.core.fast import native
from vaco_curate.core.fast.native_passes import NativePass
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.torch_passes import Pass

OLDEST_TRITON = 3, 6


def new_pass(
    stack: StackedMLP,
    batch: int,
    *,
    layers: Sequence[Tensor] | None = None,
    derivatives: Sequence[Tensor] | None = None,
) -> Pass:
    """The fastest ``Pass`` there is for a stack where it lies."""
    return _kind(stack)(stack, batch, layers=layers, derivatives=derivatives)


def forward_only(stack: StackedMLP, batch: int) -> Pass:
    """A pass that keeps its outputs alone; its other layers and derivatives hold nothing of use."""
    kind = _kind(stack)
    if kind is not NativePass:
        return kind(stack, batch, derivatives=())
    # The library finishes one member before the next, so that they can share the memory between.
    members = stack.members
    hidden = [stack.flat.new_zeros(1, batch, width).expand(members, -1, -1) for width in stack.sizes[1:-1]]
    layers = [*hidden, stack.flat.new_zeros(members, batch, stack.sizes[-1])]
    return NativePass(stack, batch, layers=layers, derivatives=())


def _kind(stack: StackedMLP) -> type[Pass]:
    if native.usable(stack.flat):
        return NativePass
    if stack.flat.is_cuda and has_triton():
        from vaco_curate.core.fast import triton_passes

        if triton_passes.usable(stack):
            return triton_passes.TritonPass
    return Pass


def uses_triton(device: torch.device) -> bool:
    """Whether Triton's kernels can be built and run on a GPU."""
    if not has_triton():
        return False
    from vaco_curate.core.fast import triton_passes

    return triton_passes.builds(device)


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed, which comes with torch for CUDA on Linux, in a version that was tried."""
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_TRITON


def outputs(stack: StackedMLP, inputs: Tensor) -> Tensor:
    """Outputs of every member, (M, rows, outputs), for (rows, inputs) or (M, rows, inputs)."""
    return forward_only(stack, inputs.shape[-2]).forward(inputs if inputs.dim() == 3 else inputs[None])


def smaller_of_twins(critics: StackedMLP, pair: Tensor) -> Tensor:
    """min(Q1, Q2) of every member, (K, rows).

    Args:
        critics: 2 K networks: the first critic of every member, then the second.
        pair: observation and action, (rows, d + k) or (K, rows, d + k).
    """
    return torch.minimum(*outputs(critics, pair)[..., 0].chunk(2))
