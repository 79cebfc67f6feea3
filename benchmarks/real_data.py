"""The two literal commands on real datasets: time, memory, correlations, returns of cloned policies.

    python benchmarks/real_data.py dataset.hdf5 [dataset.hdf5 ...] [--preset quick] [--seeds 3] [--out FILE]

Every command runs in a process of its own, whose peak memory is measured. The table is what README.md and
docs/results.md show.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

COMMAND = [sys.executable, "-c", "from vaco_curate_cli.main import main; main()"]


def run(folder: Path, *arguments: str) -> tuple[dict, float]:
    """The JSON result of a command, and its seconds."""
    started = time.perf_counter()
    finished = subprocess.run(
        [*COMMAND, *arguments, "--json"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(finished.stdout), time.perf_counter() - started


def measure(dataset: Path, preset: str, seeds: int) -> dict:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / dataset.name).symlink_to(dataset.resolve())
        scored, score_seconds = run(folder, "score", dataset.name, "--preset", preset)
        kept, filter_seconds = run(folder, "filter", "--top", "50%")
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        episodes, _ = run(folder, "filter", "--top", "50%", "--level", "episode")
        best, _ = run(folder, "filter", "--top", "10%", "--level", "episode")
        report, _ = run(folder, "report")
        policies = {}
        for target in (scored["run"], kept["out"], episodes["out"], best["out"]):
            against = "uniform" if target == scored["run"] else ""
            evaluated, _ = run(folder, "eval", target, "--seeds", str(seeds), "--against", against)
            for policy in evaluated["policies"]:
                name = evaluated["curated"] if policy["name"] == "curated" else policy["name"]
                policies[name] = {key: policy[key] for key in ("rows", "mean", "interval", "normalized")}
    return {
        "dataset": dataset.stem,
        "preset": preset,
        "score_seconds": round(score_seconds, 1),
        "filter_seconds": round(filter_seconds, 1),
        "peak_memory_gib": round(memory, 2),
        "effective_sample_share": round(scored["effective_sample_share"], 3),
        "correlations": report["correlations"],
        "policies": policies,
    }


def show(result: dict) -> None:
    print(f"\n{result['dataset']}, {result['preset']}: score {result['score_seconds']} s, "
          f"filter {result['filter_seconds']} s, peak memory {result['peak_memory_gib']} GiB, "
          f"effective sample size {result['effective_sample_share']:.0%}\n")  # fmt: skip
    print("| signal, mean over an episode | Pearson | Spearman |\n|---|---|---|")
    for row in result["correlations"]:
        print(f"| {row['signal']} | {row['pearson']:.3f} | {row['spearman']:.3f} |")
    print("\n| cloned from | rows | return | normalized (95 % interval) |\n|---|---|---|---|")
    for name, row in result["policies"].items():
        normalized = (
            "-" if row["normalized"] is None else "{:.1f} ({:.1f} to {:.1f})".format(*row["normalized"])
        )
        print(f"| {name} | {row['rows']:,} | {row['mean']:,.0f} | {normalized} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    results = []
    for dataset in options.datasets:
        results.append(measure(dataset, options.preset, options.seeds))
        show(results[-1])
        if options.out is not None:
            options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
