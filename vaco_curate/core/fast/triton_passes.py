"""Passes through stacked networks on a GPU: one Triton kernel each, where torch's kernels take ten.

An update's matrices are small. A kernel of torch's runs for two microseconds, and between two of them the
activations of all networks go to memory and back. Here a program takes a few rows of one network through all
its layers (``triton_kernels.py``). How a pass is divided follows measurements (docs/performance.md).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from vaco_curate.core.fast import triton_kernels
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.torch_passes import Pass

HIDDEN_LAYERS = 2
WIDEST, MOST_OUTPUTS = 256, 32
"""Hidden layers, and outputs, of which a few rows fit in registers."""
FLOAT32, TF32 = "tf32x3", "tf32"
"""Of ``tl.dot``, always with float32 sums: three products of TF32 that make one as exact as float32; one."""
CHUNK = 32
"""Columns of a hidden layer that are at hand at a time."""
LEAST = 16
"""Of every dimension of ``tl.dot``."""


@dataclass(frozen=True)
class Blocks:
    """Rows of a program, its warps, and how many loads are in flight."""

    rows: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tiles:
    """Of a gradient: sides of a program's tile, examples summed at a time, warps, loads in flight."""

    side: int
    depth: int
    warps: int
    stages: int


FEW_NETWORKS = 8
SMALL_BLOCKS = Blocks(16, 4, 3)
FORTH = Blocks(32, 4, 2)
BACK = {FLOAT32: SMALL_BLOCKS, TF32: Blocks(64, 4, 2)}
"""For so many networks that small blocks would come in more than two waves."""
TILES = {
    FLOAT32: (Tiles(32, 64, 4, 3), Tiles(64, 64, 4, 2)),
    TF32: (Tiles(32, 128, 4, 1), Tiles(32, 64, 4, 1)),
}
"""For few networks, and for more. All were the fastest of eight on an H100 (docs/performance.md)."""


class Launches:
    """How kernels are launched for stacks that share the widths of their hidden layers.

    Args:
        stacks: that kernels take side by side.
        batch: rows of each network.
        networks: in a launch.
    """

    def __init__(self, stacks: Sequence[StackedMLP], batch: int, networks: int) -> None:
        _, first, second, _ = stacks[0].sizes
        self.batch, self.networks = batch, networks
        precision = FLOAT32 if stacks[0].hidden_precision == "highest" else TF32
        self.inputs, outputs = (max(stack.sizes[end] for stack in stacks) for end in (0, -1))
        self.constants = {
            "ROWS": batch,
            "H1": first,
            "H2": second,
            "PRECISION": precision,
            "EXACT": FLOAT32,
            "CHUNK": CHUNK,
            "WIDTH": max(LEAST, triton.next_power_of_2(max(first, second))),
            "OUTPUTS": outputs,
            "OUTS": max(LEAST, triton.next_power_of_2(outputs)),
        }
        self.depth = min(CHUNK, max(LEAST, triton.next_power_of_2(self.inputs)))
        self.forth = self.back = SMALL_BLOCKS
        self.tiles = TILES[precision][networks > FEW_NETWORKS]
        if networks * triton.cdiv(batch, SMALL_BLOCKS.rows) > 2 * _multiprocessors():
            self.forth, self.back = FORTH, BACK[precision]

    def forward(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        """A kernel over blocks of rows that goes through the inputs."""
        self._over_rows(
            self.forth, kernel, arguments, {"DEPTH": self.depth, "INPUTS": self.inputs, **constants}
        )

    def backward(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        """A kernel over blocks of rows that goes back through the layers."""
        self._over_rows(self.back, kernel, arguments, constants)

    def gradient(self, kernel: Any, *arguments: Any, **constants: Any) -> None:
        """A kernel over tiles of gradients."""
        tiles = self.tiles
        down, across = (triton.cdiv(self.constants[name], tiles.side) for name in ("H1", "H2"))
        programs = down * across + triton.cdiv(self.inputs, self.depth) * down + across
        constants = {
            "SCALED": False,
            **constants,
            "TILE": tiles.side,
            "INPUT_TILE": self.depth,
            "DEPTH": tiles.depth,
        }
        options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
        self._launch(kernel, programs, arguments, constants, options)

    def _over_rows(
        self, blocks: Blocks, kernel: Any, arguments: Sequence[Any], constants: dict[str, Any]
    ) -> None:
        options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
        programs = triton.cdiv(self.batch, blocks.rows)
        self._launch(kernel, programs, arguments, {"BLOCK": blocks.rows, **constants}, options)

    def _launch(
        self,
        kernel: Any,
        programs: int,
        arguments: Sequence[Any],
        constants: dict[str, Any],
        options: dict[str, int],
    ) -> None:
        known = self.constants | constants
        wanted = {name: known[name] for name in kernel.arg_names if name in known}
        kernel[programs, self.networks](*arguments, **wanted, **options)


def usable(stack: StackedMLP) -> bool:
    """Whether there are kernels for a stack, and they can be built where it lies."""
    _, *hidden, outputs = stack.sizes
    fits = len(hidden) == HIDDEN_LAYERS and max(hidden) <= WIDEST and outputs <= MOST_OUTPUTS
    return fits and stack.flat.dtype == torch.float32 and builds(stack.flat.device)


@functools.cache
def builds(device: torch.device) -> bool:
    """Whether the kernels can be built and run: that takes a C compiler, Python's headers, a cache folder."""
    stack = StackedMLP(1, (1, 1, 1, 1), device=device, dtype=torch.float32)
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
        self._launches = Launches([stack], batch, stack.members)

    def forward(self, inputs: Tensor) -> Tensor:
        """As ``Pass.forward``."""
        self.inputs = inputs if inputs.stride(2) == 1 else inputs.contiguous()
        h1, h2, out = self.layers
        self._launches.forward(
            triton_kernels.forward,
            *table(self.inputs),
            *network(self.stack),
            h1,
            h2,
            out,
            *out.stride()[:2],
            KEEP=bool(self.derivatives),
            TANH=False,
        )
        return out

    def backpropagate(self) -> None:
        """As ``Pass.backpropagate``."""
        (h1, h2, _), (d1, d2, d3) = self.layers, self.derivatives
        self._launches.backward(triton_kernels.backward, d3, *network(self.stack), h1, h2, d1, d2)

    def backward(self, gradient: StackedMLP) -> None:
        """As ``Pass.backward``."""
        self.backpropagate()
        h1, h2, _ = self.layers
        flat = gradient.flat
        self._launches.gradient(
            triton_kernels.gradients,
            *table(self.inputs),
            h1,
            h2,
            *self.derivatives,
            *network(gradient)[1:],
            flat,
            flat,
            flat,
            flat,
            flat,
            flat,
            STEP=False,
            BETA1=0.0,
            BETA2=0.0,
            EPSILON=0.0,
            LOG_BETA1=0.0,
            LOG_BETA2=0.0,
        )

    def per_example_products(self, direction: StackedMLP) -> Tensor:
        """As ``Pass.per_example_products``."""
        h1, h2, out = self.layers
        total = out.new_empty(out.shape[:2])
        self._launches.forward(
            triton_kernels.example_products,
            *table(self.inputs),
            h1,
            h2,
            *self.derivatives,
            *network(direction),
            total,
        )
        return total


def table(inputs: Tensor) -> tuple[Tensor, int, int, int]:
    """(members, batch, columns), whose columns lie side by side: where it lies, members, and strides."""
    return inputs, len(inputs), inputs.stride(0), inputs.stride(1)


def network(stack: StackedMLP) -> tuple[Tensor, int, int, int]:
    """Parameters, the number of networks that lie in them, inputs and outputs."""
    inputs, first, second, outputs = stack.sizes
    of_one = (inputs + 1) * first + (first + 1) * second + (second + 1) * outputs
    return stack.flat, stack.flat.numel() // of_one, inputs, outputs


def _multiprocessors() -> int:
    """Of the device, or what Triton's interpreter is to stand for."""
    if not torch.cuda.is_available():
        return 132
    count: int = torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count
    return count
