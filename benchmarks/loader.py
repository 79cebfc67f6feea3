"""Batches of ``load_curated`` beside a bare gather by numpy, taking turns in one process.

python benchmarks/loader.py [DATASET]      # seconds; one of its own without
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

from vaco_curate import (
    BilevelSettings,
    TrainSettings,
    ValueSettings,
    load_curated,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.demo import record_pendulum

SETTINGS = TrainSettings(value=ValueSettings(updates=500), bilevel=BilevelSettings(updates=0))
COLUMNS = ("observation", "action", "reward", "next_observation", "terminated", "has_successor")
BATCH, STEPS, ROUNDS = 256, 2_000, 5


def main() -> None:
    """Print rows a second of each, the best of some rounds."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = sys.argv[1] if len(sys.argv) > 1 else str(folder / "pendulum.hdf5")
        if len(sys.argv) < 2:
            record_pendulum(Path(source), episodes=200)
        run = score_dataset(source, out=folder / "run.vaco", settings=SETTINGS).run
        reweight_dataset(run, out=folder / "weighted")
        curated = load_curated(folder / "weighted")
    columns = [*(getattr(curated.transitions, name) for name in COLUMNS), curated.weight]
    drawn = np.random.default_rng(0).integers(len(curated), size=(STEPS, BATCH))
    ways = {
        "a gather by numpy, rows drawn beforehand": lambda: sum(
            len([column[rows] for column in columns]) for rows in drawn
        ),
        "batches()": lambda: sum(1 for _ in curated.batches(BATCH, STEPS)),
        "batches(weighted=False)": lambda: sum(1 for _ in curated.batches(BATCH, STEPS, weighted=False)),
        "loader()": lambda: sum(1 for _ in curated.loader(BATCH, STEPS)),
        "DataLoader of single rows, a tenth as many": lambda: sum(
            1 for _ in DataLoader(curated, batch_size=BATCH, sampler=curated.draw(BATCH * STEPS // 10))
        ),
    }
    seconds = dict.fromkeys(ways, np.inf)
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    plain = STEPS * BATCH / seconds["a gather by numpy, rows drawn beforehand"]
    print(
        f"{len(curated):,} rows of {curated.transitions.observation_size} + {curated.transitions.action_size}"
    )
    for name, found in seconds.items():
        rows = STEPS * BATCH / (10 if "tenth" in name else 1)
        print(f"{rows / found:12,.0f} rows/s  {plain / (rows / found):6.2f}x the time of the gather  {name}")


if __name__ == "__main__":
    main()
