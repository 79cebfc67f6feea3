"""Episodes that field cases are built of, and the rows as they truly are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np


@dataclass
class Episode:
    """T steps with T + 1 observations."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    def __len__(self):
        return len(self.reward)

    def without_last_row(self):
        """The same without its last step, as readers that leave out the row of a time limit keep it."""
        cut = {name: getattr(self, name)[:-1] for name in ("observation", "action", "reward", "terminated")}
        return Episode(**cut, truncated=self.truncated[:-1])


def episode(rng, length, d=3, k=2, end="timeout", dtype="f4"):
    """A random walk; ``end`` is terminal, timeout, both or none."""
    walk = np.cumsum(rng.normal(size=(length + 1, d)) * 0.1, axis=0)
    observation = (rng.normal(size=d) + walk).astype(dtype)
    action = rng.uniform(-1, 1, (length, k)).astype(dtype)
    reward = (observation[1:, 0] - 0.1 * (action**2).sum(axis=1)).astype(dtype)
    last = np.arange(length) == length - 1
    return Episode(
        observation, action, reward, last & (end in ("terminal", "both")), last & (end in ("timeout", "both"))
    )


def episodes(rng, lengths, ends="timeout", **shape):
    """One for each length; ends may be one for all, or one each."""
    each = [ends] * len(lengths) if isinstance(ends, str) else ends
    return [episode(rng, length, end=end, **shape) for length, end in zip(lengths, each, strict=True)]


@dataclass
class Truth:
    """Rows as they truly are, columns named as those of ``Transitions``."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: np.ndarray
    has_successor: np.ndarray
    episode: np.ndarray
    step_index: np.ndarray

    def __len__(self):
        return len(self.reward)

    def take(self, rows):
        """Some of the rows."""
        return Truth(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


def truth_of(found, *, last_known=False):
    """The rows of episodes; whether the state after the last of each is stored."""
    lengths = [len(one) for one in found]
    known = np.ones(sum(lengths), bool)
    if not last_known:
        known[np.cumsum(lengths) - 1] = False
    following = np.concatenate([one.observation[1:] for one in found])
    following[~known] = 0
    return Truth(
        observation=np.concatenate([one.observation[:-1] for one in found]),
        action=np.concatenate([one.action for one in found]),
        reward=np.concatenate([one.reward for one in found]),
        terminated=np.concatenate([one.terminated for one in found]),
        truncated=np.concatenate([one.truncated for one in found]),
        next_observation=following,
        has_successor=known,
        episode=np.repeat(np.arange(len(found)), lengths),
        step_index=np.concatenate([np.arange(length) for length in lengths]),
    )


@dataclass(frozen=True)
class Case:
    """A situation that people have.

    Attributes:
        name: of the function that builds it.
        situation: one sentence.
        outcome: what the tool does, for the table in docs/formats.md.
        source: public issues or projects where it was seen.
        make: folder -> (what to read, the rows as they are or None if it is to be refused).
        options: of the command line.
        says: a pattern that a note or the refusal must match.
    """

    name: str
    situation: str
    outcome: str
    source: str
    make: Callable[[Path], tuple[Path, Truth | None]]
    options: tuple[str, ...] = ()
    says: str | None = None


CASES: dict[str, Case] = {}


def case(situation, outcome, *, source, options=(), says=None):
    """Register the function that builds a case."""

    def register(make):
        name = make.__name__
        assert name not in CASES, name
        CASES[name] = Case(name, situation, outcome, source, make, tuple(options), says)
        return make

    return register


D4RL = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "terminals": "terminated",
    "timeouts": "truncated",
}
D4RL_NEXT = D4RL | {"next_observations": "next_observation"}


def write_hdf5(path, truth, names=D4RL, **changes):
    """Arrays of the truth under the given names; ``changes`` adds or replaces keys, None leaves one out."""
    arrays = {key: getattr(truth, name) for key, name in names.items()} | changes
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            if values is not None:
                file[key] = values
    return path


def write_npz(path, truth, names=D4RL, **changes):
    """As ``write_hdf5``, in an npz archive."""
    arrays = {key: getattr(truth, name) for key, name in names.items()} | changes
    np.savez(path, **{key: values for key, values in arrays.items() if values is not None})
    return path
