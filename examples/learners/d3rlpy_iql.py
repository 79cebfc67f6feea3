"""d3rlpy's IQL on curated rows, drawn by weight; pip install 'd3rlpy!=2.8.1'.

vaco-curate reweight RUN --out weighted
python d3rlpy_iql.py weighted
"""

import sys

import d3rlpy
from d3rlpy.logging import NoopAdapterFactory

from vaco_curate import load_curated

buffer = load_curated(sys.argv[1]).d3rlpy_replay_buffer()
learner = d3rlpy.algos.IQLConfig().create(device="cpu:0")
learner.fit(buffer, n_steps=50, n_steps_per_epoch=50, show_progress=False, logger_adapter=NoopAdapterFactory())
print(f"trained on {buffer.transition_count} transitions")
