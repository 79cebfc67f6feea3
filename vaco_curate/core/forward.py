"""What frozen networks make of every row of a dataset."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vaco_curate.core.advantage import TDErrors
from vaco_curate.core.fast import native
from vaco_curate.core.fast.passes import forward_only
from vaco_curate.core.fast.stacked import StackedMLP, float32_products
from vaco_curate.core.paths import Paths
from vaco_curate.core.scaling import Scaling
from vaco_curate.core.transitions import Array, Transitions

CPU_HEIGHT, CUDA_HEIGHT = 1 << 10, 1 << 16
"""Rows per forward pass of one network. On a CPU activations stay in the processor's cache
(docs/performance.md); on a GPU, where launching a pass costs as much as many rows, there are more."""

ChunkPass = Callable[[slice], Tensor]
"""Of the rows of a slice of no more than the height: (..., height), of which the first are theirs; good until
the next call."""


def height_for(device: torch.device, networks: int) -> int:
    """Rows per forward pass of this many networks.

    Fixed, and the last chunk is padded to it: a matrix product of another height may round differently, and
    what a row gives must not depend on its neighbors.
    """
    return CPU_HEIGHT if device.type == "cpu" else max(CPU_HEIGHT, CUDA_HEIGHT // networks)


def by_chunks(rows: int, height: int, prepare: Callable[[], ChunkPass], like: Tensor) -> Array:
    """What a pass gives for each row, (..., rows); on all of torch's threads by the native library.

    Args:
        height: of ``height_for``.
        prepare: makes a pass with buffers of its own, one for each thread.
        like: a tensor where the networks lie.
    """
    of_torch = torch.get_num_threads()
    by_library = native.usable(like)
    threads = of_torch if by_library else 1
    share = max(1, -(-rows // (height * threads))) * height
    pieces = [slice(start, min(start + share, rows)) for start in range(0, rows, share)] or [slice(0, 0)]

    def work(piece: slice) -> Array:
        one_pass = prepare()
        starts = range(piece.start, piece.stop, height) or [piece.start]  # no rows: one pass, for the shape
        parts = []
        for start in starts:
            part = slice(start, min(start + height, piece.stop))
            parts.append(one_pass(part)[..., : part.stop - part.start].cpu().numpy().copy())
        return np.concatenate(parts, axis=-1)

    alone = partial(torch.set_num_threads, 1) if by_library else None  # a thread of ours is a core's
    try:
        with float32_products(), ThreadPoolExecutor(len(pieces), initializer=alone) as pool:
            return np.concatenate(list(pool.map(work, pieces)), axis=-1)
    finally:
        torch.set_num_threads(of_torch)  # of threads that begin later, which the last word decides


def values_of(values: StackedMLP, scaling: Scaling, observation: Array) -> Array:
    """V of states by every member.

    Args:
        observation: (n, d), raw.

    Returns:
        (K, n) float32, in scaled reward units.
    """
    height = height_for(values.flat.device, values.members)

    def prepare() -> ChunkPass:
        states = values.flat.new_zeros(values.members, height, values.sizes[0])
        network = forward_only(values, height)

        def one_pass(rows: slice) -> Tensor:
            states[:, : rows.stop - rows.start] = torch.from_numpy(scaling.observation(observation[rows]))
            return network.forward(states)[..., 0]

        return one_pass

    return by_chunks(len(observation), height, prepare, values.flat)


def values_and_td_errors(
    values: StackedMLP, scaling: Scaling, discount: float, data: Transitions, paths: Paths
) -> tuple[Array, TDErrors]:
    """V(s) and TD errors of the rows of paths by every member, (K, rows) each, in scaled reward units."""
    rows = slice(None) if paths.length.sum() == len(data) else paths.rows()
    value = values_of(values, scaling, data.observation[rows])
    last_value = values_of(values, scaling, data.next_observation[paths.last])
    reward = scaling.reward(data.reward[rows])
    return value, TDErrors.of(reward, value, last_value, data.terminated[rows], paths.packed(), discount)
