"""Forward and backward passes through stacked networks, with the derivatives written out.

The trainer's matrices are small, so that what surrounds a product costs as much as the product: one
kernel for every operation of every network, allocations, and the bookkeeping of autograd. Here the
networks of a stack (twin critics, members of an ensemble) share every operation, and a pass writes into
buffers that are made once. ``tests/reference.py`` states the same updates with autograd and is what
they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vaco_curate.core.fast.stacked import StackedMLP


class Pass:
    """A pass of fixed height through a stack, by torch's kernels.

    Args:
        stack: M networks.
        batch: rows for each member.
        layers, derivatives: buffers to share with another pass, where one has done its work before the
            other begins: the less memory an update walks through, the more of it stays in the cache. No
            derivatives at all for a pass that only goes forward.

    Attributes:
        layers: after ReLU, and the linear outputs last, (M, batch, width) for each layer.
        derivatives: of some scalar by the pre-activations of each layer, likewise.
    """

    def __init__(
        self,
        stack: StackedMLP,
        batch: int,
        *,
        layers: Sequence[Tensor] | None = None,
        derivatives: Sequence[Tensor] | None = None,
    ) -> None:
        shapes = [(stack.members, batch, width) for width in stack.sizes[1:]]
        self.stack = stack
        if layers is None:
            layers = [stack.flat.new_zeros(shape) for shape in shapes]
        if derivatives is None:
            derivatives = [stack.flat.new_zeros(shape) for shape in shapes]
        for buffers in (layers, derivatives):
            if buffers and [tuple(buffer.shape) for buffer in buffers] != shapes:
                raise ValueError(f"buffers of shapes {[tuple(b.shape) for b in buffers]}, not {shapes}")
        self.layers, self.derivatives = list(layers), list(derivatives)
        self.inputs = self.layers[0][..., :0]

    def forward(self, inputs: Tensor) -> Tensor:
        """Fill the layers and return the last of them.

        Args:
            inputs: (M, batch, inputs), which must not change before the last use of this pass; or fewer, which
                members share by turns, as twins do.
        """
        if len(inputs) < self.stack.members:
            inputs = inputs.repeat(self.stack.members // len(inputs), 1, 1)
        self.inputs = inputs
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            self._multiply(number, inputs, self.stack.weight_transposed[number], layer)
            layer.add_(self.stack.bias[number])
            if number < last:
                layer.relu_()
            inputs = layer
        return inputs

    def backpropagate(self) -> None:
        """From the derivatives by the outputs, fill the derivatives by all earlier pre-activations."""
        for number in range(len(self.layers) - 1, 0, -1):
            upper, lower = self.derivatives[number], self.derivatives[number - 1]
            if upper.shape[-1] == 1:
                torch.mul(upper, self.stack.weight[number], out=lower)
            else:
                self._multiply(number, upper, self.stack.weight[number], lower)
            _where_active(lower, self.layers[number - 1], 0.0, grad_input=lower)

    def backward(self, gradient: StackedMLP) -> None:
        """``backpropagate``, and fill the gradient by the parameters, summed over the batch."""
        self.backpropagate()
        inputs = self.inputs
        for number, derivative in enumerate(self.derivatives):
            self._multiply(number, *self._weight_factors(number, inputs), in_rows(gradient, number))
            torch.sum(derivative, dim=1, keepdim=True, out=gradient.bias[number])
            inputs = self.layers[number]

    def input_gradient(self, columns: slice) -> Tensor:
        """Derivatives by the given columns of the inputs, (M, batch, columns)."""
        return torch.bmm(self.derivatives[0], self.stack.weight[0][:, :, columns])

    def per_example_products(self, direction: StackedMLP) -> Tensor:
        """<gradient of example i by the parameters, direction> for every example, (M, batch).

        The gradient of one example by a weight matrix is the outer product of its derivative and its
        input, so its product with a direction G is derivative . (G input): the gradient of a single
        example is never formed.
        """
        total, inputs = torch.zeros_like(self.layers[-1][..., 0]), self.inputs
        for number, derivative in enumerate(self.derivatives):
            moved = torch.empty_like(derivative)
            self._multiply(number, inputs, direction.weight_transposed[number], moved)
            moved.add_(direction.bias[number])
            total += torch.sum(moved.mul_(derivative), dim=-1)
            inputs = self.layers[number]
        return total

    def _weight_factors(self, number: int, below: Tensor) -> tuple[Tensor, Tensor]:
        """Whose product is the gradient by a layer's weights as they lie, summed over the batch."""
        derivative = self.derivatives[number]
        if number == len(self.layers) - 1:
            return derivative.transpose(1, 2), below
        return below.transpose(1, 2), derivative

    def _is_hidden(self, number: int) -> bool:
        """Whether a layer's product is between hidden layers, and may use the lower precision."""
        return 0 < number < len(self.layers) - 1

    def _multiply(self, number: int, left: Tensor, right: Tensor, out: Tensor) -> None:
        if self._is_hidden(number):
            torch.set_float32_matmul_precision(self.stack.hidden_precision)
            torch.bmm(left, right, out=out)
            torch.set_float32_matmul_precision("highest")
        elif out.shape[-1] == 1:  # a matrix times a vector, for which torch has no batched kernel
            torch.sum(left * right.transpose(1, 2), dim=-1, keepdim=True, out=out)
        else:
            torch.bmm(left, right, out=out)


def in_rows(stack: StackedMLP, number: int) -> Tensor:
    """A layer's weights as they lie, contiguous within a member."""
    return (stack.weight if number == len(stack.weight) - 1 else stack.weight_transposed)[number]


_where_active = torch.ops.aten.threshold_backward.grad_input
"""(derivative, activation, 0, grad_input=out): the derivative where the activation is above 0."""
