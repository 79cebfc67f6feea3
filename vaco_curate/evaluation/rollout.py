"""Rolling a policy out in a Gymnasium environment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.transitions import Array
from vaco_curate.data.formats.environment import quiet_simulators, register_extra_environments
from vaco_curate.data.formats.parts import leaves
from vaco_curate.errors import EnvironmentUnavailableError
from vaco_curate.store.progress import advance


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


def check_environment(
    environment: Environment, observation_size: int, action_size: int, parts: Sequence[str] = ()
) -> None:
    """Make the environment, reset it and take one step, before anything is trained for it.

    Args:
        parts: names of those of a Dict or Tuple observation that the dataset's observations concatenate.

    Raises:
        EnvironmentUnavailableError: it cannot be made or started, or has other spaces.
    """
    from gymnasium.spaces import Box  # deferred: heavy, and absent on a bare training machine

    with _vector_environment(environment, 1) as envs:
        space = envs.single_action_space
        if not isinstance(space, Box):
            raise EnvironmentUnavailableError(
                f"{environment.env_id} takes discrete actions, the data real vectors"
            )
        try:
            observation, _ = _reset(envs, environment, seed=0)
            envs.step(np.zeros(envs.action_space.shape, np.float32))
        except Exception as error:  # a simulator may refuse options in any way
            raise EnvironmentUnavailableError(
                f"{environment.env_id} cannot be reset and stepped",
                details=(f"{type(error).__name__}: {error}",),
                fix="check --env-kwargs and --reset-options",
            ) from error
        found = (_states(observation, observation_size, parts).shape[1], int(np.prod(space.shape)))
    if found != (observation_size, action_size):
        raise EnvironmentUnavailableError(
            f"{environment.env_id} does not fit the dataset",
            details=(
                f"environment: observation {found[0]}, action {found[1]}",
                f"dataset:     observation {observation_size}, action {action_size}",
            ),
            fix="name the environment that the data was recorded in: --env ID",
        )


def rollout_returns(
    policy: TrainedPolicy, environment: Environment, *, episodes: int, seed: int, parts: Sequence[str] = ()
) -> Array:
    """Undiscounted returns of ``episodes`` episodes, run side by side, (episodes,) float64.

    Each sub-environment plays one episode; what it does after its end is ignored.

    Args:
        parts: as for ``check_environment``.
    """
    returns = np.zeros(episodes)
    running = np.ones(episodes, dtype=bool)
    size = policy.observation_size
    with _vector_environment(environment, episodes) as envs:
        observation, _ = _reset(envs, environment, seed=seed)
        while running.any():
            action = policy.act(_states(observation, size, parts)).reshape(envs.action_space.shape)
            observation, reward, terminated, truncated, _ = envs.step(action)
            returns += np.where(running, reward, 0.0)
            ended = running & (terminated | truncated)
            running &= ~ended
            advance(int(ended.sum()))
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
                fix="check its id and --env-kwargs, install its package (of mazes gymnasium-robotics), or name "
                "another: --env ID",
            ) from error
    try:
        yield envs
    finally:
        envs.close()


def _reset(envs: Any, environment: Environment, *, seed: int) -> Any:
    options = None if environment.reset_options is None else dict(environment.reset_options)
    return envs.reset(seed=seed, options=options)


def _states(observation: Any, size: int, parts: Sequence[str]) -> Array:
    """The state vectors, (episodes, d).

    Of a Dict or Tuple observation, the parts that the dataset's observations concatenate, by name; all of them
    where it names none that fit; and where that is not of the wanted size, the part named ``observation``.
    """
    found = {name: np.asarray(part).reshape(len(part), -1) for name, part in leaves(observation)}
    if parts and all(name in found for name in parts):
        return np.concatenate([found[name] for name in parts], axis=1)
    states = np.concatenate(list(found.values()), axis=1)
    if states.shape[1] != size and "observation" in found:
        return found["observation"]
    return states
