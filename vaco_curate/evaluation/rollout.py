"""Rolling a policy out in a Gymnasium environment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaco_curate.errors import EnvironmentUnavailableError
from vaco_curate.formats.environment import quiet_simulators, register_extra_environments
from vaco_curate.policy import TrainedPolicy
from vaco_curate.transitions import Array


@dataclass(frozen=True)
class Environment:
    """An environment and how its episodes start.

    Attributes:
        env_id: Gymnasium id.
        kwargs: for ``gymnasium.make``.
        reset_options: for ``reset(options=...)``, such as a maze's start and goal cell.
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    reset_options: Mapping[str, Any] | None = None


def check_environment(environment: Environment, policy_sizes: tuple[int, int]) -> None:
    """Make the environment once and compare its sizes with the dataset's.

    Raises:
        EnvironmentUnavailableError: it cannot be made, or has other spaces.
    """
    with _vector_environment(environment, 1) as envs:
        observation, _ = _reset(envs, environment, seed=0)
        found = (_state(observation).shape[1], int(np.prod(envs.single_action_space.shape)))
    if found != policy_sizes:
        raise EnvironmentUnavailableError(
            f"{environment.env_id} does not fit the dataset",
            details=(
                f"environment: observation {found[0]}, action {found[1]}",
                f"dataset:     observation {policy_sizes[0]}, action {policy_sizes[1]}",
            ),
            fix="name the environment that the data was recorded in with --env",
        )


def rollout_returns(policy: TrainedPolicy, environment: Environment, *, episodes: int, seed: int) -> Array:
    """Undiscounted returns of ``episodes`` episodes, run side by side, (episodes,) float64.

    Each sub-environment plays one episode; what it does after its end is ignored.
    """
    returns = np.zeros(episodes)
    running = np.ones(episodes, dtype=bool)
    with _vector_environment(environment, episodes) as envs:
        observation, _ = _reset(envs, environment, seed=seed)
        while running.any():
            action = policy.act(_state(observation)).reshape(envs.action_space.shape)
            observation, reward, terminated, truncated, _ = envs.step(action)
            returns += np.where(running, reward, 0.0)
            running &= ~(terminated | truncated)
    return returns


@contextlib.contextmanager
def _vector_environment(environment: Environment, count: int) -> Iterator[Any]:
    import gymnasium  # deferred: heavy, and absent on a bare training machine

    register_extra_environments()

    def make() -> Any:
        return gymnasium.make(environment.env_id, **environment.kwargs)

    with quiet_simulators():
        try:
            envs = gymnasium.vector.SyncVectorEnv([make] * count)
        except Exception as error:  # a missing simulator shows in many ways
            raise EnvironmentUnavailableError(
                f"the environment {environment.env_id} cannot be made",
                details=(f"{type(error).__name__}: {error}",),
                fix="install its package (mazes: pip install gymnasium-robotics), or name another with --env",
            ) from error
    try:
        yield envs
    finally:
        envs.close()


def _reset(envs: Any, environment: Environment, *, seed: int) -> Any:
    options = None if environment.reset_options is None else dict(environment.reset_options)
    return envs.reset(seed=seed, options=options)


def _state(observation: Any) -> Array:
    """The state vectors, (episodes, d); goal environments hold them under ``observation``."""
    vectors = observation["observation"] if isinstance(observation, dict) else observation
    return np.asarray(vectors).reshape(len(vectors), -1)
