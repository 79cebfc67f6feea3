"""Use the weights in a training loop of your own: here, cloning on batches that are drawn by weight."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from vaco_curate import (
    BilevelSettings,
    TrainSettings,
    ValueSettings,
    load_curated,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.demo import record_pendulum

settings = TrainSettings(value=ValueSettings(updates=500), bilevel=BilevelSettings(updates=0))

with TemporaryDirectory() as folder:
    dataset = Path(folder) / "pendulum.hdf5"
    record_pendulum(dataset, episodes=40)
    run = score_dataset(str(dataset), out=Path(folder) / "pendulum.vaco", settings=settings).run
    reweight_dataset(run, clip=10.0, out=Path(folder) / "weighted")

    curated = load_curated(Path(folder) / "weighted")
    policy = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    for batch in curated.batches(batch_size=256, steps=80):
        loss = (policy(batch["observation"]) - batch["action"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"cloning loss on the weighted data: {loss.item():.3f}")
