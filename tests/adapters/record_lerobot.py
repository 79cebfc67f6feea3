"""Record a LeRobot dataset with its own package: ``record_lerobot.py FOLDER``. Frame i has i / 4096 in it."""

import sys

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

features = {
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "z"]},
    "action": {"dtype": "float32", "shape": (2,), "names": ["u", "v"]},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}
generator = np.random.default_rng(0)
dataset = LeRobotDataset.create("local/recorded", fps=10, features=features, root=sys.argv[1], use_videos=False)
frame = 0
for length in generator.integers(10, 60, 60).tolist():
    succeeds = generator.random() < 0.5
    for step in range(length):
        state, action = generator.standard_normal(3), generator.uniform(-1, 1, 2)
        state[0] = action[0] = frame / 4096
        dataset.add_frame(
            {
                "observation.state": state.astype(np.float32),
                "action": action.astype(np.float32),
                "next.success": np.array([succeeds and step == length - 1]),
                "task": "move",
            }
        )
        frame += 1
    dataset.save_episode()
dataset.finalize()
