"""``make bench``: how fast the trainer is beside what it could be, in one run on one machine.

Measurements take turns, each in a process of its own, so that a machine whose speed drifts drifts for all
of them. Writes ``benchmarks/results/bench.json`` and the tables of ``docs/performance.md``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE.parent / "results" / "bench.json"
PAGE = ROOT / "docs" / "performance.md"
PHASES = ("value", "bilevel")
PRECISIONS = {"medium": "default precision", "highest": "float32 everywhere"}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COUNTS = sorted({1, CORES})
MEMBERS = (2, 4, 8)


def measure(name: str, cores: int, **options: Any) -> dict[str, float]:
    """Run a worker on the given number of cores."""
    environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
    command = [sys.executable, str(HERE / "worker.py"), name, json.dumps(options)]
    pinned = sorted(os.sched_getaffinity(0))[:cores] if hasattr(os, "sched_setaffinity") else None

    def pin() -> None:
        os.sched_setaffinity(0, pinned)

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, preexec_fn=pin if pinned else None
    )
    if done.returncode:
        raise click.ClickException(f"{name} {options}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


Key = tuple[str, str, int]
"""What was measured: a name, the precision, and on how many cores."""


def phase_facts(phase: str, rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Rates of one phase: each way to compute it in either precision, on one core and on all."""
    jobs: dict[Key, tuple[str, dict[str, Any]]] = {}
    for precision in PRECISIONS:
        options: dict[str, Any] = {"phase": phase, "precision": precision}
        for cores in COUNTS:
            jobs["limit", precision, cores] = ("limit", options | {"threads": cores})
            timed = options | {"seconds": seconds}
            jobs["JAX", precision, cores] = ("jax", timed)
            threads = timed | {"threads": cores}
            jobs["eager torch", precision, cores] = ("eager", threads)
            jobs["ours", precision, cores] = ("ours", threads | {"members": 1})
            if precision == "medium":
                for count in MEMBERS:
                    jobs[f"{count} members", precision, cores] = ("ours", threads | {"members": count})
    rate: dict[Key, float] = {}
    for number in range(rounds):
        for key, (worker, options) in jobs.items():
            console.print(f"round {number + 1}/{rounds}, {phase} phase: {key}", style="dim")
            found = measure(worker, key[2], **options)["updates_per_second"]
            rate[key] = max(found, rate.get(key, 0.0))
    return {", ".join(map(str, key)): found for key, found in rate.items()}


def machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in info if "model name" in line]
    from vaco_curate.core.fast import native

    return {
        "processor": names[0] if names else platform.processor(),
        "cores": CORES,
        "torch": torch.__version__,
        "native_library": native.load() is not None,
        "bfloat16": native.multiplies_bfloat16(),
        "features": _features(info),
    }


def _features(info: list[str]) -> list[str]:
    """What decides the speed of products, of what the processor says it has."""
    flags = [line.split(":")[1] for line in info if line.startswith("flags")]
    known = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
    return [name for name in known if flags and name in flags[0].split()]


def tables(facts: dict[str, Any]) -> str:
    """The results as Markdown."""
    columns = [(phase, cores) for phase in PHASES for cores in COUNTS]
    names = {"value": "value phase", "bilevel": "bi-level phase"}
    heads = [f"{names[phase]}, {'one core' if cores == 1 else f'{cores} cores'}" for phase, cores in columns]
    lines = []
    for precision, words in PRECISIONS.items():
        lines += [_row(f"**{words}**, one training", heads), "|---" * (len(columns) + 1) + "|"]
        ours = [facts[phase][f"ours, {precision}, {cores}"] for phase, cores in columns]
        lines.append(_row("updates/s", [f"{rate:,.0f}" for rate in ours]))
        for name, label, form in (
            ("JAX", "over JAX", "{:.2f}x"),
            ("eager torch", "over eager torch", "{:.2f}x"),
            ("limit", "of the matrix-product limit", "{:.0%}"),
        ):
            others = [facts[phase][f"{name}, {precision}, {cores}"] for phase, cores in columns]
            ratios = (own / other for own, other in zip(ours, others, strict=True))
            lines.append(_row(label, [form.format(ratio) for ratio in ratios]))
        lines.append("")
    lines += [_row("K members, cost over K single trainings", heads), "|---" * (len(columns) + 1) + "|"]
    for count in MEMBERS:
        costs = (
            facts[phase][f"ours, medium, {cores}"] / (count * facts[phase][f"{count} members, medium, {cores}"])
            for phase, cores in columns
        )
        lines.append(_row(str(count), [f"{cost:.2f}" for cost in costs]))
    scoring = facts["scoring"]
    lines += ["", "| applying a scorer, all cores | rows/s | of the matrix-product limit |", "|---|---|---|"]
    lines += [
        f"| {label} | {scoring[key]['rows_per_second']:,.0f} | {scoring[key]['fraction_of_limit']:.0%} |"
        for key, label in (("memory", "to data in memory"), ("parquet", "from Parquet files, end to end"))
    ]
    lines += ["", "| rows scored from a Parquet stream | peak memory |", "|---|---|"]
    lines += [f"| {found['rows']:,} | {found['peak_mib']:,.0f} MiB |" for found in facts["streaming"]]
    return "\n".join(lines)


def _row(label: str, cells: list[str]) -> str:
    return f"| {label} | " + " | ".join(cells) + " |"


def write_page(text: str, facts: dict[str, Any]) -> None:
    """Put the tables between the page's markers."""
    begin, end = "<!-- bench: begin -->", "<!-- bench: end -->"
    page = PAGE.read_text()
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    where = facts["machine"]
    has = ", ".join(where["features"]) or "no features known"
    caption = f"*{where['processor']}, {where['cores']} cores ({has}); torch {where['torch']}.*"
    PAGE.write_text(f"{before}{begin}\n{caption}\n\n{text}\n{end}{after}")


@click.command()
@click.option("--rounds", type=int, default=3, show_default=True)
@click.option("--seconds", type=float, default=4.0, show_default=True, help="Of each measurement.")
@click.option("--page/--no-page", default=True, help="Write the tables into docs/performance.md.")
def main(rounds: int, seconds: float, page: bool) -> None:
    """Measure, print the ratios, and write them down."""
    console = Console(stderr=True)
    measure("check", 1)
    facts: dict[str, Any] = {"machine": machine()}
    facts |= {phase: phase_facts(phase, rounds, seconds, console) for phase in PHASES}
    scored = [measure("scoring", CORES, threads=CORES) for _ in range(rounds)]
    facts["scoring"] = {
        kind: max((found[kind] for found in scored), key=lambda result: result["fraction_of_limit"])
        for kind in ("memory", "parquet")
    }
    facts["streaming"] = [measure("streaming", 1, rows=rows) for rows in (1_000_000, 4_000_000)]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    text = tables(facts)
    if page:
        write_page(text, facts)
    print(text)


if __name__ == "__main__":
    main()
