"""A script of CORL on curated rows: one line for the data, and one for the weights.

    vaco-curate reweight RUN --format npz --out weighted
    python corl.py weighted/data/weighted.npz

CORL scales rewards by the range of returns: take ``dataset["return_range"]``, which is that of the source.
"""

import sys

import numpy as np
import torch

dataset = dict(np.load(sys.argv[1]))  # in place of d4rl.qlearning_dataset(env)


class ReplayBuffer:
    def __init__(self, dataset):
        names = ("observations", "actions", "rewards", "next_observations", "terminals")
        self.columns = [torch.as_tensor(dataset[name], dtype=torch.float32) for name in names]
        self.sums = np.cumsum(dataset["weights"], dtype=np.float64)

    def sample(self, batch_size):  # in place of np.random.randint(0, size, batch_size)
        indices = np.searchsorted(self.sums, np.random.rand(batch_size) * self.sums[-1], side="right")
        return [column[indices] for column in self.columns]


buffer = ReplayBuffer(dataset)
policy = torch.nn.Linear(dataset["observations"].shape[1], dataset["actions"].shape[1])
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4)
for _ in range(50):  # the rest is as it was; here a policy is cloned
    observation, action, *_ = buffer.sample(256)
    loss = (policy(observation) - action).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"cloned {len(dataset['weights'])} rows by weight: loss {loss.item():.3f}")
