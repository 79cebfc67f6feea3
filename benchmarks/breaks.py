"""How often breaks between rows are told right: ends without a flag, and frames that are missing.

    python benchmarks/breaks.py              random walks of 2 to 17 numbers, 300 seeds each
    python benchmarks/breaks.py FOLDER       also the D4RL-layout files of a folder, first 60,000 rows of each

Prints how many of the readings have another number of episodes than there are. docs/formats.md quotes it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from field.episodes import Truth, episodes, truth_of

from vaco_curate.data.columns import transitions_from_columns

SEEDS, SIZES = 300, (2, 3, 6, 17)
READ = ("observation", "action", "reward", "terminated", "truncated", "next_observation")
REAL_ROWS = 60_000


def read_episodes(truth: Truth, *, without: str = "") -> int:
    columns = {name: getattr(truth, name) for name in READ if name != without}
    return len(transitions_from_columns(columns, source="walk", format_name="test").episode_start)


def walks(seed: int, size: int) -> Iterator[tuple[str, bool]]:
    """(situation, whether it is read right) of random walks."""
    rng = np.random.default_rng(seed)

    def walk(lengths, ends="timeout"):
        return truth_of(episodes(rng, lengths, ends, d=size), last_known=True)

    ends = ["timeout", "none", "terminal", "none", "terminal", "none"]
    yield "2 of 6 ends without a flag", read_episodes(walk([50, 50, 30, 50, 17, 8], ends)) == 6
    yield "6 of 12 ends without a flag", read_episodes(walk([50] * 12, ["timeout", "none"] * 6)) == 12
    yield "20 episodes without flags", read_episodes(walk([25] * 20, "none"), without="truncated") == 20
    old, new = walk([50] * 4), walk([50, 50], ["timeout", "none"]).take(np.arange(70))
    rows = {
        name: np.concatenate([getattr(new, name), getattr(old, name)[70:]])
        for name in Truth.__dataclass_fields__
    }
    yield "a ring buffer's write position", read_episodes(Truth(**rows)) == 5
    for frames in (1, 3, 6):
        truth = walk([60] * 6)
        kept = truth.take(np.flatnonzero((truth.step_index < 20) | (truth.step_index >= 20 + frames)))
        yield f"{frames} frames missing in each of 6 episodes", read_episodes(kept) == 6


def recorded(path: Path) -> Iterator[tuple[str, bool]]:
    """The same of a recorded dataset: its rows of time limits left out, or frames inside its episodes."""
    with h5py.File(path) as file:
        part = {key: file[key][:REAL_ROWS] for key in ("observations", "actions", "rewards")}
        terminated, truncated = (file[key][:REAL_ROWS].astype(bool) for key in ("terminals", "timeouts"))
    rows = len(terminated)
    episode = np.concatenate([[0], np.cumsum((terminated | truncated)[:-1])])
    start = np.concatenate([[0], np.flatnonzero(np.diff(episode)) + 1])
    whole = Truth(
        observation=part["observations"],
        action=part["actions"],
        reward=part["rewards"],
        terminated=terminated,
        truncated=truncated,
        next_observation=np.roll(part["observations"], -1, axis=0),
        has_successor=np.ones(rows, bool),
        episode=episode,
        step_index=np.arange(rows) - start[episode],
    )
    dump = whole.take(np.flatnonzero(~truncated & (np.arange(rows) < rows - 1)))
    count = len(np.unique(dump.episode))
    stored = dump.next_observation
    forms = {"": stored, ", rounded to 3 decimals": stored.round(3), ", in float16": stored.astype("f2")}
    for form, dump.next_observation in forms.items():
        yield f"rows of time limits left out{form}", read_episodes(dump, without="truncated") == count
    for frames in (1, 3, 8):
        missing = (whole.step_index % 97 >= 50) & (whole.step_index % 97 < 50 + frames)
        kept = whole.take(np.flatnonzero(~missing | terminated | truncated))
        yield f"{frames} frames missing, again and again", read_episodes(kept) == len(np.unique(kept.episode))


def main(folder: str | None = None) -> None:
    for size in SIZES:
        wrong: Counter[str] = Counter()
        for seed in range(SEEDS):
            wrong.update({situation: not right for situation, right in walks(seed, size)})
        for situation, count in wrong.items():
            print(f"{size} numbers, {situation}: {count} of {SEEDS} wrong")
    for path in sorted(Path(folder).glob("*.hdf5")) if folder else []:
        for situation, right in recorded(path):
            print(f"{path.stem}, {situation}: {'right' if right else 'wrong'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
