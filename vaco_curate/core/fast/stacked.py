"""Several networks of one shape with their parameters in batched matrices; ``passes.py`` computes them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StackedMLP:
    """M multilayer perceptrons with ReLU between linear layers.

    All parameters lie in one vector, layer by layer, so that an optimizer needs one kernel.

    Args:
        members: M.
        sizes: input width, hidden widths, output width.
        hidden_precision: of products between hidden layers, where nearly all the arithmetic is:
            "highest" is float32; "high" lets CUDA use TF32; "medium" lets CPUs that multiply in bfloat16
            do so, with float32 sums and float32 results. The first layer, which sees the
            data, and the last, which makes the values, are always float32.

    Attributes:
        flat: every parameter, (count,).
        weight: views of ``flat``, (M, outputs, inputs) for each layer, as in ``nn.Linear``. All but the last
            lie there transposed, in the rows in which a forward product reads them.
        bias: likewise, (M, 1, outputs).
        weight_transposed: views, (M, inputs, outputs).
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
            if len(self.weight) < len(shapes) - 1:
                self.weight.append(rest[:weights].view(members, fan_in, fan_out).transpose(1, 2))
            else:
                self.weight.append(rest[:weights].view(members, fan_out, fan_in))
            self.bias.append(rest[weights:both].view(members, 1, fan_out))
            rest = rest[both:]
        self.weight_transposed = [weight.transpose(1, 2) for weight in self.weight]

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

    @classmethod
    def joined(cls, stacks: Sequence[StackedMLP]) -> StackedMLP:
        """One stack of copies of all members of several, one after the other; its products are float32."""
        first = stacks[0]
        members = sum(stack.members for stack in stacks)
        result = cls(members, first.sizes, device=first.flat.device, dtype=first.flat.dtype)
        for into, *parts in zip(result.weight, *(stack.weight for stack in stacks), strict=True):
            into.copy_(torch.cat(parts))
        for into, *parts in zip(result.bias, *(stack.bias for stack in stacks), strict=True):
            torch.cat(parts, out=into)
        return result

    def half(self, number: int) -> StackedMLP:
        """A copy of the first (0) or second (1) half of the members."""
        size = self.members // 2
        result = StackedMLP(size, self.sizes, device=self.flat.device, dtype=self.flat.dtype)
        for into, whole in zip(result.weight + result.bias, self.weight + self.bias, strict=True):
            into.copy_(whole[number * size : (number + 1) * size])
        return result

    def first_half(self) -> StackedMLP:
        """The first half of the members, of twins the first critics: views, which change with the whole."""
        view = copy.copy(self)
        view.members = self.members // 2
        for name in ("weight", "bias", "weight_transposed"):
            setattr(view, name, [whole[: view.members] for whole in getattr(self, name)])
        return view

    def like(self) -> StackedMLP:
        """Zeros of the same shape: a gradient, or a direction in parameter space."""
        return StackedMLP(
            self.members,
            self.sizes,
            hidden_precision=self.hidden_precision,
            device=self.flat.device,
            dtype=self.flat.dtype,
        )

    def clone(self) -> StackedMLP:
        """A copy that shares nothing."""
        copy = self.like()
        copy.flat.copy_(self.flat)
        return copy

    @torch.no_grad()
    def write_to(self, member: int, network: nn.Sequential) -> None:
        """Copy one member's parameters into a network as ``networks.mlp`` makes them."""
        layers = [layer for layer in network if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(layers, self.weight, self.bias, strict=True):
            layer.weight.copy_(weight[member])
            layer.bias.copy_(bias[member, 0])

    def member(self, number: int) -> list[Tensor]:
        """One member's parameters, in the order of ``nn.Module.parameters``; views."""
        pairs = zip(self.weight, self.bias, strict=True)
        return [tensor for weight, bias in pairs for tensor in (weight[number], bias[number, 0])]

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, views."""
        named = {f"weight.{number}": weight for number, weight in enumerate(self.weight)}
        return named | {f"bias.{number}": bias for number, bias in enumerate(self.bias)}


@contextlib.contextmanager
def float32_products() -> Iterator[None]:
    """Matrix products in float32, whatever the process has set; restores it."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
