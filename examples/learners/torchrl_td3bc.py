"""TorchRL's TD3+BC on curated rows; pip install torchrl. vaco_curate is not needed here.

vaco-curate reweight RUN --format npz --out weighted
python torchrl_td3bc.py weighted/data/weighted.npz
"""

import sys

import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.data import LazyTensorStorage, RandomSampler, TensorDictReplayBuffer
from torchrl.modules import MLP, ValueOperator
from torchrl.objectives import SoftUpdate, TD3BCLoss


class WeightedSampler(RandomSampler):  # it has no priorities, so no learner can overwrite the weights
    def __init__(self, weights):
        self.sums = weights.double().cumsum(0)

    def sample(self, storage, batch_size):
        at = torch.rand(batch_size, dtype=torch.float64, generator=self._rng) * self.sums[-1]
        return torch.searchsorted(self.sums, at, right=True), {}


file = np.load(sys.argv[1])
names = ("observations", "actions", "rewards", "terminals", "next_observations", "weights")
data = {name: torch.from_numpy(file[name]) for name in names}
rows, states, actions = len(data["weights"]), data["observations"].shape[1], data["actions"].shape[1]
end, reward = data["terminals"][:, None], data["rewards"][:, None]
after = {"observation": data["next_observations"], "reward": reward, "terminated": end, "done": end}
storage, sampler = LazyTensorStorage(rows), WeightedSampler(data["weights"])
replay = TensorDictReplayBuffer(storage=storage, sampler=sampler, batch_size=256)
replay.extend(TensorDict({"observation": data["observations"], "action": data["actions"], "next": after}, rows))

network = torch.nn.Sequential(MLP(states, actions, num_cells=[64, 64]), torch.nn.Tanh())
actor = TensorDictModule(network, ["observation"], ["action"])
critic = ValueOperator(MLP(states + actions, 1, num_cells=[64, 64]), ["observation", "action"])
loss = TD3BCLoss(actor, critic, bounds=(-torch.ones(actions), torch.ones(actions)))
targets, optimizer = SoftUpdate(loss, tau=0.005), torch.optim.Adam(loss.parameters(), lr=3e-4)
for _ in range(50):
    losses = loss(replay.sample())
    optimizer.zero_grad()
    (losses["loss_actor"] + losses["loss_qvalue"]).backward()
    optimizer.step()
    targets.step()
print(f"trained on {rows} rows: cloning loss {losses['bc_loss'].item():.3f}")
