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
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
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


def best(rounds: list[dict[str, float]]) -> float:
    return max(result["updates_per_second"] for result in rounds)


def phase_facts(phase: str, rounds: int, seconds: float, console: Console) -> dict[str, Any]:
    """Everything measured about one phase."""
    jobs: dict[str, tuple[str, int, dict[str, Any]]] = {
        "ours": ("ours", 1, {"precision": "medium", "members": 1, "threads": 1}),
        "ours_float32": ("ours", 1, {"precision": "highest", "members": 1, "threads": 1}),
        "eager_one_core": ("eager", 1, {"threads": 1, "precision": "highest"}),
        "eager_all_cores": ("eager", CORES, {"threads": CORES, "precision": "highest"}),
        "eager_bfloat16": ("eager", CORES, {"threads": CORES, "precision": "medium"}),
        "jax_one_core": ("jax", 1, {}),
        "jax_all_cores": ("jax", CORES, {}),
    }
    jobs |= {
        f"members_{count}": ("ours", 1, {"precision": "medium", "members": count, "threads": 1})
        for count in MEMBERS
    }
    jobs["members_4_all_cores"] = ("ours", CORES, {"precision": "medium", "members": 4, "threads": CORES})
    results: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    limits: dict[str, list[dict[str, float]]] = {"medium": [], "highest": []}
    for number in range(rounds):
        for name, (worker, cores, options) in jobs.items():
            console.print(f"round {number + 1}/{rounds}, {phase} phase: {name}", style="dim")
            results[name].append(measure(worker, cores, phase=phase, seconds=seconds, **options))
        for precision, found in limits.items():
            found.append(measure("limit", 1, phase=phase, threads=1, precision=precision))
    rate = {name: best(found) for name, found in results.items()}
    eager = max(rate["eager_one_core"], rate["eager_all_cores"])
    jax = max(rate["jax_one_core"], rate["jax_all_cores"])
    limit = {precision: best(found) for precision, found in limits.items()}
    return {
        "updates_per_second": rate["ours"],
        "ratio_to_eager": rate["ours"] / eager,
        "ratio_to_eager_one_core": rate["ours"] / rate["eager_one_core"],
        "ratio_to_eager_bfloat16": rate["ours"] / rate["eager_bfloat16"],
        "ratio_to_jax": rate["ours"] / jax,
        "ratio_to_jax_one_core": rate["ours"] / rate["jax_one_core"],
        "fraction_of_limit": rate["ours"] / limit["medium"],
        "operations_per_update": limits["medium"][0]["operations"],
        "float32": {
            "updates_per_second": rate["ours_float32"],
            "ratio_to_eager": rate["ours_float32"] / eager,
            "ratio_to_jax": rate["ours_float32"] / jax,
            "ratio_to_eager_one_core": rate["ours_float32"] / rate["eager_one_core"],
            "ratio_to_jax_one_core": rate["ours_float32"] / rate["jax_one_core"],
            "fraction_of_limit": rate["ours_float32"] / limit["highest"],
        },
        "cost_of_members": {str(count): rate["ours"] / (count * rate[f"members_{count}"]) for count in MEMBERS}
        | {"4, all cores": rate["ours"] / (4 * rate["members_4_all_cores"])},
        "all": {"rates": rate, "limits": limit},
    }


def machine() -> dict[str, Any]:
    facts = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in facts.read_text().splitlines() if "model name" in line]
    from vaco_curate import native

    return {
        "processor": names[0] if names else platform.processor(),
        "cores": CORES,
        "torch": torch.__version__,
        "native_library": native.load() is not None,
        "bfloat16": native.multiplies_bfloat16(),
    }


def tables(facts: dict[str, Any]) -> str:
    """The results as Markdown."""
    phases = [facts[f"{phase}_phase"] for phase in PHASES]
    rows = [
        ("updates/s", "updates_per_second", "{:,.0f}"),
        ("over eager torch in float32, the faster of one and all cores", "ratio_to_eager", "{:.2f}x"),
        ("over eager torch in float32, one core", "ratio_to_eager_one_core", "{:.2f}x"),
        ("over eager torch with bfloat16 products, all cores", "ratio_to_eager_bfloat16", "{:.2f}x"),
        ("over JAX in float32, the faster of one and all cores", "ratio_to_jax", "{:.2f}x"),
        ("over JAX in float32, one core", "ratio_to_jax_one_core", "{:.2f}x"),
        ("of the matrix-product limit", "fraction_of_limit", "{:.0%}"),
    ]
    head = "| {} | value phase | bi-level phase |"
    lines = [head.format("**default precision**, one training on one core"), "|---|---|---|"]
    for label, key, form in rows:
        lines.append(f"| {label} | " + " | ".join(form.format(phase[key]) for phase in phases) + " |")
    lines += ["", head.format("**float32 everywhere**, one training on one core"), "|---|---|---|"]
    for label, key, form in rows:
        if key in phases[0]["float32"]:
            cells = (form.format(phase["float32"][key]) for phase in phases)
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines += ["", "| K members, cost over K single trainings | value phase | bi-level phase |", "|---|---|---|"]
    lines += [
        f"| {count} | " + " | ".join(f"{phase['cost_of_members'][count]:.2f}" for phase in phases) + " |"
        for count in phases[0]["cost_of_members"]
    ]
    scoring = facts["scoring"]
    lines += ["", "| applying a scorer, all cores | rows/s | of the matrix-product limit |", "|---|---|---|"]
    lines += [
        f"| {label} | {scoring[key]['rows_per_second']:,.0f} | {scoring[key]['fraction_of_limit']:.0%} |"
        for key, label in (("memory", "to data in memory"), ("parquet", "from Parquet files, end to end"))
    ]
    lines += ["", "| rows scored from a Parquet stream | peak memory |", "|---|---|"]
    lines += [f"| {found['rows']:,} | {found['peak_mib']:,.0f} MiB |" for found in facts["streaming"]]
    return "\n".join(lines)


def write_page(text: str, facts: dict[str, Any]) -> None:
    """Put the tables between the page's markers."""
    begin, end = "<!-- bench: begin -->", "<!-- bench: end -->"
    page = PAGE.read_text()
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    where = facts["machine"]
    bfloat16 = "with" if where["bfloat16"] else "without"
    caption = (
        f"*{where['processor']}, {where['cores']} cores, {bfloat16} bfloat16 products; torch {where['torch']}.*"
    )
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
    facts |= {f"{phase}_phase": phase_facts(phase, rounds, seconds, console) for phase in PHASES}
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
