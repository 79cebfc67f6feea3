"""Passes through stacked networks against autograd in float64, and the native library against torch."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call, grad, vmap

from vaco_curate.core.fast import native
from vaco_curate.core.fast.native_passes import NativePass
from vaco_curate.core.fast.passes import forward_only, new_pass, outputs, smaller_of_twins
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.fast.torch_passes import Pass
from vaco_curate.core.networks import mlp

SIZES = {
    "two hidden": (5, 16, 12, 3),
    "one hidden": (4, 9, 1),
    "three hidden": (7, 33, 20, 18, 1),
    "of a registers' width": (16, 64, 64, 2),
    "many outputs": (3, 16, 40, 21),
    "wide": (14, 256, 256, 1),
}
MEMBERS = 3

needs_native = pytest.mark.skipif(native.load() is None, reason="there is no C compiler")


def stack_of(sizes, members=MEMBERS, **options):
    networks = [mlp(sizes[0], sizes[1:-1], sizes[-1]) for _ in range(members)]
    return StackedMLP.of(networks, **options), networks


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_passes_equal_autograd(float64, sizes):
    stack, networks = stack_of(sizes)
    inputs, direction = torch.randn(MEMBERS, 11, sizes[0]), torch.randn(MEMBERS, 11, sizes[-1])
    done, gradient, way = Pass(stack, 11), stack.like(), stack.like()
    way.flat.normal_()
    given = done.forward(inputs)
    done.derivatives[-1].copy_(direction)
    done.backward(gradient)
    products = done.per_example_products(way)
    by_input = done.input_gradient(slice(1, 3))
    for member, network in enumerate(networks):
        x = inputs[member].clone().requires_grad_()
        expected = network(x)
        assert torch.allclose(given[member], expected, atol=1e-12)
        parameters = list(network.parameters())
        *by_parameter, by_x = torch.autograd.grad((expected * direction[member]).sum(), [*parameters, x])
        own = gradient.member(member)
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(own, by_parameter, strict=True))
        assert torch.allclose(by_input[member], by_x[:, 1:3], atol=1e-12)
        expected_products = per_example(network, x.detach(), direction[member], way.member(member))
        assert torch.allclose(products[member], expected_products, atol=1e-12)


def per_example(network, inputs, direction, way):
    """<gradient of one example, way> with one gradient for every example."""
    names = [name for name, _ in network.named_parameters()]

    def example(parameters, x, y):
        return (functional_call(network, parameters, (x,)) * y).sum()

    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    gradients = vmap(grad(example), in_dims=(None, 0, 0))(parameters, inputs, direction)
    return sum((gradients[name] * part).flatten(1).sum(dim=1) for name, part in zip(names, way, strict=True))


class RoundedPass(Pass):
    """A pass whose factors between hidden layers are rounded to bfloat16, and nothing else."""

    def _multiply(self, number, left, right, out):
        if self._is_hidden(number):
            left, right = left.bfloat16().float(), right.bfloat16().float()
        super()._multiply(number, left, right, out)


def run(kind, stack, sizes, batch, *, inputs, direction, way):
    done, gradient = kind(stack, batch), stack.like()
    given = done.forward(inputs).clone()
    done.derivatives[-1].copy_(direction)
    done.backward(gradient)
    return {
        "outputs": given,
        "layers": torch.cat([layer.flatten() for layer in done.layers]),
        "derivatives": torch.cat([derivative.flatten() for derivative in done.derivatives]),
        "gradient": gradient.flat,
        "by input": done.input_gradient(slice(None)),
        "by some inputs": done.input_gradient(slice(0, 2)),
        "products": done.per_example_products(way),
    }


@needs_native
@pytest.mark.parametrize("batch", [1, 6, 37, 64])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_the_native_library_gives_what_torch_gives(sizes, batch, precision):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stack, _ = stack_of(sizes, hidden_precision=precision)
        # rows and columns of larger tensors, as minibatches are
        inputs = torch.randn(MEMBERS, batch, sizes[0] + 9)[..., 4 : 4 + sizes[0]]
        direction, way = torch.randn(MEMBERS, batch, sizes[-1]), stack.like()
        way.flat.normal_()
    arguments = {"inputs": inputs, "direction": direction, "way": way}
    lower = precision == "medium" and native.multiplies_bfloat16()
    ours = run(NativePass, stack, sizes, batch, **arguments)
    stack.hidden_precision = "highest"  # torch rounds in its own way, where it does
    theirs = run(RoundedPass if lower else Pass, stack, sizes, batch, **arguments)
    for name, expected in theirs.items():
        scale = expected.abs().mean().item() + 1e-6
        worst = (ours[name] - expected).abs().max().item() / scale
        assert worst < (0.02 if lower else 3e-4), (name, worst)  # the largest of thousands, by rounding
        assert (ours[name] - expected).abs().mean().item() / scale < (1e-4 if lower else 1e-5), name


@needs_native
def test_a_diverged_network_is_not_made_finite():
    stack, _ = stack_of((3, 8, 8, 1))
    stack.weight[0][0, 2] = torch.nan
    given = NativePass(stack, 4).forward(torch.ones(MEMBERS, 4, 3))
    assert torch.isnan(given[0]).all()
    assert torch.isfinite(given[1:]).all()


@needs_native
def test_a_members_results_do_not_depend_on_the_members_beside_it():
    stack, networks = stack_of((5, 32, 32, 1), hidden_precision="medium")
    inputs = torch.randn(1, 40, 5)
    alone = StackedMLP.of(networks[1:2], hidden_precision="medium")
    whole = NativePass(stack, 40).forward(inputs.expand(MEMBERS, -1, -1))
    assert torch.equal(NativePass(alone, 40).forward(inputs)[0], whole[1])


@needs_native
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_threads_share_the_rows_without_changing_a_bit(precision):
    sizes, results = (14, 256, 256, 5), []
    stack, _ = stack_of(sizes, hidden_precision=precision)
    inputs, direction, way = torch.randn(MEMBERS, 250, 14), torch.randn(MEMBERS, 250, 5), stack.like()
    way.flat.normal_()
    try:
        for threads in (1, 2, 5):
            native.use_threads(threads)
            arguments = {"inputs": inputs, "direction": direction, "way": way}
            results += [run(NativePass, stack, sizes, 250, **arguments) for _ in range(3)]
    finally:
        native.use_threads(1)
    for name, expected in results[0].items():
        assert all(torch.equal(expected, found[name]) for found in results[1:]), name


FORKED = """
import os, torch
from vaco_curate.core.fast import native
from vaco_curate.core.networks import mlp
from vaco_curate.core.fast.native_passes import NativePass
from vaco_curate.core.fast.stacked import StackedMLP
torch.set_num_threads(1)
stack, inputs = StackedMLP.of([mlp(9, (64, 64), 2)]), torch.randn(1, 256, 9)
native.use_threads(2)
expected = NativePass(stack, 256).forward(inputs).clone()
child = os.fork()
if child == 0:
    alone = NativePass(stack, 256).forward(inputs).clone()
    native.use_threads(2)
    helped = NativePass(stack, 256).forward(inputs)
    os._exit(not (torch.equal(alone, expected) and torch.equal(helped, expected)))
assert os.waitpid(child, 0)[1] == 0
"""


@needs_native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_has_helpers_of_its_own():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)


@pytest.mark.parametrize("kind", [Pass, pytest.param(NativePass, marks=needs_native)])
def test_members_share_inputs_by_turns(kind):
    stack, _ = stack_of((5, 16, 16, 2), members=4)
    inputs, way = torch.randn(2, 7, 5), stack.like()
    way.flat.normal_()
    done = {}
    for name, given in (("shared", inputs), ("repeated", inputs.repeat(2, 1, 1))):
        made, gradient = kind(stack, 7), stack.like()
        made.forward(given)
        made.derivatives[-1].fill_(0.5)
        made.backward(gradient)
        done[name] = made.layers[-1], gradient.flat, made.per_example_products(way)
    for shared, repeated in zip(*done.values(), strict=True):
        assert torch.allclose(shared, repeated, atol=1e-6)


@needs_native
def test_native_adam_is_torchs_adam():
    ours = torch.randn(300)
    theirs = torch.nn.Parameter(ours.clone())
    optimizer = torch.optim.Adam([theirs], lr=1e-2)
    first, second = torch.zeros(2, 300)
    for step in range(1, 6):
        theirs.grad = torch.randn(300)
        optimizer.step()
        native.adam(
            ours,
            theirs.grad,
            first,
            second,
            learning_rate=1e-2,
            betas=(0.9, 0.999),
            epsilon=1e-8,
            step=step,
        )
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_pass_forward_only_gives_the_same_outputs():
    stack, _ = stack_of((6, 24, 24, 2))
    inputs = torch.randn(MEMBERS, 10, 6)
    assert torch.equal(forward_only(stack, 10).forward(inputs), new_pass(stack, 10).forward(inputs))
    shared = torch.randn(10, 6)
    assert torch.allclose(outputs(stack, shared)[2], new_pass(stack, 10).forward(shared.expand(3, -1, -1))[2])


def test_twins_lie_first_critics_before_second_ones():
    stack, networks = stack_of((4, 8, 1), members=4)
    pair = torch.randn(2, 5, 4)
    with torch.no_grad():
        expected = [torch.minimum(networks[m](pair[m]), networks[2 + m](pair[m])) for m in (0, 1)]
    assert torch.allclose(smaller_of_twins(stack, pair), torch.stack(expected)[..., 0], atol=1e-6)


def test_a_stack_returns_its_networks():
    stack, networks = stack_of((4, 8, 3))
    copied = mlp(4, (8,), 3)
    stack.write_to(1, copied)
    for mine, theirs in zip(copied.parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(mine, theirs)


@needs_native
def test_buffers_of_another_shape_are_refused_before_an_address_is_taken():
    stack, _ = stack_of((4, 8, 8, 1))
    wrong = [torch.zeros(MEMBERS, 5, width) for width in (8, 16, 1)]
    with pytest.raises(ValueError, match="buffers of shapes"):
        new_pass(stack, 5, layers=wrong)
    with pytest.raises(ValueError, match="out has shape"):
        native.product(torch.zeros(1, 2, 3), torch.zeros(1, 3, 4), torch.zeros(1, 2, 5), native.STORE)


WITHOUT = """
import os, torch
from vaco_curate.core.fast import native
from vaco_curate.core.fast.native_passes import NativePass
from vaco_curate.core.fast.passes import new_pass
from vaco_curate.core.fast.torch_passes import Pass
from vaco_curate.core.fast.stacked import StackedMLP
assert native.load() is None
assert type(new_pass(StackedMLP(1, (2, 3, 1)), 4)) is Pass
print("fine")
"""


@needs_native
@pytest.mark.parametrize("environment", [{"XDG_CACHE_HOME": "/proc"}, {"CC": "cc -DUNUSED"}])
def test_the_library_is_built_without_a_cache_and_with_options_for_the_compiler(environment):
    settings = os.environ | environment
    script = "from vaco_curate.core.fast import native; print(native.load() is not None)"
    result = subprocess.run([sys.executable, "-c", script], env=settings, capture_output=True, text=True)
    assert result.stdout.strip() == "True", result.stderr


@pytest.mark.parametrize(
    "environment",
    [{"VACO_CURATE_NATIVE": "0"}, {"CC": "no-such-compiler"}, {"CC": "false"}, {"CC": "cc -no-such-flag"}],
)
def test_without_a_library_torch_does_the_work(environment, tmp_path):
    settings = os.environ | {"XDG_CACHE_HOME": str(tmp_path)} | environment
    result = subprocess.run([sys.executable, "-c", WITHOUT], env=settings, capture_output=True, text=True)
    assert result.stdout.strip() == "fine", result.stderr
