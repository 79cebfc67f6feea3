"""Forward and backward passes through stacked networks, with the derivatives written out.

The trainer's matrices are small, so that what surrounds a product costs as much as the product: one
kernel for every operation of every network, allocations, and the bookkeeping of autograd. Here the
networks of a stack (twin critics, members of an ensemble) share every operation, and a pass writes into
buffers that are made once. ``training/reference.py`` states the same updates with autograd and is the
oracle of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vaco_curate import native
from vaco_curate.stacked import StackedMLP


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
            self._multiply(number, *self._weight_factors(number, inputs), _in_rows(gradient, number))
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


def _in_rows(stack: StackedMLP, number: int) -> Tensor:
    """A layer's weights as they lie."""
    return (stack.weight if number == len(stack.weight) - 1 else stack.weight_transposed)[number]


_where_active = torch.ops.aten.threshold_backward.grad_input
"""(derivative, activation, 0, grad_input=out): the derivative where the activation is above 0."""


class NativePass(Pass):
    """The same by the native library: each method is one call, put together once where addresses stay."""

    def __init__(self, stack: StackedMLP, batch: int, **buffers: Sequence[Tensor] | None) -> None:
        super().__init__(stack, batch, **buffers)
        self.lower = stack.hidden_precision == "medium" and native.multiplies_bfloat16()
        self._programs: dict[tuple[str, object], native.Program] = {}
        self._total = torch.zeros_like(self.layers[-1][..., :1])

    def forward(self, inputs: Tensor) -> Tensor:
        """As ``Pass.forward``."""
        program = self._programs.get(("forward", 0))
        if program is None:
            program = self._remember("forward", 0, self._forward_operations(inputs))
        self.inputs = inputs
        native.point_left(program.operations[0], inputs)
        program()
        return self.layers[-1]

    def backpropagate(self) -> None:
        """As ``Pass.backpropagate``."""
        program = self._programs.get(("backpropagate", 0))
        if program is None:
            program = self._remember("backpropagate", 0, self._backward_operations())
        program()

    def backward(self, gradient: StackedMLP) -> None:
        """As ``Pass.backward``."""
        program = self._programs.get(("backward", id(gradient)))
        if program is None:
            operations = self._backward_operations() + self._gradient_operations(gradient)
            program = self._remember("backward", id(gradient), operations, gradient)
        native.point_left(program.operations[len(self.layers) - 1], self.inputs.transpose(1, 2))
        program()

    def input_gradient(self, columns: slice) -> Tensor:
        """As ``Pass.input_gradient``; the result is valid until the next call."""
        key = columns.start or 0, columns.stop
        program = self._programs.get(("inputs", key))
        if program is None:
            weight = self.stack.weight[0][:, :, columns]
            out = weight.new_empty(*self.derivatives[0].shape[:2], weight.shape[2])
            operation = native.product(self.derivatives[0], weight, out, native.STORE)
            program = self._remember("inputs", key, [operation], out)
        program()
        result: Tensor = program.tensors
        return result

    def per_example_products(self, direction: StackedMLP) -> Tensor:
        """As ``Pass.per_example_products``."""
        program, total = self._programs.get(("products", id(direction))), self._total
        if program is None:
            operations = self._product_operations(direction, total)
            program = self._remember("products", id(direction), operations, direction)
        native.point_left(program.operations[0], self.inputs)
        total.zero_()
        program()
        return total[..., 0].clone()

    def _remember(
        self, kind: str, key: object, operations: list[native.Operation], tensors: object = None
    ) -> native.Program:
        program = self._programs[kind, key] = native.Program(operations, self.stack.members, tensors)
        return program

    def _below(self, inputs: Tensor) -> list[Tensor]:
        """What each layer reads."""
        return [inputs, *self.layers[:-1]]

    def _lower(self, number: int) -> bool:
        return self.lower and self._is_hidden(number)

    def _forward_operations(self, inputs: Tensor) -> list[native.Operation]:
        last = len(self.layers) - 1
        return [
            native.product(
                below,
                self.stack.weight_transposed[number],
                layer,
                native.ADD_BIAS_RELU if number < last else native.ADD_BIAS,
                needs=native.ROWS_BEFORE if number else native.EVERYTHING,
                bfloat16=self._lower(number),
                bias=self.stack.bias[number],
            )
            for number, (below, layer) in enumerate(zip(self._below(inputs), self.layers, strict=True))
        ]

    def _backward_operations(self) -> list[native.Operation]:
        return [
            native.product(
                self.derivatives[number],
                self.stack.weight[number],
                self.derivatives[number - 1],
                native.MASK,
                needs=native.EVERYTHING if number == len(self.layers) - 1 else native.ROWS_BEFORE,
                bfloat16=self._lower(number),
                other=self.layers[number - 1],
            )
            for number in range(len(self.layers) - 1, 0, -1)
        ]

    def _gradient_operations(self, gradient: StackedMLP) -> list[native.Operation]:
        weights = [
            native.product(
                *self._weight_factors(number, below),
                _in_rows(gradient, number),
                native.STORE,
                needs=native.NOTHING if number else native.EVERYTHING,
                bfloat16=self._lower(number),
            )
            for number, below in enumerate(self._below(self.inputs))
        ]
        biases = zip(self.derivatives, gradient.bias, strict=True)
        return weights + [native.column_sums(derivative, bias, native.NOTHING) for derivative, bias in biases]

    def _product_operations(self, direction: StackedMLP, total: Tensor) -> list[native.Operation]:
        return [
            native.product(
                below,
                direction.weight_transposed[number],
                total,
                native.ROW_PRODUCT,
                needs=native.ROWS_BEFORE if number else native.EVERYTHING,
                bfloat16=self._lower(number),
                bias=direction.bias[number],
                other=self.derivatives[number],
            )
            for number, below in enumerate(self._below(self.inputs))
        ]


def new_pass(
    stack: StackedMLP,
    batch: int,
    *,
    layers: Sequence[Tensor] | None = None,
    derivatives: Sequence[Tensor] | None = None,
) -> Pass:
    """The fastest ``Pass`` there is for a stack where it lies."""
    kind = NativePass if native.usable(stack.flat) else Pass
    return kind(stack, batch, layers=layers, derivatives=derivatives)


def forward_only(stack: StackedMLP, batch: int) -> Pass:
    """A pass that keeps its outputs alone; its other layers and derivatives hold nothing of use."""
    if not native.usable(stack.flat):
        return Pass(stack, batch, derivatives=())
    # The library finishes one member before the next, so that they can share the memory between.
    members = stack.members
    hidden = [stack.flat.new_zeros(1, batch, width).expand(members, -1, -1) for width in stack.sizes[1:-1]]
    layers = [*hidden, stack.flat.new_zeros(members, batch, stack.sizes[-1])]
    return NativePass(stack, batch, layers=layers, derivatives=())


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
