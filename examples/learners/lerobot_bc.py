"""A loop over a LeRobot dataset, drawn by weight; pip install lerobot. vaco_curate is not needed here.

vaco-curate score recorded --success next.success
vaco-curate reweight --format lerobot --out weighted
python lerobot_bc.py recorded weighted

With SmolVLA, pi0 or pi0.5, LeRobot's own trainer draws by the same weights (0.6: --sample_weighting.type=rabc
--sample_weighting.progress_path=...):

lerobot-train ... --use_rabc=true --rabc_progress_path=weighted/sarm_progress.parquet
"""

import sys

import pandas as pd
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch.utils.data import DataLoader, WeightedRandomSampler

source, folder = sys.argv[1:]
data = LeRobotDataset("local/recorded", root=source)  # a filter's _episodes.json is a list for episodes=
weights = pd.read_parquet(f"{folder}/weights.parquet").set_index("index")["weight"]
of_frames = weights.loc[[int(index) for index in data.hf_dataset["index"]]].to_numpy()
sampler = WeightedRandomSampler(of_frames, 50 * 64)
loader = DataLoader(data, batch_size=64, sampler=sampler)

state, action = (data.features[name]["shape"][0] for name in ("observation.state", "action"))
policy = torch.nn.Linear(state, action)  # in place of a policy of LeRobot
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-4)
for batch in loader:
    loss = (policy(batch["observation.state"]) - batch["action"]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"cloned {len(data)} frames by weight: loss {loss.item():.3f}")
