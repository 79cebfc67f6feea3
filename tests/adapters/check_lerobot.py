"""What LeRobot makes of our files: ``check_lerobot.py SOURCE COPY SELECTION PROGRESS TRUTH``."""

import json
import sys

import numpy as np
import pandas as pd
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.rabc import RABCWeights

source, copy, selection, progress, truth = sys.argv[1:]
chosen = pd.read_parquet(selection)
kept = chosen.groupby("episode_id")["keep"].all()
kept = kept.index[kept].tolist()


def states(dataset):
    return np.stack([np.asarray(dataset[frame]["observation.state"]) for frame in range(len(dataset))])


expected = states(LeRobotDataset("local/recorded", root=source))[chosen["keep"].to_numpy()]
of_copy = states(LeRobotDataset("local/copy", root=copy))
of_episodes = states(LeRobotDataset("local/recorded", root=source, episodes=kept))
with np.load(truth) as arrays:
    weight = arrays["weight"] / arrays["weight"].mean()
errors = []
for chunk in (50, 64, 100):
    weights = RABCWeights(progress, chunk_size=chunk, device=torch.device("cpu"))
    found, _ = weights.compute_batch_weights({"index": torch.arange(len(weight))})
    errors.append(float(np.abs(found.numpy() - weight).max()))
facts = {
    "episodes": len(kept),
    "frames": len(of_copy),
    "copy": np.array_equal(of_copy, expected),
    "episodes=": np.array_equal(of_episodes, expected),
    "error of weights": max(errors),
}
print(json.dumps(facts))
