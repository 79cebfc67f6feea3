"""Score a dataset and keep its better half, from Python.

The dataset is recorded on the spot; put the path of your own in its place. The updates are few, so
that this takes seconds: leave ``settings`` out for the default, which takes minutes.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from vaco_curate import (
    BilevelSettings,
    TrainSettings,
    ValueSettings,
    filter_dataset,
    load_curated,
    score_dataset,
)
from vaco_curate.demo import record_pendulum

settings = TrainSettings(value=ValueSettings(updates=500), bilevel=BilevelSettings(updates=0))

with TemporaryDirectory() as folder:
    dataset = Path(folder) / "pendulum.hdf5"
    record_pendulum(dataset, episodes=40)

    result = score_dataset(str(dataset), out=Path(folder) / "pendulum.vaco", settings=settings)
    print(f"scored {result.rows} rows, effective sample size {result.effective_sample_share:.0%}")

    kept = filter_dataset(result, "2000", level="episode", out=Path(folder) / "best")
    print(f"mean return before {kept.before.return_mean:.0f}, after {kept.after.return_mean:.0f}")

    curated = load_curated(Path(folder) / "best")
    print(f"{len(curated)} rows, the first: {curated[0]['observation'].tolist()}")
