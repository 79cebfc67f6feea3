"""robomimic's BC on its own file, drawn by weight; pip install robomimic. vaco_curate is not needed here.

vaco-curate score demos.hdf5
vaco-curate reweight --format weights --out weighted
python robomimic_bc.py demos.hdf5 weighted
"""

import sys

import pandas as pd
import robomimic.utils.file_utils as file_utils
import robomimic.utils.obs_utils as obs_utils
import robomimic.utils.train_utils as train_utils
import torch
from robomimic.algo import algo_factory
from robomimic.config import config_factory
from torch.utils.data import DataLoader, WeightedRandomSampler

source, folder = sys.argv[1:]
config = config_factory("bc")
with config.values_unlocked():
    config.train.data = source
    config.observation.modalities.obs.low_dim = ["state"]
obs_utils.initialize_obs_utils_with_config(config)
shapes = file_utils.get_shape_metadata_from_dataset(source, config.all_obs_keys)
data, _ = train_utils.load_data_for_training(config, shapes["all_obs_keys"])

# Sample i is row i of demo_0, demo_1, demo_2 and so on, as long as no filter key is set.
weights = pd.read_parquet(folder)["weight"].to_numpy()
sampler = WeightedRandomSampler(weights, len(data))
loader = DataLoader(data, batch_size=256, sampler=sampler, drop_last=True)

learner = algo_factory("bc", config, shapes["all_shapes"], shapes["ac_dim"], torch.device("cpu"))
for epoch in range(1, 4):
    print(train_utils.run_epoch(learner, loader, epoch)["Loss"])
