"""Triton's passes give what torch's give: on a GPU where there is one, elsewhere by Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch

from vaco_curate.core.fast.passes import has_triton
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.torch_passes import Pass

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are declared

if not has_triton():
    pytest.skip(
        "there is no Triton of a version that was tried; it comes with torch for CUDA", allow_module_level=True
    )

from vaco_curate.core.fast import triton_passes
from vaco_curate.core.fast.triton_passes import TritonPass

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = {
    "one output": ((14, 256, 256, 1), 2, 2, 37),
    "twins share inputs": ((17, 64, 64, 1), 4, 2, 40),
    "nine networks": ((5, 32, 48, 3), 9, 9, 16),
    "odd widths, many inputs": ((40, 33, 20, 6), 1, 1, 70),
    "blocks for many programs": ((3, 16, 16, 2), 40, 40, 120),
}


def stack_of(sizes, networks, precision):
    stack = StackedMLP(networks, sizes, hidden_precision=precision, device=DEVICE, dtype=torch.float32)
    stack.flat.normal_().mul_(0.2)
    return stack


def results(kind, stack, inputs, direction, way):
    whole, gradient = kind(stack, inputs.shape[1]), stack.like()
    gradient.flat.fill_(torch.nan)  # all of it is to be written
    given = whole.forward(inputs).clone()
    whole.derivatives[-1].copy_(direction)
    whole.backward(gradient)
    return {
        "outputs": given,
        "outputs alone": kind(stack, inputs.shape[1], derivatives=()).forward(inputs),
        "layers": torch.cat([layer.flatten() for layer in whole.layers]),
        "derivatives": torch.cat([derivative.flatten() for derivative in whole.derivatives]),
        "gradient": gradient.flat,
        "by input": whole.input_gradient(slice(1, None)),
        "products": whole.per_example_products(way),
    }


@pytest.mark.parametrize(("sizes", "networks", "inputs", "batch"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_triton_gives_what_torch_gives(sizes, networks, inputs, batch, precision):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stack, way = (stack_of(sizes, networks, precision) for _ in range(2))
        rows = torch.randn(inputs, batch, sizes[0] + 5, device=DEVICE)[..., 3 : 3 + sizes[0]]
        arguments = rows, torch.randn(networks, batch, sizes[-1], device=DEVICE), way
    expected = results(Pass, stack, *arguments)
    tolerance = 0.05 if precision == "medium" and DEVICE == "cuda" else 1e-5  # TF32 has 10 bits, both round
    for name, ours in results(TritonPass, stack, *arguments).items():
        error = (ours - expected[name]).norm() / expected[name].norm()
        assert error < tolerance, name


def test_only_two_hidden_layers_in_float32_have_kernels():
    assert triton_passes.usable(stack_of((4, 32, 16, 2), 2, "highest"))
    for sizes in ((4, 32, 2), (4, 16, 16, 16, 2), (4, 257, 32, 2), (4, 32, 32, 33)):
        assert not triton_passes.usable(stack_of(sizes, 1, "highest"))
    assert not triton_passes.usable(StackedMLP(1, (4, 32, 16, 2), device=DEVICE, dtype=torch.float64))


def test_without_a_compiler_torch_does_the_work(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(TritonPass, "forward", fail)
    triton_passes.builds.cache_clear()
    assert not triton_passes.usable(stack_of((4, 32, 16, 2), 2, "highest"))
    triton_passes.builds.cache_clear()
