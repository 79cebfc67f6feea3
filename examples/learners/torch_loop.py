"""A training loop in plain torch: weights for the policy, all rows alike for the critic.

vaco-curate reweight RUN --out weighted
python torch_loop.py weighted
"""

import sys

import torch

from vaco_curate import load_curated

curated = load_curated(sys.argv[1])
observation_size = curated.transitions.observation.shape[1]
action_size = curated.transitions.action.shape[1]
policy = torch.nn.Linear(observation_size, action_size)
critic = torch.nn.Linear(observation_size + action_size, 1)
optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=3e-4)

weighted = curated.loader(256, steps=50)  # a DataLoader: num_workers=2 gathers batches in other processes
alike = curated.batches(256, steps=50, weighted=False)
for batch, other in zip(weighted, alike, strict=True):
    cloning = (policy(batch["observation"]) - batch["action"]).square().mean()
    with torch.no_grad():
        state = other["next_observation"]
        value = critic(torch.cat([state, policy(state)], 1)).squeeze(1)
        target = other["reward"] + 0.99 * value * ~other["terminated"]
    q = critic(torch.cat([other["observation"], other["action"]], 1)).squeeze(1)
    optimizer.zero_grad()
    (cloning + (q - target).square().mean()).backward()
    optimizer.step()
print(f"cloning loss {cloning.item():.3f}")
