"""Facts about an environment that a dataset names but does not hold."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import warnings
from collections.abc import Iterator

import numpy as np

from vaco_curate.core.transitions import Array


@functools.cache
def action_bounds(env_id: str | None) -> tuple[Array | None, Array | None]:
    """(low, high) of the environment's action space, or (None, None) when it cannot be made here."""
    if env_id is None or imports_code(env_id):
        return None, None
    try:
        import gymnasium  # deferred: heavy, and absent on a bare training machine

        register_extra_environments()
        with quiet_simulators():
            env = gymnasium.make(env_id)
    except Exception:  # any simulator may be missing or broken; the data's range serves instead
        return None, None
    space = env.action_space
    env.close()
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        return None, None
    return np.asarray(space.low), np.asarray(space.high)


def imports_code(env_id: str) -> bool:
    """Whether an environment's id makes Gymnasium import a module: it does what stands before a colon."""
    return ":" in env_id


def register_extra_environments() -> None:
    """Make the environments of gymnasium-robotics known to Gymnasium, when it is installed."""
    with quiet_simulators():
        try:
            module = importlib.import_module("gymnasium_robotics")
        except ImportError:
            return
        importlib.import_module("gymnasium").register_envs(module)


@contextlib.contextmanager
def quiet_simulators() -> Iterator[None]:
    """Hold back the deprecation notes that Gymnasium, its plugins and MuJoCo repeat on stderr.

    MuJoCo would also write them to a file in the current directory.
    """
    with contextlib.suppress(ImportError, OSError):  # OSError: MuJoCo's own library is missing
        importlib.import_module("mujoco").set_mju_user_warning(lambda message: None)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
