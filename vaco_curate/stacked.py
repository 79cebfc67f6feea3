"""Several networks of one shape as batched matrices, with their derivatives written out.

The trainer's matrices are small, so that what surrounds a product costs as much as the product: one
kernel for every operation of every network, allocations, and the bookkeeping of autograd. Here the
networks of a stack (twin critics, members of an ensemble) share every operation, and all passes
write into buffers that are made once. ``training/reference.py`` states the same updates with
autograd and is the oracle of the tests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

Buffers = list[Tensor]
"""One (members, batch, width) tensor for each layer: activations, or derivatives by pre-activations."""


class StackedMLP:
    """M multilayer perceptrons with ReLU between linear layers.

    All parameters lie in one vector, layer by layer, so that an optimizer needs one kernel.

    Args:
        members: M.
        sizes: input width, hidden widths, output width.
        hidden_precision: of products between hidden layers, where nearly all the arithmetic is:
            "highest" is float32; "high" lets CUDA use TF32; "medium" lets CPUs that have bfloat16
            matrix units use them, with float32 sums and float32 results. The first layer, which sees the
            data, and the last, which makes the values, are always float32.

    Attributes:
        flat: every parameter, (count,).
        weight: views of ``flat``, (M, outputs, inputs) for each layer, as in ``nn.Linear``.
        bias: likewise, (M, 1, outputs).
    """

    def __init__(
        self,
        members: int,
        sizes: Sequence[int],
        *,
        hidden_precision: str = "highest",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.members = members
        self.sizes = tuple(sizes)
        self.hidden_precision = hidden_precision
        shapes = list(pairwise(self.sizes))
        count = sum(members * (fan_in + 1) * fan_out for fan_in, fan_out in shapes)
        self.flat = torch.zeros(count, device=device, dtype=dtype)
        self.weight: list[Tensor] = []
        self.bias: list[Tensor] = []
        rest = self.flat
        for fan_in, fan_out in shapes:
            weights, both = members * fan_out * fan_in, members * fan_out * (fan_in + 1)
            self.weight.append(rest[:weights].view(members, fan_out, fan_in))
            self.bias.append(rest[weights:both].view(members, 1, fan_out))
            rest = rest[both:]

    @classmethod
    def of(
        cls,
        networks: Sequence[nn.Sequential],
        *,
        hidden_precision: str = "highest",
        device: torch.device | str | None = None,
    ) -> StackedMLP:
        """A stack of copies of networks as ``networks.mlp`` makes them."""
        linear = [[layer for layer in network if isinstance(layer, nn.Linear)] for network in networks]
        sizes = [linear[0][0].in_features, *(layer.out_features for layer in linear[0])]
        dtype = linear[0][0].weight.dtype
        stack = cls(len(networks), sizes, hidden_precision=hidden_precision, device=device, dtype=dtype)
        with torch.no_grad():
            for member, layers in enumerate(linear):
                for number, layer in enumerate(layers):
                    stack.weight[number][member] = layer.weight
                    stack.bias[number][member, 0] = layer.bias
        return stack

    def like(self) -> StackedMLP:
        """Zeros of the same shape: a gradient, or a direction in parameter space."""
        return StackedMLP(
            self.members,
            self.sizes,
            hidden_precision=self.hidden_precision,
            device=self.flat.device,
            dtype=self.flat.dtype,
        )

    def clone(self, hidden_precision: str | None = None) -> StackedMLP:
        """A copy that shares nothing, with another precision if one is given."""
        copy = self.like()
        copy.flat.copy_(self.flat)
        copy.hidden_precision = hidden_precision or self.hidden_precision
        return copy

    @torch.no_grad()
    def write_to(self, member: int, network: nn.Sequential) -> None:
        """Copy one member's parameters into a network as ``networks.mlp`` makes them."""
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(layers, self.weight, self.bias, strict=True):
            layer.weight.copy_(weight[member])
            layer.bias.copy_(bias[member, 0])

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, views."""
        named = {f"weight.{number}": weight for number, weight in enumerate(self.weight)}
        return named | {f"bias.{number}": bias for number, bias in enumerate(self.bias)}

    def buffers(self, batch: int) -> Buffers:
        """Room for one pass over (M, batch, inputs)."""
        return [self.flat.new_zeros(self.members, batch, width) for width in self.sizes[1:]]

    def forward(self, inputs: Tensor, activations: Buffers) -> Tensor:
        """Fill ``activations`` and return the last of them, the outputs (M, batch, outputs).

        Args:
            inputs: (M, batch, inputs).
        """
        last = len(self.weight) - 1
        for number, out in enumerate(activations):
            self._apply(number, self.weight[number], inputs, out)
            out.add_(self.bias[number])
            if number < last:
                out.relu_()
            inputs = out
        return inputs

    def __call__(self, inputs: Tensor) -> Tensor:
        """Outputs of every member, (M, rows, outputs), for (rows, inputs) or (M, rows, inputs)."""
        return self.forward(inputs.expand(self.members, -1, -1), self.buffers(inputs.shape[-2]))

    def backpropagate(self, activations: Buffers, derivatives: Buffers) -> None:
        """From ``derivatives[-1]``, by the outputs, fill the derivatives by all earlier pre-activations."""
        for number in range(len(self.weight) - 1, 0, -1):
            upper, lower = derivatives[number], derivatives[number - 1]
            if upper.shape[-1] == 1:
                torch.mul(upper, self.weight[number], out=lower)
            else:
                self._multiply(number, upper, self.weight[number], lower)
            torch.ops.aten.threshold_backward.grad_input(lower, activations[number - 1], 0.0, grad_input=lower)

    def parameter_gradient(
        self, inputs: Tensor, activations: Buffers, derivatives: Buffers, gradient: StackedMLP
    ) -> None:
        """Sum over the batch of the gradients by the parameters, from what ``backpropagate`` filled."""
        for number, (below, derivative) in enumerate(self._layers(inputs, activations, derivatives)):
            out = gradient.weight[number]
            if derivative.shape[-1] == 1:
                torch.sum(below * derivative, dim=1, keepdim=True, out=out)
            else:
                self._multiply(number, derivative.transpose(1, 2), below, out)
            torch.sum(derivative, dim=1, keepdim=True, out=gradient.bias[number])

    def input_gradient(self, derivatives: Buffers, columns: slice) -> Tensor:
        """Derivatives by the given columns of the inputs, (M, batch, columns)."""
        return torch.bmm(derivatives[0], self.weight[0][:, :, columns])

    def per_example_products(
        self, inputs: Tensor, activations: Buffers, derivatives: Buffers, direction: StackedMLP
    ) -> Tensor:
        """<gradient of example i by the parameters, direction> for every example, (M, batch).

        The gradient of one example by a weight matrix is the outer product of its derivative and its
        input, so its product with a direction G is derivative . (G input): the gradient of a single
        example is never formed.
        """
        total = torch.zeros_like(derivatives[0][..., 0])
        for number, (below, derivative) in enumerate(self._layers(inputs, activations, derivatives)):
            moved = torch.empty_like(derivative)
            self._apply(number, direction.weight[number], below, moved)
            total += torch.linalg.vecdot(moved.add_(direction.bias[number]), derivative)
        return total

    def _layers(
        self, inputs: Tensor, activations: Buffers, derivatives: Buffers
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """(what a layer read, derivative by its pre-activation) for every layer."""
        return zip([inputs, *activations[:-1]], derivatives, strict=True)

    def _apply(self, number: int, weight: Tensor, inputs: Tensor, out: Tensor) -> None:
        """inputs times the transposed weight of a layer, (M, batch, outputs), without the bias."""
        if out.shape[-1] == 1:
            torch.linalg.vecdot(inputs, weight, out=out[..., 0])
        else:
            self._multiply(number, inputs, weight.transpose(1, 2), out)

    def _multiply(self, number: int, left: Tensor, right: Tensor, out: Tensor) -> None:
        """Batched product for a layer; only those between hidden layers may use a lower precision."""
        if 0 < number < len(self.weight) - 1:
            torch.set_float32_matmul_precision(self.hidden_precision)
            torch.bmm(left, right, out=out)
            torch.set_float32_matmul_precision("highest")
        else:
            torch.bmm(left, right, out=out)


def smaller_of_twins(critics: StackedMLP, pair: Tensor) -> Tensor:
    """min(Q1, Q2) of every member, (K, rows).

    Args:
        critics: 2 K networks: the first critic of every member, then the second.
        pair: observation and action, (rows, d + k) or (K, rows, d + k).
    """
    members = critics.members // 2
    pairs = pair.expand(2, members, -1, -1).flatten(0, 1)
    return critics(pairs)[..., 0].view(2, members, -1).amin(dim=0)


@contextlib.contextmanager
def float32_products() -> Iterator[None]:
    """Matrix products in float32, whatever the process has set; restores it."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
