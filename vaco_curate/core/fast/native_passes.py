"""Passes by the native library: each method is one call, put together once where addresses stay."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vaco_curate.core.fast import native
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.torch_passes import Pass, in_rows


class NativePass(Pass):
    """As ``Pass``, for stacks that ``native.usable`` accepts."""

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
                in_rows(gradient, number),
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
