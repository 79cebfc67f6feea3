"""Train d3rlpy's IQL on curated data; needs ``pip install 'vaco-curate[d3rlpy]'``."""

from pathlib import Path
from tempfile import TemporaryDirectory

import d3rlpy
from d3rlpy.logging import NoopAdapterFactory

from vaco_curate import (
    BilevelSettings,
    TrainSettings,
    ValueSettings,
    load_curated,
    reweight_dataset,
    score_dataset,
)
from vaco_curate.demo import record_pendulum

settings = TrainSettings(value=ValueSettings(updates=500), bilevel=BilevelSettings(updates=0))

with TemporaryDirectory() as folder:
    dataset = Path(folder) / "pendulum.hdf5"
    record_pendulum(dataset, episodes=40)
    run = score_dataset(str(dataset), out=Path(folder) / "pendulum.vaco", settings=settings).run
    reweight_dataset(run, out=Path(folder) / "weighted")

    buffer = load_curated(Path(folder) / "weighted").d3rlpy_replay_buffer()
    algorithm = d3rlpy.algos.IQLConfig().create(device="cpu:0")
    algorithm.fit(
        buffer, n_steps=50, n_steps_per_epoch=50, show_progress=False, logger_adapter=NoopAdapterFactory()
    )
    print(f"trained on {buffer.transition_count} transitions")
