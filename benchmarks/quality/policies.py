"""Policies learned from curated rows, and what they earn."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from datasets import Labelled
from signals import Signal

from vaco_curate.curation import Candidates, Cut, Level, select
from vaco_curate.evaluation import (
    CloningSettings,
    clone_policy,
    normalized_return,
    reference_returns,
    rollout_returns,
)
from vaco_curate.scaling import Scaling
from vaco_curate.transitions import Array, Transitions

SELECTIONS = ("all", "top 10 %", "top 25 %", "top 50 %", "weights")
EPISODES = 10


def selection_weight(data: Transitions, signal: Signal | None, selection: str, level: str) -> Array:
    """(n,) row weights of a selection.

    Args:
        signal: None for "all".
        level: "transition" or "episode".
    """
    if selection == "all":
        return np.ones(len(data))
    assert signal is not None
    if selection == "weights":
        assert signal.weight is not None
        return signal.weight
    share = Fraction(int(selection.split()[1]), 100)
    score = signal.score.astype(np.float64)
    return select(Candidates.of(data, score), Cut(share=share), Level(level)).row_weight


def earned(labelled: Labelled, policy: Any, seed: int) -> Array:
    """(episodes,) normalized returns; success in percent in a maze; else plain returns.

    Args:
        seed: of the policy; its episodes start like those of no other policy.
    """
    returns = np.concatenate(
        [
            rollout_returns(policy, env, episodes=EPISODES, seed=1_000 * (1 + seed) + 100 * number)
            for number, env in enumerate(labelled.environments)
        ]
    )
    if "to_middle" in labelled.names:
        return 100.0 * (returns > 0)
    reference = reference_returns(labelled.data.env_id, labelled.data.reference_returns)
    if reference is None:
        return returns
    return np.array([normalized_return(value, reference) for value in returns])


def clone(data: Transitions, weight: Array, scaling: Scaling, updates: int, seed: int) -> Any:
    """Behavior cloning."""
    return clone_policy(data, weight, scaling, CloningSettings(updates=updates), seed=seed)


def policy_facts(learner: str) -> dict[str, Any]:
    """What decides a policy beside its data, its updates and its seed."""
    if learner == "BC":
        return {**dataclasses.asdict(CloningSettings()), "schedule": "cosine to 0"}
    schedule = {"actor's schedule": "cosine to 0"} if learner == "IQL" else {}
    return {"d3rlpy": importlib.metadata.version("d3rlpy"), **schedule}


def d3rlpy_learner(name: str) -> Callable[[Transitions, Array, Scaling, int, int], Any]:
    """d3rlpy's algorithm with its own settings, on normalized states, actions in [-1, 1] and scaled rewards.

    IQL's actor learns at a rate that falls along a half cosine, as in the paper (arXiv:2110.06169, appendix B).
    """

    def learn(data: Transitions, weight: Array, scaling: Scaling, updates: int, seed: int) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import d3rlpy  # deferred: heavy, and noisy
        from vaco_curate.adapters.d3rlpy_buffer import replay_buffer

        logging.getLogger().setLevel(logging.ERROR)
        d3rlpy.seed(seed)
        scaled = dataclasses.replace(
            data,
            observation=scaling.observation(data.observation),
            action=scaling.action(data.action),
            next_observation=scaling.observation(data.next_observation),
            reward=scaling.reward(data.reward),
            action_low=None,
            action_high=None,
        )
        buffer = replay_buffer(scaled, weight)
        falling = d3rlpy.optimizers.AdamFactory(
            lr_scheduler_factory=d3rlpy.optimizers.CosineAnnealingLRFactory(T_max=updates)
        )
        config = {
            "IQL": d3rlpy.algos.IQLConfig(actor_optim_factory=falling),
            "TD3+BC": d3rlpy.algos.TD3PlusBCConfig(),
        }[name]
        algorithm = config.create(device="cpu")
        algorithm.build_with_dataset(buffer)
        for _ in range(updates):
            algorithm.update(buffer.sample_transition_batch(256))
        return _Learned(algorithm, scaling)

    return learn


@dataclasses.dataclass(frozen=True)
class _Learned:
    """A d3rlpy algorithm that acts in the units of the environment."""

    algorithm: Any
    scaling: Scaling

    @property
    def observation_size(self) -> int:
        """Of the environment."""
        return len(self.scaling.observation_mean)

    def act(self, observation: Array) -> Array:
        """(rows, d) raw -> (rows, k) raw."""
        action = self.algorithm.predict(self.scaling.observation(observation))
        return self.scaling.raw_action(np.clip(action, -1.0, 1.0))


LEARNERS: dict[str, Callable[[Transitions, Array, Scaling, int, int], Any]] = {
    "BC": clone,
    "IQL": d3rlpy_learner("IQL"),
    "TD3+BC": d3rlpy_learner("TD3+BC"),
}
