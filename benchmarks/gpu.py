"""Everything about the GPU in one command: ``python benchmarks/gpu.py DATASET.hdf5 [--out results.json]``.

Compares the CUDA path with the CPU path and with its own CUDA graphs, measures updates/s (beside JAX's where
that is installed: ``pip install 'jax[cuda12]'``), trains on the dataset, and scores many rows by the GPU and by
the cores, in one process and by workers of Ray where it is installed. On a machine without a GPU, ``--device
cpu`` runs all but the comparisons.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scale import command, train_scorer, write_rows

from vaco_curate.core.batches import Rows
from vaco_curate.core.scaling import fit_scaling
from vaco_curate.core.training.arithmetic import training_arithmetic
from vaco_curate.core.training.loop import Phase, Updates
from vaco_curate.core.training.members import Members
from vaco_curate.core.training.phases import BilevelPhase, ValuePhase
from vaco_curate.core.training.presets import PRESETS
from vaco_curate.core.training.settings import TrainSettings
from vaco_curate.core.training.trainer import train
from vaco_curate.core.transitions import Transitions
from vaco_curate.data.columns import transitions_from_columns
from vaco_curate.data.formats import read_dataset

D, K, ROWS, STEPS = 11, 3, 200_000, 20
PHASES = ("value", "bilevel")
JAX_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")
TOLERANCES = {torch.float64: 1e-9, torch.float32: 3e-5}
"""Mean difference of a parameter after ``STEPS`` updates, by precision. Adam moves one by up to ``STEPS`` times
3e-4 = 6e-3; in float32 devices round differently, and the sign of a gradient near zero makes a whole step."""


def random_rows(device: str, dtype: torch.dtype, count: int = ROWS) -> Rows:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device, dtype)

    return Rows.of(
        observation=normal(count, D),
        action=torch.tanh(normal(count, K)),
        next_observation=normal(count, D),
        reward=normal(count),
        terminated=normal(count) > 2.5,
    )


def group(device: str, dtype: torch.dtype, members: int, precision: str, count: int = ROWS) -> Members:
    torch.set_default_dtype(dtype)
    rows = random_rows(device, dtype, count)
    names = ("observation", "action", "reward", "next_observation")
    columns = {name: getattr(rows, name).float().cpu().numpy() for name in names}
    columns |= {"terminated": np.zeros(count, bool), "truncated": np.arange(count) % 500 == 499}
    data = transitions_from_columns(columns, source="random", format_name="random")
    settings = TrainSettings(matmul_precision=precision)
    return Members(data, rows, fit_scaling(data, reward_shift=0.0), settings, range(members))


def phase_of(name: str, made: Members) -> Phase:
    return ValuePhase(made) if name == "value" else BilevelPhase(made)


def parameters(made: Members) -> dict[str, torch.Tensor]:
    stacks = {
        "value": made.value_state.value,
        "critic": made.value_state.critic,
        "policy": made.bilevel_state.policy,
        "scorer": made.bilevel_state.scorer,
    }
    return {name: stack.flat.double().cpu() for name, stack in stacks.items()}


def same_draws(parts: list[Phase]) -> None:
    """Give all parts the first one's rows and noise: generators of different devices differ."""
    first = parts[0].draws
    first.fill(0)
    for part in parts[1:]:
        part.draws.rows.copy_(first.rows)
        part.draws.noise.copy_(first.noise)
        part.draws.fetch()


def compare_devices(dtype: torch.dtype) -> dict[str, float]:
    """Mean difference of the parameters between CPU and CUDA after the same updates."""
    groups = [group(device, dtype, 2, "highest", 20_000) for device in ("cpu", "cuda")]
    for phase in PHASES:
        parts = [phase_of(phase, made) for made in groups]
        same_draws(parts)
        for part in parts:
            part.drawn()
            for number in range(STEPS):
                part.update(number, True)
    left, right = (parameters(made) for made in groups)
    return {name: (left[name] - right[name]).abs().mean().item() for name in left}


def compare_graphs() -> dict[str, float]:
    """Mean difference between updates replayed from a CUDA graph and the same run one by one."""
    captured, plain = (group("cuda", torch.float32, 2, "highest", 20_000) for _ in range(2))
    for phase in PHASES:
        with_graph, without = phase_of(phase, captured), phase_of(phase, plain)
        with_graph.run(0, 200)
        for first in range(0, 200, 25):  # half a block is never captured
            without.run(first, first + 25)
    left, right = parameters(captured), parameters(plain)
    return {name: (left[name] - right[name]).abs().mean().item() for name in left}


def updates_per_second(updates: Updates, device: str, seconds: float) -> float:
    """Of one group of members, the best of three stretches; on a CPU, one group on one core."""
    done = 0

    def run(count: int) -> float:
        nonlocal done
        _wait(device)
        started = time.perf_counter()
        updates.run(done, done + count)
        _wait(device)
        done += count
        return time.perf_counter() - started

    run(200)
    count = max(100, int(seconds / 3 * 200 / run(200)) // 50 * 50)
    return max(count / run(count) for _ in range(3))


def measure(device: str, seconds: float, members: tuple[int, ...]) -> list[dict[str, Any]]:
    """Updates/s of all members side by side: ours, and on a GPU JAX's by ``vmap`` where it is installed."""
    found = []
    for precision in ("medium", "highest"):
        for count in members:
            made = group(device, torch.float32, count, precision)
            for phase in PHASES:
                facts = {"phase": phase, "precision": precision, "members": count}
                ours = updates_per_second(phase_of(phase, made), device, seconds)
                found.append(facts | {"ours": ours, "JAX": jax_rate(device, facts, seconds)})
    return found


def jax_rate(device: str, facts: dict[str, Any], seconds: float) -> float | None:
    """What ``speed/worker.py`` measures of JAX, in a process of its own; None without JAX for CUDA."""
    if device == "cpu" or not any(importlib.util.find_spec(plugin) for plugin in JAX_PLUGINS):
        return None
    worker = Path(__file__).parent / "speed" / "worker.py"
    command = [sys.executable, str(worker), "jax", json.dumps(facts | {"seconds": seconds})]
    platform = {"JAX_PLATFORMS": device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, env=os.environ | platform, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"JAX, {facts}:\n{done.stderr[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["updates_per_second"])


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def episode_correlations(data: Transitions, score: np.ndarray) -> dict[str, float]:
    """Pearson and Spearman of an episode's mean score with its return."""
    means = np.bincount(data.episode_id, score) / np.bincount(data.episode_id)
    ranks = [np.argsort(np.argsort(values)) for values in (means, data.episode_return)]
    return {
        "pearson": float(np.corrcoef(means, data.episode_return)[0, 1]),
        "spearman": float(np.corrcoef(*ranks)[0, 1]),
    }


def train_on(path: Path, device: str, preset: str, members: int) -> dict[str, Any]:
    torch.set_default_dtype(torch.float32)
    data = read_dataset(str(path))
    started = time.perf_counter()
    training = train(data, PRESETS[preset], device=device, members=members)
    trained = time.perf_counter() - started
    training.scorer.score(data)
    started = time.perf_counter()
    scores = training.scorer.score(data)
    return {
        "file": path.name,
        "preset": preset,
        "members": members,
        "seconds_of_training": trained,
        "updates": {row["phase"]: row["update"] for row in training.metrics},
        "scored_rows_per_second": len(data) / (time.perf_counter() - started),
        "correlation_with_return": episode_correlations(data, scores.score),
    }


def score_many(rows: int, device: str) -> list[dict[str, Any]]:
    """Seconds of ``score --scorer`` and ``filter``, with reading and writing, by engine and device."""
    engines = ["local", *(["ray"] if importlib.util.find_spec("ray") else [])]
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_scorer(folder)
        write_rows(folder / "rows", rows)
        for engine in engines:
            for used in dict.fromkeys(["cpu", device]):
                options = ("--device", used, "--engine", engine, "--out", f"{engine}-{used}")
                cost = command("score", "rows", "--scorer", "scorer.vaco", *options, folder=folder)
                found.append({"command": "score --scorer", "device": used, "engine": engine, **cost})
            options = ("--top", "50%", "--engine", engine, "--out", f"{engine}-half")
            cost = command("filter", f"{engine}-cpu", *options, folder=folder)
            found.append({"command": "filter", "device": "cpu", "engine": engine, **cost})
    return [facts | {"rows": rows, "rows_per_second": rows / facts["seconds"]} for facts in found]


def checks(console: Console) -> dict[str, Any]:
    """Compare, print, and say whether all is within tolerance."""
    compared: dict[str, Callable[[], dict[str, float]]] = {
        "CPU and CUDA, float64": lambda: compare_devices(torch.float64),
        "CPU and CUDA, float32": lambda: compare_devices(torch.float32),
        "CUDA graph and single updates": compare_graphs,
    }
    limits = {
        "CPU and CUDA, float64": TOLERANCES[torch.float64],
        "CPU and CUDA, float32": TOLERANCES[torch.float32],
        "CUDA graph and single updates": TOLERANCES[torch.float32],
    }
    found: dict[str, Any] = {}
    for name, compare in compared.items():
        differences = compare()
        holds = max(differences.values()) <= limits[name]
        found[name] = {"differences": differences, "tolerance": limits[name], "holds": holds}
        console.print(f"{'agrees ' if holds else 'DIFFERS'}  {name}: {differences}")
    return found


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="standard", show_default=True)
@click.option("--members", multiple=True, type=int, default=(1, 4, 16), show_default=True)
@click.option("--seconds", type=float, default=6.0, show_default=True, help="Of each measurement.")
@click.option("--rows", type=int, default=5_000_000, show_default=True, help="To score; 0 for none.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the results here, as JSON.")
def main(
    dataset: Path | None,
    device: str,
    preset: str,
    members: tuple[int, ...],
    seconds: float,
    rows: int,
    out: Path | None,
) -> None:
    """Check, measure, train on DATASET, and score many rows."""
    console = Console()
    if device == "cuda" and not torch.cuda.is_available():
        raise click.ClickException("torch finds no CUDA device here; --device cpu runs what needs none")
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }
    with training_arithmetic(), torch.no_grad():
        if device == "cuda":
            facts["checks"] = checks(console)
        facts["updates_per_second"] = measure(device, seconds, members)
    table = Table("phase", "precision", "members", "ours", "JAX", "ours over JAX", title="updates/s")
    for found in facts["updates_per_second"]:
        ours, other = found["ours"], found["JAX"]
        beside = ("not measured", "") if other is None else (f"{other:,.0f}", f"{ours / other:.2f}x")
        names = (found["phase"], found["precision"], str(found["members"]))
        table.add_row(*names, f"{ours:,.0f}", *beside)
    console.print(table)
    if dataset is not None:
        facts["training"] = [
            train_on(dataset, device, preset, count) for count in dict.fromkeys((members[0], members[-1]))
        ]
        console.print_json(data=facts["training"])
    if rows:
        facts["many_rows"] = score_many(rows, device)
        console.print_json(data=facts["many_rows"])
    if out is not None:
        out.write_text(json.dumps(facts, indent=2) + "\n")
    if any(not check["holds"] for check in facts.get("checks", {}).values()):
        raise click.ClickException("the paths differ by more than the tolerance")


if __name__ == "__main__":
    main()
