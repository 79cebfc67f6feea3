"""Behavior cloning by imitation on curated rows; pip install imitation. vaco_curate is not needed here.

vaco-curate reweight RUN --out weighted
python imitation_bc.py weighted
"""

import sys

import gymnasium as gym
import numpy as np
import pandas as pd
from imitation.algorithms.bc import BC

rows = pd.read_parquet(sys.argv[1], columns=["observation", "action", "weight"])
observation, action = np.stack(rows["observation"]), np.stack(rows["action"])
share = rows["weight"].to_numpy(np.float64)
share /= share.sum()
rng = np.random.default_rng(0)


class WeightedBatches:  # a class and no generator: BC goes through it once an epoch
    def __iter__(self):
        for drawn in rng.choice(len(share), (max(1, len(share) // 256), 256), p=share):
            yield {"obs": observation[drawn], "acts": action[drawn]}


learner = BC(
    observation_space=gym.spaces.Box(-np.inf, np.inf, observation.shape[1:], np.float32),
    action_space=gym.spaces.Box(-1, 1, action.shape[1:], np.float32),
    demonstrations=WeightedBatches(),
    batch_size=256,
    rng=rng,
)
learner.train(n_epochs=5, log_interval=20, progress_bar=False)
