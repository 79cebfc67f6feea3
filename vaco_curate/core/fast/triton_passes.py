"""Passes through stacked networks on a GPU: one Triton kernel each, where torch's kernels take ten.

An update's matrices are small. A kernel of torch's runs for two microseconds, and between two of them the
activations of all networks go to memory and back. Here a program takes a few rows of one network through all
its layers (``triton_kernels.py``). How a pass is divided follows measurements on an H200
(docs/performance.md).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from vaco_curate.core.fast import triton_kernels
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.torch_passes import Pass, in_rows

HIDDEN_LAYERS = 2
WIDEST, MOST_OUTPUTS = 256, 32
"""Hidden layers whose activations of a few rows fit in registers; outputs, whose loop is unrolled."""
FLOAT32, TF32 = "tf32x3", "tf32"
"""Of ``tl.dot``, always with float32 sums: three products of TF32 that make one as exact as float32; one."""
CHUNK = 32
"""Columns of a hidden layer that are at hand at a time."""
GRADIENT_TILE, GRADIENT_DEPTH, GRADIENT_WARPS = 32, 64, 4
FEW_NETWORKS = 8
"""Up to which the gradient between the hidden layers is computed beside the others; cuBLAS is faster for
more."""


@dataclass(frozen=True)
class Blocks:
    """Rows of a program, its warps, and how many loads are in flight."""

    rows: int
    warps: int
    stages: int

    def grid(self, networks: int, rows: int) -> tuple[int, int]:
        """Programs."""
        return triton.cdiv(rows, self.rows), networks

    def options(self) -> dict[str, int]:
        """Of a launch."""
        return {"BLOCK": self.rows, "num_warps": self.warps, "num_stages": self.stages}


SMALL_BLOCKS = Blocks(16, 4, 3)


def usable(stack: StackedMLP) -> bool:
    """Whether there are kernels for a stack, and they can be built where it lies."""
    _, *hidden, outputs = stack.sizes
    fits = len(hidden) == HIDDEN_LAYERS and max(hidden) <= WIDEST and outputs <= MOST_OUTPUTS
    return fits and stack.flat.dtype == torch.float32 and builds(stack.flat.device)


@functools.cache
def builds(device: torch.device) -> bool:
    """Whether the kernels can be built and run: that takes a C compiler, Python's headers, a cache folder."""
    stack = StackedMLP(FEW_NETWORKS + 1, (1, 1, 1, 1), device=device, dtype=torch.float32)
    trial = TritonPass(stack, 1)
    try:
        trial.forward(torch.zeros(1, 1, 1, device=device))
        trial.backward(stack.like())
        trial.per_example_products(stack)
    except Exception:  # whatever is missing, torch's kernels need nothing of it
        return False
    return True


class TritonPass(Pass):
    """As ``Pass``, for stacks that ``usable`` accepts."""

    def __init__(self, stack: StackedMLP, batch: int, **buffers: Sequence[Tensor] | None) -> None:
        super().__init__(stack, batch, **buffers)
        inputs, first, second, outputs = stack.sizes
        self._sizes = {"ROWS": batch, "D": inputs, "H1": first, "H2": second, "OUTPUTS": outputs}
        self._precision = FLOAT32 if stack.hidden_precision == "highest" else TF32
        self._depth = min(CHUNK, max(16, triton.next_power_of_2(inputs)))
        self._width = max(16, triton.next_power_of_2(max(first, second)))
        self._forth = self._back = SMALL_BLOCKS
        if stack.members * triton.cdiv(batch, SMALL_BLOCKS.rows) > 2 * _multiprocessors():
            warps = 8 if self._precision == FLOAT32 else 4  # three factors for one need the registers
            self._forth, self._back = Blocks(32, warps, 2), Blocks(64, warps, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """As ``Pass.forward``."""
        self.inputs = inputs if inputs.stride(2) == 1 else inputs.contiguous()
        out = self.layers[-1]
        triton_kernels.forward[self._forth.grid(*out.shape[:2])](
            *self._shared_inputs(),
            *_parameters(self.stack),
            *self.layers,
            **self._sizes,
            KEEP=bool(self.derivatives),
            **self._products(),
            **self._forth.options(),
        )
        return out

    def backpropagate(self) -> None:
        """As ``Pass.backpropagate``."""
        (h1, h2, out), (d1, d2, d3) = self.layers, self.derivatives
        triton_kernels.backward[self._back.grid(*out.shape[:2])](
            d3,
            self.stack.weight_transposed[1],
            self.stack.weight[-1],
            h1,
            h2,
            d1,
            d2,
            **{name: size for name, size in self._sizes.items() if name != "D"},
            PRECISION=self._precision,
            CHUNK=CHUNK,
            WIDTH=self._width,
            **self._back.options(),
        )

    def backward(self, gradient: StackedMLP) -> None:
        """As ``Pass.backward``."""
        self.backpropagate()
        h1, h2, _ = self.layers
        with_hidden = self.stack.members <= FEW_NETWORKS
        if not with_hidden:
            self._multiply(1, *self._weight_factors(1, h1), in_rows(gradient, 1))
        down, across = (triton.cdiv(self._sizes[name], GRADIENT_TILE) for name in ("H1", "H2"))
        tiles = triton.cdiv(self._sizes["D"], self._depth) * down + across + with_hidden * down * across
        triton_kernels.gradients[tiles, self.stack.members](
            *self._shared_inputs(),
            h1,
            h2,
            *self.derivatives,
            *_parameters(gradient),
            **self._sizes,
            HIDDEN=with_hidden,
            PRECISION=self._precision,
            EXACT=FLOAT32,
            TILE=GRADIENT_TILE,
            DEPTH=GRADIENT_DEPTH,
            INPUT_TILE=self._depth,
            num_warps=GRADIENT_WARPS,
            num_stages=1,
        )

    def per_example_products(self, direction: StackedMLP) -> Tensor:
        """As ``Pass.per_example_products``."""
        h1, h2, out = self.layers
        total = out.new_empty(out.shape[:2])
        triton_kernels.example_products[self._forth.grid(*out.shape[:2])](
            *self._shared_inputs(),
            h1,
            h2,
            *self.derivatives,
            *_parameters(direction),
            total,
            **self._sizes,
            **self._products(),
            **self._forth.options(),
        )
        return total

    def _shared_inputs(self) -> tuple[Tensor, int, int, int]:
        return self.inputs, len(self.inputs), self.inputs.stride(0), self.inputs.stride(1)

    def _products(self) -> dict[str, str | int]:
        return {
            "PRECISION": self._precision,
            "EXACT": FLOAT32,
            "CHUNK": CHUNK,
            "DEPTH": self._depth,
            "WIDTH": self._width,
        }


def _parameters(stack: StackedMLP) -> list[Tensor]:
    """Layer by layer, as they lie."""
    return [tensor for number, bias in enumerate(stack.bias) for tensor in (in_rows(stack, number), bias)]


def _multiprocessors() -> int:
    """Of the device, or what Triton's interpreter is to stand for."""
    if not torch.cuda.is_available():
        return 132
    count: int = torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count
    return count
