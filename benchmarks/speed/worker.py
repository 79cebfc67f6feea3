"""One measurement in a process of its own: ``python worker.py NAME JSON-OPTIONS`` prints JSON.

Every worker computes on the same kind of data: 200,000 random transitions of hopper's sizes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from plain import (
    bilevel_step,
    reference_bilevel_state,
    reference_value_state,
    value_step,
)

from vaco_curate import score_stream
from vaco_curate.core.advantage import TDErrors
from vaco_curate.core.batches import Rows
from vaco_curate.core.fast.stacked import StackedMLP
from vaco_curate.core.networks import Policy, ScorerNetwork, TwinCritic, ValueNetwork
from vaco_curate.core.paths import Paths
from vaco_curate.core.scaling import Scaling, fit_scaling
from vaco_curate.core.scorer import MetaScorer, Scorer
from vaco_curate.core.training.arithmetic import training_arithmetic
from vaco_curate.core.training.loop import SideBySide
from vaco_curate.core.training.members import Members
from vaco_curate.core.training.phases import BilevelPhase, ValuePhase
from vaco_curate.core.training.settings import BilevelSettings, TrainSettings, ValueSettings
from vaco_curate.core.training.trainer import group_sizes, network_rows
from vaco_curate.core.trajectory_score import TrajectoryScore
from vaco_curate.data.columns import transitions_from_columns
from vaco_curate.data.formats.tables import write_table

D, K, ROWS, BATCH, HIDDEN = 11, 3, 200_000, 256, (256, 256)


def random_rows(count: int = ROWS) -> Rows:
    generator = torch.Generator().manual_seed(0)
    return Rows.of(
        observation=torch.randn(count, D, generator=generator),
        action=torch.rand(count, K, generator=generator) * 2 - 1,
        next_observation=torch.randn(count, D, generator=generator),
        reward=torch.randn(count, generator=generator),
        terminated=torch.rand(count, generator=generator) < 0.01,
    )


def rate(run: Callable[[int], Any], seconds: float, unit: int = 50) -> float:
    """Updates/s of ``run(updates)``: the best of five stretches that fill the time.

    Args:
        unit: of which the numbers of updates are multiples.
    """
    run(2 * unit)
    started = time.perf_counter()
    run(2 * unit)
    each = (time.perf_counter() - started) / (2 * unit)
    updates = max(2 * unit, int(seconds / 5 / each) // unit * unit)
    stretches = []
    for _ in range(5):
        started = time.perf_counter()
        run(updates)
        stretches.append(updates / (time.perf_counter() - started))
    return max(stretches)


def ours(phase: str, seconds: float, threads: int, precision: str, members: int) -> dict[str, float]:
    """The trainer's own loop: draws, updates and measured metrics."""
    data = transitions_from_columns(random_columns(ROWS, D, K), source="random", format_name="random")
    scaling = fit_scaling(data, reward_shift=0.0)
    rows, settings = network_rows(data, scaling, torch.device("cpu")), TrainSettings(matmul_precision=precision)
    with training_arithmetic():
        groups = [
            Members(data, rows, scaling, settings, seeds)
            for seeds in _seeds(group_sizes(members, threads, torch.device("cpu")))
        ]
        phases = [ValuePhase(group) if phase == "value" else BilevelPhase(group) for group in groups]
        done = 0
        with SideBySide(len(groups), threads) as side_by_side:

            def run(updates: int) -> None:
                nonlocal done
                first, done = done, done + updates
                side_by_side.run(phases, first, done)

            return {"updates_per_second": rate(run, seconds)}


def _seeds(sizes: list[int]) -> list[range]:
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def eager(phase: str, seconds: float, threads: int, precision: str) -> dict[str, float]:
    """``tests/reference.py`` with minibatches drawn one by one; all its products in the given precision."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    rows, value_settings, bilevel_settings = random_rows(), ValueSettings(), BilevelSettings()
    q_inputs = torch.randn(ROWS)
    critic = TwinCritic(D, K, HIDDEN)
    values = reference_value_state(ValueNetwork(D, HIDDEN), critic, value_settings)
    levels = reference_bilevel_state(Policy(D, K, HIDDEN), ScorerNetwork(D, K, HIDDEN), bilevel_settings)
    if phase == "bilevel":
        critic.requires_grad_(False)

    def run(updates: int) -> None:
        for _ in range(updates):
            drawn = torch.randint(ROWS, (BATCH,))
            batch = rows.take(drawn)
            if phase == "value":
                value_step(values, batch, value_settings)
            else:
                bilevel_step(levels, critic, batch, q_inputs[drawn], 0.1 * torch.randn(BATCH, D))

    return {"updates_per_second": rate(run, seconds)}


def jax(phase: str, seconds: float, precision: str, members: int = 1) -> dict[str, float]:
    """``jax_reference.py``, compiled whole, on the GPU or all cores that it finds; members by ``vmap``.

    Precision "medium" is bfloat16 between hidden layers on CPUs, of one member, as ours, and TF32 in all
    products on GPUs, where ours has it between hidden layers.
    """
    import jax as jax_library
    import jax_reference
    from jax_check import jax_networks, jax_state

    on_cpu = jax_library.default_backend() == "cpu"
    jax_reference.LOWER = precision == "medium" and on_cpu
    jax_library.config.update("jax_default_matmul_precision", "highest" if precision == "highest" else None)
    networks = jax_networks(D, K, HIDDEN)
    state = jax_state(networks, phase)
    rows = random_rows()
    columns = [rows.observation, rows.action, rows.next_observation, rows.reward, rows.terminated]
    if phase == "bilevel":
        columns = [rows.observation, rows.action, torch.randn(ROWS)]
    data = [jax_library.numpy.asarray(column.contiguous().numpy()) for column in columns]
    own = [] if phase == "value" else [networks["critic"]]
    key = jax_library.random.key(0)
    if members > 1:
        state, own = jax_library.tree.map(lambda leaf: jax_library.numpy.stack([leaf] * members), (state, own))
        key = jax_library.random.split(key, members)
    length = 50 if on_cpu else 1000
    one_run = jax_reference.run_value if phase == "value" else jax_reference.run_bilevel
    compiled = jax_reference.of_members(one_run, members, length, BATCH)

    def run(updates: int) -> None:
        nonlocal state, key
        for _ in range(updates // length):
            (state, key), losses = compiled(state, key, *own, data)
        losses.block_until_ready()

    return {"updates_per_second": rate(run, seconds, length)}


def value_products() -> list[tuple[int, int, int, int, int]]:
    """(networks, rows, depth, columns, layer) of every matrix product of a value update."""
    return [
        *_forward(1, 2 * BATCH, (D, *HIDDEN, 1)),  # V of s' and s
        *_forward(4, BATCH, (D + K, *HIDDEN, 1)),  # target critics and critics
        *_backward(1, (D, *HIDDEN, 1)),
        *_backward(2, (D + K, *HIDDEN, 1)),
    ]


def bilevel_products() -> list[tuple[int, int, int, int, int]]:
    """Likewise of a bi-level update."""
    policy, critic = (D, *HIDDEN, K), (D + K, *HIDDEN, 1)
    return [
        *_forward(1, BATCH, (D + K + 1, *HIDDEN, 1)),  # scorer
        *_forward(1, BATCH, policy),  # at phi_{t-1}
        *_backward(1, policy),
        *_forward(1, BATCH, policy),  # at phi_t
        *_forward(2, BATCH, critic),
        *_inputs(2, critic),
        (2, BATCH, HIDDEN[0], K, 0),  # by the action
        *_backward(1, policy),
        *_forward(1, BATCH, policy),  # per-example products
        *_backward(1, (D + K + 1, *HIDDEN, 1)),
    ]


def _forward(networks: int, rows: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int, int, int]]:
    return [(networks, rows, sizes[i], sizes[i + 1], i) for i in range(len(sizes) - 1)]


def _inputs(networks: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int, int, int]]:
    return [(networks, BATCH, sizes[i + 1], sizes[i], i) for i in range(1, len(sizes) - 1)]


def _backward(networks: int, sizes: tuple[int, ...]) -> list[tuple[int, int, int, int, int]]:
    weights = [(networks, sizes[i + 1], BATCH, sizes[i], i) for i in range(len(sizes) - 1)]
    return weights + _inputs(networks, sizes)


def limit(phase: str, threads: int, precision: str) -> dict[str, float]:
    """Updates/s if an update were its matrix products alone, on operands that lie ready in the cache.

    Each product by the fastest of torch's kernels for its shape: float32, and where ``precision`` is
    "medium" and the product is between hidden layers also bfloat16 operands.
    """
    torch.set_num_threads(threads)
    products = value_products() if phase == "value" else bilevel_products()
    seconds, operations, known = 0.0, 0, {}
    for networks, rows, depth, columns, layer in products:
        hidden = layer == 1 and precision == "medium"
        shape = (networks, rows, depth, columns, hidden)
        if shape not in known:
            kinds = [torch.float32, torch.bfloat16] if hidden else [torch.float32]
            known[shape] = min(_product_seconds(networks, rows, depth, columns, kind) for kind in kinds)
        seconds += known[shape]
        operations += 2 * networks * rows * depth * columns
    return {"updates_per_second": 1.0 / seconds, "operations": operations}


def _product_seconds(networks: int, rows: int, depth: int, columns: int, kind: torch.dtype) -> float:
    """Of one batched product, the fastest of the ways in which its operands may lie."""
    left = torch.randn(networks, rows, depth).to(kind)
    right = torch.randn(networks, depth, columns).to(kind)
    ways = [
        (left, right),
        (left, right.transpose(1, 2).contiguous().transpose(1, 2)),
        (left.transpose(1, 2).contiguous().transpose(1, 2), right),
    ]
    out = torch.empty(networks, rows, columns, dtype=kind)
    best = float("inf")
    for a, b in ways:
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(50):
                torch.bmm(a, b, out=out)
            best = min(best, (time.perf_counter() - started) / 50)
    return best


SCORED_ROWS, SCORED_SIZES = 1_000_000, (17, 6)


def scoring(threads: int) -> dict[str, dict[str, float]]:
    """Rows/s of an exported scorer, from memory and from Parquet, beside its matrix products alone.

    The products are float32, as scores are, at the height that suits torch's kernels best.
    """
    torch.set_num_threads(threads)
    d, k = SCORED_SIZES
    columns = random_columns(SCORED_ROWS, *SCORED_SIZES)
    data = transitions_from_columns(columns, source="random", format_name="random")
    scorer = random_scorer(d, k)
    most = max(height / _scoring_products_seconds(d, k, height) for height in (1024, 4096))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_table(path, _arrow(columns))
        seconds = {
            "memory": min(_seconds(lambda: scorer.score(data)) for _ in range(3)),
            "parquet": min(_seconds(lambda: deque(score_stream(path, scorer), maxlen=0)) for _ in range(3)),
        }
    return {
        kind: {
            "rows_per_second": SCORED_ROWS / taken,
            "fraction_of_limit": SCORED_ROWS / taken / most,
        }
        for kind, taken in seconds.items()
    }


def write_rows(path: str, rows: int) -> dict[str, int]:
    """A Parquet file of random rows, in one row group."""
    pq.write_table(_arrow(random_columns(rows, *SCORED_SIZES)), path, row_group_size=rows)
    return {"rows": rows}


def random_columns(rows: int, d: int, k: int) -> dict[str, np.ndarray]:
    """Random rows in episodes of 1000 steps, with everything that a score may depend on."""
    generator = np.random.default_rng(0)
    observation = generator.standard_normal((rows + 1, d), np.float32)
    return {
        "observation": observation[:-1],
        "action": generator.uniform(-1, 1, (rows, k)).astype(np.float32),
        "reward": generator.standard_normal(rows, np.float32),
        "next_observation": observation[1:],
        "terminated": np.zeros(rows, bool),
        "truncated": np.arange(rows) % 1000 == 999,
        "episode_id": np.arange(rows) // 1000,
    }


def _arrow(columns: dict[str, np.ndarray]) -> pa.Table:
    arrays = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        if values.ndim == 2
        else pa.array(values)
        for name, values in columns.items()
    }
    fields = [pa.field(name, array.type, nullable=name == "next_observation") for name, array in arrays.items()]
    return pa.table(arrays, schema=pa.schema(fields))


def streaming(rows: int) -> dict[str, float]:
    """Peak memory of scoring a Parquet file of one large row group as a stream."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.parquet")
        options = json.dumps({"path": path, "rows": rows})
        subprocess.run([sys.executable, __file__, "write_rows", options], check=True, capture_output=True)
        scored = sum(len(batch) for batch in score_stream(path, random_scorer(*SCORED_SIZES)))
    return {"rows": scored, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _scoring_products_seconds(d: int, k: int, height: int) -> float:
    stacks = (((d + k, *HIDDEN, 1), 2), ((d + k + 1, *HIDDEN, 1), 1), ((d, *HIDDEN, 1), 1))
    return sum(
        _product_seconds(networks, height, sizes[i], sizes[i + 1], torch.float32)
        for sizes, networks in stacks
        for i in range(len(sizes) - 1)
    )


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def random_scorer(d: int, k: int) -> Scorer:
    """A scorer with fresh networks, which costs what a trained one costs."""
    torch.manual_seed(0)
    critic = TwinCritic(d, k, HIDDEN)
    values = StackedMLP.of([ValueNetwork(d, HIDDEN).layers])
    paths = Paths(np.arange(0, 100_000, 1000), np.full(100, 1000))
    errors = TDErrors(*np.random.default_rng(1).standard_normal((2, 100_000)))
    known, terminated = np.ones(100_000, bool), np.zeros(100_000, bool)
    networks = StackedMLP.of([ScorerNetwork(d, k, HIDDEN).layers])
    return Scorer(
        critics=StackedMLP.of([critic.first, critic.second]),
        values=values,
        scaling=Scaling(np.zeros(d), np.ones(d), -np.ones(k), np.ones(k), "action space", 0.0, 1.0),
        discount=0.99,
        trajectory=(TrajectoryScore.fit(paths, errors, known, terminated, sample_size=0.15),),
        meta=MetaScorer(networks, torch.zeros(1), torch.ones(1)),
        provenance={},
    )


def check() -> dict[str, str]:
    """That the JAX reference computes what the eager one does."""
    import jax_check

    jax_check.check(D, K, HIDDEN, random_rows(5_000), BATCH)
    return {"references": "agree"}


if __name__ == "__main__":
    workers = {
        "ours": ours,
        "eager": eager,
        "jax": jax,
        "limit": limit,
        "scoring": scoring,
        "streaming": streaming,
        "write_rows": write_rows,
        "check": check,
    }
    torch.manual_seed(0)
    print(json.dumps(workers[sys.argv[1]](**json.loads(sys.argv[2]))))
