"""Train a scorer once and apply it to data that arrives later."""

from pathlib import Path
from tempfile import TemporaryDirectory

from vaco_curate import BilevelSettings, Scorer, TrainSettings, ValueSettings, read_dataset, score_dataset
from vaco_curate.demo import record_pendulum

settings = TrainSettings(value=ValueSettings(updates=500), bilevel=BilevelSettings(updates=0))

with TemporaryDirectory() as folder:
    old, new = Path(folder) / "old.hdf5", Path(folder) / "new.hdf5"
    record_pendulum(old, episodes=40, seed=0)
    record_pendulum(new, episodes=10, seed=1)
    run = score_dataset(str(old), out=Path(folder) / "old.vaco", settings=settings).run

    scorer = Scorer.load(run)
    data = read_dataset(str(new))
    scores = scorer.score(data)
    best = scores.score.argmax()
    print(f"best of {len(data)} new rows: row {best}, Q = {scores.q_value[best]:.1f}")
