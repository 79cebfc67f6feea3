"""Memory that passes of an update share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from vaco_curate.core.fast.stacked import StackedMLP


class Workspace:
    """Buffers in which passes take turns: one has done its work before the next begins.

    The less memory an update walks through, the more of it stays in the cache.

    Args:
        stacks: the networks of these passes.
        batch: rows for each member.
    """

    def __init__(self, stacks: Sequence[StackedMLP], batch: int) -> None:
        self.batch = batch
        widths = [[stack.members * width for width in stack.sizes[1:]] for stack in stacks]
        depth = max(map(len, widths))
        self._elements = [batch * max(of[level] for of in widths if level < len(of)) for level in range(depth)]
        self._like = stacks[0].flat

    def layers(self, stack: StackedMLP) -> list[Tensor]:
        """For ``Pass.layers`` of one of the stacks."""
        return self._views(self._layers, stack)

    def derivatives(self, stack: StackedMLP) -> list[Tensor]:
        """For ``Pass.derivatives`` of one of the stacks."""
        return self._views(self._derivatives, stack)

    @cached_property
    def _layers(self) -> list[Tensor]:
        return [self._like.new_zeros(count) for count in self._elements]

    @cached_property
    def _derivatives(self) -> list[Tensor]:
        return [self._like.new_zeros(count) for count in self._elements]

    def _views(self, memory: Sequence[Tensor], stack: StackedMLP) -> list[Tensor]:
        shapes = [(stack.members, self.batch, width) for width in stack.sizes[1:]]
        return [part[: m * b * w].view(m, b, w) for part, (m, b, w) in zip(memory, shapes, strict=False)]
