"""tianshou's TD3+BC on curated rows; pip install tianshou. vaco_curate is not needed here.

vaco-curate reweight RUN --format npz --out weighted
python tianshou_td3bc.py weighted/data/weighted.npz
"""

import sys

import gymnasium as gym
import numpy as np
from tianshou.algorithm import TD3BC
from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import ReplayBuffer
from tianshou.trainer import OfflineTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorDeterministic, ContinuousCritic


class WeightedBuffer(ReplayBuffer):  # without update_weight, so no TD error can overwrite the weights
    def sample_indices(self, batch_size):
        if not batch_size:  # the library's way to ask for all rows
            return super().sample_indices(batch_size)
        at = self._random_state.random(batch_size) * self.sums[-1]
        return np.searchsorted(self.sums, at, side="right")


data = np.load(sys.argv[1])
columns = {"obs": data["observations"], "act": data["actions"], "rew": data["rewards"]}
end = data["terminals"]
ends = {"terminated": end, "truncated": ~end, "done": np.ones_like(end)}  # no row is followed by the next one
buffer = WeightedBuffer.from_data(**columns, **ends, obs_next=data["next_observations"])
buffer.sums = np.cumsum(data["weights"], dtype=np.float64)

sizes = {"state_shape": columns["obs"].shape[1:], "hidden_sizes": (64, 64)}
space = gym.spaces.Box(-1, 1, columns["act"].shape[1:])
actor = ContinuousActorDeterministic(preprocess_net=Net(**sizes), action_shape=space.shape)
critic = ContinuousCritic(preprocess_net=Net(**sizes, action_shape=space.shape, concat=True))
policy, adam = ContinuousDeterministicPolicy(actor=actor, action_space=space), AdamOptimizerFactory(lr=3e-4)
learner = TD3BC(policy=policy, policy_optim=adam, critic=critic, critic_optim=adam)
params = OfflineTrainerParams(buffer=buffer, max_epochs=1, epoch_num_steps=50, batch_size=256)
print(learner.run_training(params))
