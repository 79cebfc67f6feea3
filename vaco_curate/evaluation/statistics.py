"""Normalized returns and their uncertainty."""

from __future__ import annotations

import numpy as np

from vaco_curate.core.transitions import Array

REFERENCE_RETURNS = {
    "Hopper": (-20.272305, 3234.3),
    "HalfCheetah": (-280.178953, 12135.0),
    "Walker2d": (1.629008, 4592.3),
}
"""Return of a random and of an expert policy by environment name; source: D4RL (arXiv:2004.07219)."""


def reference_returns(env_id: str | None, stored: tuple[float, float] | None) -> tuple[float, float] | None:
    """The dataset's own reference returns, else D4RL's for the environment, else None."""
    if stored is not None or env_id is None:
        return stored
    return REFERENCE_RETURNS.get(env_id.rpartition("/")[2].partition("-")[0])


def normalized_return(episode_return: float, reference: tuple[float, float]) -> float:
    """100 * (return - random) / (expert - random). Source: D4RL, section 4."""
    lowest, highest = reference
    return 100.0 * (episode_return - lowest) / (highest - lowest)


def bootstrap_interval(
    returns: Array, *, confidence: float = 0.95, draws: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over seeds and, within each, over episodes.

    Seeds are resampled first, for episodes of one trained policy are not independent evidence about
    another training.

    Args:
        returns: (seeds, episodes).
    """
    generator = np.random.default_rng(seed)
    seeds, episodes = returns.shape
    chosen_seed = generator.integers(seeds, size=(draws, seeds, 1))
    chosen_episode = generator.integers(episodes, size=(draws, seeds, episodes))
    means = returns[chosen_seed, chosen_episode].mean(axis=(1, 2))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)
