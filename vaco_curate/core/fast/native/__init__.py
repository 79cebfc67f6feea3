"""Products of small networks in C: compiled on first use, and left out where there is no compiler.

Between the small products of an update, torch's CPU kernels spend as much time as on them: every bias,
ReLU and mask is a pass over memory of its own. ``products.c`` does these while a product's result is at
hand, and multiplies in bfloat16 where the processor can and precision "medium" allows it. Building it
takes about a second, once for every machine and version; where that fails, torch's kernels do the
same work. ``VACO_CURATE_NATIVE=0`` in the environment leaves it out.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaco_curate.store.files import user_cache

SOURCE = Path(__file__).with_name("products.c")
FLAGS = ("-O3", "-std=gnu11", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
LIBRARIES = ("-lm",)
BUILD_TIMEOUT = 60.0

STORE, ADD_BIAS, ADD_BIAS_RELU, MASK, ROW_PRODUCT, COLUMN_SUMS = range(6)
"""What follows a product, as in ``products.c``."""
EVERYTHING, ROWS_BEFORE, NOTHING = range(3)
"""What an operation needs of those before it: all results, the rows of the one just before it, or nothing."""


class Operation(ctypes.Structure):
    """``struct operation`` of ``products.c``; pointers and sizes alike are 64 bits."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            *("finish", "needs", "bfloat16", "m", "n", "k"),
            *("a", "a_row", "a_col", "a_member", "a_members"),
            *("b", "b_row", "b_col", "b_member", "b_members"),
            *("c", "c_row", "c_member", "bias", "bias_member", "other", "other_row", "other_member"),
        )
    )


def product(
    left: Tensor,
    right: Tensor,
    out: Tensor,
    finish: int,
    *,
    needs: int = EVERYTHING,
    bfloat16: bool = False,
    bias: Tensor | None = None,
    other: Tensor | None = None,
) -> Operation:
    """The operation out = finish(left right) for every member.

    Args:
        left, right: (M, m, k) and (M, k, n), float32, each with one stride of 1 within a member; of either
            there may be fewer, which members share by turns.
        out: (M, m, n), contiguous rows; for ROW_PRODUCT (M, m, 1), which is added to.
        needs: of the operations before it in a program, which decides what can be done at once.
        bias: (M, 1, n).
        other: activations of MASK or the factor of ROW_PRODUCT, (M, m, n), contiguous rows.
    """
    _, m, k = left.shape
    members, n = len(out), right.shape[2]
    columns = 1 if finish == ROW_PRODUCT else n
    expected = {"right": (len(right), k, n), "out": (members, m, columns)}
    given = {"right": right, "out": out}
    if bias is not None:
        expected["bias"], given["bias"] = (members, 1, n), bias
    if other is not None:
        expected["other"], given["other"] = (members, m, n), other
    for name, tensor in given.items():  # from here on, only addresses are left
        if tuple(tensor.shape) != expected[name]:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {expected[name]}")
    if members % len(left) or members % len(right):
        raise ValueError(f"{members} members cannot share {len(left)} left and {len(right)} right factors")
    operation = Operation(finish=finish, needs=needs, bfloat16=bfloat16, m=m, n=n, k=k)
    point_left(operation, left)
    point_right(operation, right)
    operation.c, operation.c_row, operation.c_member = out.data_ptr(), out.stride(1), out.stride(0)
    if bias is not None:
        operation.bias, operation.bias_member = bias.data_ptr(), bias.stride(0)
    if other is not None:
        operation.other, operation.other_row = other.data_ptr(), other.stride(1)
        operation.other_member = other.stride(0)
    return operation


def column_sums(values: Tensor, out: Tensor, needs: int = EVERYTHING) -> Operation:
    """The operation out = sum of the rows, (M, m, n) -> (M, 1, n)."""
    _, m, n = values.shape
    operation = Operation(finish=COLUMN_SUMS, needs=needs, m=m, n=n, k=1)
    point_left(operation, values)
    operation.c, operation.c_member = out.data_ptr(), out.stride(0)
    return operation


def point_left(operation: Operation, left: Tensor) -> None:
    """Let an operation read its left factor from a tensor of the size it was made for."""
    operation.a, operation.a_member, operation.a_members = left.data_ptr(), left.stride(0), len(left)
    operation.a_row, operation.a_col = left.stride(1), left.stride(2)


def point_right(operation: Operation, right: Tensor) -> None:
    """Likewise for its right factor."""
    operation.b, operation.b_member, operation.b_members = right.data_ptr(), right.stride(0), len(right)
    operation.b_row, operation.b_col = right.stride(1), right.stride(2)


def adam(
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    learning_rate: float,
    betas: tuple[float, float],
    epsilon: float,
    step: float,
) -> None:
    """Step number ``step`` of Adam, in place on vectors that ``usable`` accepts."""
    library = load()
    assert library is not None, "callers ask `usable` first"
    vectors = (tensor.data_ptr() for tensor in (parameter, gradient, first, second))
    library.adam(parameter.numel(), *vectors, learning_rate, *betas, epsilon, step)


class Program:
    """Operations to run one after the other on memory that stays where it is.

    Args:
        members: M, of all of them.
        tensors: what the operations point to, kept alive.
    """

    def __init__(self, operations: list[Operation], members: int, tensors: Any) -> None:
        library = load()
        assert library is not None, "callers ask `usable` first"
        self.operations = (Operation * len(operations))(*operations)
        self.tensors = tensors
        size = library.workspace_bytes(self.operations, len(operations))
        self._workspace = torch.empty(size + 64, dtype=torch.uint8)
        aligned = -(-self._workspace.data_ptr() // 64) * 64
        self._call = functools.partial(library.run, self.operations, len(operations), members, aligned)

    def __call__(self) -> None:
        """Run them."""
        self._call()


def use_threads(count: int) -> None:
    """Let this many threads of the process share the rows of products; results do not depend on it."""
    library = load()
    if library is not None:
        library.use_threads(count)


def usable(like: Tensor) -> bool:
    """Whether programs can be made for tensors like this one."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and load() is not None


def multiplies_bfloat16() -> bool:
    """Whether the processor does, in matrix units or vectors, and the library can use them."""
    library = load()
    return library is not None and bool(library.has_bfloat16())


def load() -> ctypes.CDLL | None:
    """The compiled library, from the cache or built now; None where it cannot be had."""
    return _loaded()[0]


def why_not() -> str | None:
    """Why there is no library; None when there is one."""
    return _loaded()[1]


@functools.cache
def _loaded() -> tuple[ctypes.CDLL | None, str | None]:
    if os.environ.get("VACO_CURATE_NATIVE") == "0":
        return None, "VACO_CURATE_NATIVE is 0"
    try:
        return _declared(ctypes.CDLL(str(_built()))), None
    except subprocess.CalledProcessError:
        return None, "the C compiler failed"
    except (OSError, RuntimeError, AttributeError, subprocess.SubprocessError) as error:
        return None, str(error)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    library.workspace_bytes.restype = ctypes.c_int64
    library.workspace_bytes.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.use_threads.restype = None
    library.use_threads.argtypes = [ctypes.c_int]
    library.adam.restype = None
    library.adam.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 4, *[ctypes.c_double] * 5]
    library.run.restype = None
    library.run.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return library


def _built() -> Path:
    """The shared library for this source, compiler and processor.

    Raises:
        OSError, subprocess.SubprocessError: there is no compiler, or it fails.
    """
    compiler, *options = shlex.split(os.environ.get("CC") or "cc")
    if shutil.which(compiler) is None:
        raise FileNotFoundError(f"there is no C compiler named {compiler}")
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [compiler, *options, *FLAGS, native]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=BUILD_TIMEOUT)
    made_of = (SOURCE.read_bytes(), version.stdout, " ".join(command).encode(), _processor())
    source, cache = _hash(b"\0".join(made_of)), user_cache()
    name = f"products-{source}"
    for path in cache.glob(f"{name}-*.so"):
        if path.name == f"{name}-{_hash(path.read_bytes())}.so":  # a damaged one would end the process
            return path
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        built = Path(work) / name
        command += ["-o", str(built), str(SOURCE), *LIBRARIES]
        subprocess.run(command, capture_output=True, check=True, timeout=BUILD_TIMEOUT)
        return built.replace(cache / f"{name}-{_hash(built.read_bytes())}.so")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _processor() -> bytes:
    """What tells processors apart: a library for one may not run on another."""
    facts = Path("/proc/cpuinfo")
    if not facts.exists():
        return platform.processor().encode()
    lines = facts.read_bytes().split(b"\n\n")[0].splitlines()
    return b"\n".join(line for line in lines if line.startswith((b"flags", b"Features", b"model name")))
