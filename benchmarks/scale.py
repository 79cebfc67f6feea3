"""Memory and time of scoring and filtering many rows, and the writer beside a bare copy by PyArrow.

    python benchmarks/scale.py                 # 1, 5 and 20 million rows: minutes, and 10 GB of disk
    python benchmarks/scale.py --odd           # 5,000 files, an episode of 5 million steps, little memory

Every command runs in a process of its own, whose peak memory the system tells. Writes
``benchmarks/results/scale.json`` and the tables of ``docs/scaling.md``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from vaco_curate import Cut, filter_dataset
from vaco_curate.data.formats.tables import ROWS_PER_GROUP, write_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "scale.json", ROOT / "docs" / "scaling.md"
D, K, EPISODE, SHARD = 17, 6, 1_000, 1_000_000
MAIN = "from vaco_curate_cli.main import main; main()"
TINY = {"value": {"updates": 200}, "bilevel": {"updates": 100}}


def write_shard(path: Path, rows: int, first_row: int, episode: int = EPISODE) -> None:
    """Smooth trajectories of random walks, whole episodes."""
    generator = np.random.default_rng(first_row)

    def walks(width: int) -> np.ndarray:
        steps = generator.standard_normal((rows // episode, episode, width), dtype=np.float32)
        return np.cumsum(steps, axis=1, dtype=np.float32).reshape(rows, width) * np.float32(0.1)

    def vectors(values: np.ndarray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])

    index = np.arange(first_row, first_row + rows)
    columns = {
        "observation": vectors(walks(D)),
        "action": vectors(np.tanh(walks(K))),
        "reward": pa.array(generator.standard_normal(rows).astype(np.float32)),
        "truncated": pa.array(index % episode == episode - 1),
        "episode_id": pa.array(index // episode),
        "step_index": pa.array(index % episode),
    }
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    write_table(path, pa.table(columns, schema=schema))


def train_scorer(folder: Path) -> None:
    """A scorer for such rows, ``scorer.vaco`` in the folder, hardly trained: what it says costs the same."""
    write_shard(folder / "small.parquet", 20_000, 0)
    (folder / "tiny.json").write_text(json.dumps(TINY))
    command("score", "small.parquet", "--config", "tiny.json", "--out", "scorer.vaco", folder=folder)


def command(*arguments: Any, folder: Path, limit: int | None = None) -> dict[str, float]:
    """Seconds, peak memory in MiB of a command, and what of it is its own: not pages of mapped files.

    Args:
        limit: bytes that it may have of its own.
    """
    started, peaks = time.perf_counter(), {"VmHWM": 0, "RssAnon": 0}
    line = [sys.executable, "-c", MAIN, *map(str, arguments), "--quiet"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    with (folder / "messages").open("w") as messages:
        if limit is not None:
            line = ["sh", "-c", f'ulimit -d {limit >> 10}; exec "$0" "$@"', *line]
        process = subprocess.Popen(line, cwd=folder, stdout=messages, stderr=messages, env=environment)
        while process.poll() is None:
            peaks = {name: max(peak, memory(process.pid, name)) for name, peak in peaks.items()}
            time.sleep(0.02)
    if process.returncode:
        raise click.ClickException((folder / "messages").read_text())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_mib": peaks["VmHWM"] / 1024, "own_mib": peaks["RssAnon"] / 1024}


def memory(pid: int, name: str) -> int:
    """KiB of memory that a process has or had, by the system's name for it; 0 when it is gone.

    Not the peak that the system tells of ended children: it begins with that of their parent.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def write_rows(folder: Path, rows: int) -> None:
    """Shards of a million rows."""
    folder.mkdir()
    for shard, first in enumerate(range(0, rows, SHARD)):
        write_shard(folder / f"part-{shard:05d}.parquet", min(SHARD, rows - first), first)


def scale(rows: int, folder: Path, console: Console, *engine: str, train: bool = False) -> dict[str, Any]:
    """Scoring and filtering of so many rows, and a short training on them."""
    data = folder / "rows"
    write_rows(data, rows)
    found: dict[str, Any] = {"rows": rows}
    console.print(f"{rows:,} rows: scoring {' '.join(engine)}", style="dim")
    out = ("--out", "run.vaco", *engine)
    found["score"] = command("score", data, "--scorer", "scorer.vaco", *out, folder=folder)
    console.print(f"{rows:,} rows: filtering {' '.join(engine)}", style="dim")
    found["filter"] = command("filter", "run.vaco", "--top", "50%", "--out", "half", *engine, folder=folder)
    kept = sum(pq.read_metadata(file).num_rows for file in (folder / "half" / "data").glob("*.parquet"))
    assert kept == rows // 2, "a filter keeps exactly what it is told"
    if train:
        console.print(f"{rows:,} rows: training", style="dim")
        options = ("--config", "tiny.json", "--memory-limit", "1GB", "--out", "trained.vaco")
        found["train"] = command("score", data, *options, folder=folder)
        shutil.rmtree(folder / "trained.vaco")
        shutil.rmtree(folder / "cache" / "vaco-curate" / "columns", ignore_errors=True)
    for path in (data, folder / "run.vaco", folder / "half"):
        shutil.rmtree(path)
    return found


ODD = {
    "5,000 files of 200 rows": (5_000, 200, 200),
    "one episode of 5,000,000 steps": (1, 5_000_000, 5_000_000),
    "20,000,000 rows, 4 GiB of memory": (20, SHARD, EPISODE),
}
"""(files, rows of each, rows of an episode) by what is odd."""

COMMANDS = (
    ("inspect", "inspect", "rows"),
    ("score --scorer", "score", "rows", "--scorer", "scorer.vaco", "--out", "run.vaco"),
    ("filter --top 50%", "filter", "run.vaco", "--top", "50%", "--out", "half"),
    ("report", "report", "run.vaco"),
    (
        "eval",
        "eval",
        "run.vaco",
        "--env",
        "HalfCheetah-v5",
        *["--updates", "300", "--seeds", "1", "--episodes", "1"],
    ),
    ("convert --format d4rl", "convert", "rows", "other", "--format", "d4rl", "--rows-per-shard", "200"),
)

LITTLE = 4 << 30
"""Bytes of private memory for a command, pages of mapped files not counted."""


def odd(folder: Path, console: Console) -> list[str]:
    """Rows of a table: all commands on data of odd shape, or with little memory."""
    lines = ["| data | command | seconds | peak memory | without mapped files |", "|---|---|---|---|---|"]
    for name, (files, rows, episode) in ODD.items():
        (folder / "rows").mkdir()
        for number in range(files):
            write_shard(folder / "rows" / f"part-{number:05d}.parquet", rows, number * rows, episode)
        little = LITTLE if "memory" in name else None
        for words, *arguments in COMMANDS:
            console.print(f"{name}: {words}", style="dim")
            if "d4rl" in words and files < 5_000:
                continue
            one = command(*arguments, folder=folder, limit=little)
            cells = f"{one['seconds']:.0f} | {one['peak_mib']:,.0f} MiB | {one['own_mib']:,.0f} MiB"
            lines.append(f"| {name} | `{words}` | {cells} |")
        for path in ("rows", "run.vaco", "half", "other"):
            shutil.rmtree(folder / path, ignore_errors=True)
    return lines


def writer(rows: int, folder: Path, rounds: int) -> dict[str, float]:
    """Filter and write, beside reading, taking and writing the same rows by PyArrow alone; taking turns."""
    write_rows(folder / "plain", rows)
    command("convert", "plain", "rows", folder=folder)
    command("score", "rows", "--scorer", "scorer.vaco", "--out", "run.vaco", folder=folder)
    cut = Cut(share=Fraction(1, 2))
    ours, bare = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        filter_dataset(folder / "run.vaco", cut, out=folder / "kept", if_exists="replace")
        ours.append(time.perf_counter() - started)
        keep = pq.read_table(folder / "kept" / "_selection.pq", columns=["keep"]).column("keep")
        started = time.perf_counter()
        bare_copy(folder / "rows" / "data", keep, folder)
        bare.append(time.perf_counter() - started)
    return {"rows": rows, "ours_seconds": min(ours), "bare_seconds": min(bare), "ratio": min(ours) / min(bare)}


def bare_copy(source: Path, keep: pa.ChunkedArray, folder: Path) -> None:
    """Read, take and write the kept rows, with the encodings that we write."""
    row = 0
    for path in sorted(source.glob("*.parquet")):
        table = pq.read_table(path)
        taken = table.take(pa.array(np.flatnonzero(keep.slice(row, len(table)).to_numpy())))
        floats = ["observation.list.element", "action.list.element", "next_observation.list.element", "reward"]
        pq.write_table(
            taken,
            folder / "bare.parquet",
            compression="zstd",
            use_dictionary=False,
            column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
            row_group_size=ROWS_PER_GROUP,
            write_page_index=True,
        )
        row += len(table)


def tables(facts: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = streams(facts["scale"])
    lines += [_row(facts["ray"], name, " --engine ray") for name in ("score", "filter")]
    copied, largest = facts["writer"], facts["scale"][-1]
    lines.append(_row(largest, "train", " --memory-limit 1GB"))
    rows_a_second = largest["rows"] / largest["score"]["seconds"] / facts["cores"]
    decision = largest["filter"]["seconds"] / largest["rows"]
    lines += [
        "",
        f"*{facts['cores']} cores; memory is of the command's own process, Ray's workers have theirs. "
        "The training is of 300 updates: it is the rows that take the time.*",
        "",
        f"`filter` of {copied['rows']:,} rows takes {copied['ratio']:.2f} times as long as reading, taking and "
        "writing the same rows with PyArrow alone, decision, checks and hashes included.",
        "",
        f"By the largest of these, a core scores {rows_a_second:,.0f} rows a second, with reading and writing: "
        f"a billion rows are {1e9 / rows_a_second / 3600:.1f} core-hours, and "
        f"{decision * 1e9 / 3600:.1f} hours of filtering by one process.",
    ]
    return "\n".join(lines)


def streams(scales: list[dict[str, Any]]) -> list[str]:
    """A table's head, and the rows of scoring and filtering."""
    head = "| rows | command | seconds | seconds per million rows | peak memory | without mapped files |"
    rows = [_row(found, name, "") for found in scales for name in ("score", "filter")]
    return [head, "|---|---|---|---|---|---|", *rows]


def _row(found: dict[str, Any], name: str, engine: str) -> str:
    one = found[name]
    words = {"score": "score --scorer", "filter": "filter --top 50%", "train": "score"}[name]
    cells = f"{one['seconds']:.0f} | {one['seconds'] / found['rows'] * 1e6:.2f} | {one['peak_mib']:,.0f} MiB"
    cells += f" | {one['own_mib']:,.0f} MiB"
    return f"| {found['rows']:,} | `{words}{engine}` | {cells} |"


@click.command()
@click.option("--rows", "sizes", multiple=True, type=int, default=(1_000_000, 5_000_000, 20_000_000))
@click.option("--rounds", type=int, default=3, show_default=True, help="Of the writer.")
@click.option(
    "--odd", "only_odd", is_flag=True, help="Data of odd shape, little memory; print, and write nothing."
)
@click.option("--streams-only", is_flag=True, help="Score and filter; print, and write nothing down.")
def main(sizes: tuple[int, ...], rounds: int, streams_only: bool, only_odd: bool) -> None:
    """Measure, print the tables, and write them down."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_scorer(folder)
        facts: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
        if only_odd:
            print("\n".join(odd(folder, console)))
            return
        if streams_only:
            print("\n".join(streams([scale(rows, folder, console) for rows in sizes])))
            return
        facts["scale"] = [scale(rows, folder, console, train=rows == sizes[-1]) for rows in sizes]
        facts["ray"] = scale(min(sizes[-1], 5 * SHARD), folder, console, "--engine", "ray")
        console.print("the writer", style="dim")
        facts["writer"] = writer(2_000_000, folder, rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    text = tables(facts)
    begin, end = "<!-- scale: begin -->", "<!-- scale: end -->"
    before, rest = PAGE.read_text().split(begin)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")
    print(text)


if __name__ == "__main__":
    main()
