"""OGBench's npz files."""

from __future__ import annotations

import numpy as np
from field.episodes import Truth, case, episodes, truth_of, write_npz

OGBENCH = {"observations": "observation", "actions": "action", "terminals": "truncated"}


def _raw(folder, count, goal):
    """Trajectories of T + 1 rows, of which a task's success covers some inside."""
    rng = np.random.default_rng(30)
    found = episodes(rng, [30] * count, "none", d=4)
    observation = np.concatenate([one.observation for one in found])
    action = np.concatenate([np.concatenate([one.action, one.action[-1:]]) for one in found])
    rows = len(observation)
    ends = np.arange(rows) % 31 == 30
    success = np.isin(np.arange(rows), goal)
    reward = np.where(success, 0.0, -1.0).astype("f4")
    known = ~(success | ends)
    following = np.roll(observation, -1, axis=0)
    following[~known] = 0
    truth = Truth(
        observation=observation,
        action=action,
        reward=reward,
        terminated=success,
        truncated=ends & ~success,
        next_observation=following,
        has_successor=known,
        episode=np.repeat(np.arange(count), 31),
        step_index=np.tile(np.arange(31), count),
    )
    path = folder / "cube-single.npz"
    np.savez_compressed(
        path,
        observations=observation,
        actions=action,
        terminals=ends.astype("f4"),
        rewards=reward,
        masks=1.0 - success.astype("f4"),
        qpos=rng.normal(size=(rows, 3)),
    )
    return path, truth


@case(
    "a raw file with the rewards and masks of a task; the goal is reached inside a trajectory",
    "5 episodes: masks are true ends, terminals end trajectories",
    source="seohongpark/ogbench 26, 34",
    says="trajectories go on after them",
)
def ogbench_with_rewards(folder):
    return _raw(folder, 5, [40, 41, 42])


@case(
    "the same with many success rows in each trajectory",
    "5 episodes, not one for each success",
    source="seohongpark/ogbench 26, 34",
)
def ogbench_with_many_successes(folder):
    return _raw(folder, 5, np.concatenate([31 * k + np.arange(4, 28) for k in range(5)]))


@case(
    "OGBench's loaded dict, with next observations",
    "they are used; the last row of a trajectory has a successor",
    source="ogbench.make_env_and_datasets",
)
def ogbench_loaded_dict(folder):
    truth = truth_of(episodes(np.random.default_rng(31), [30] * 4, d=4), last_known=True)
    names = OGBENCH | {"rewards": "reward", "next_observations": "next_observation"}
    return write_npz(folder / "loaded.npz", truth, names, masks=np.ones(len(truth), "f4")), truth


@case(
    "OGBench's compact dict: valids, terminals in the last two rows",
    "4 trajectories; the last valid row has the last row for its successor",
    source="ogbench, compact_dataset=True",
)
def ogbench_compact(folder):
    path, truth = _raw(folder, 4, [])
    ends = truth.step_index == 30
    terminals = ends | np.roll(ends, -1)
    np.savez(
        path,
        observations=truth.observation,
        actions=truth.action,
        rewards=truth.reward,
        masks=np.ones(len(truth), "f4"),
        terminals=terminals.astype("f4"),
        valids=1.0 - ends.astype("f4"),
    )
    return path, truth


@case(
    "D4RL's dict in npz without timeouts, terminals named as true ends",
    "read as D4RL's layout",
    source="npz dumps of older D4RL files",
    options=["--column", "terminated=terminals"],
)
def npz_with_true_ends(folder):
    truth = truth_of(episodes(np.random.default_rng(105), [30, 20, 40], "terminal", d=4))
    names = {"observations": "observation", "actions": "action", "rewards": "reward", "terminals": "terminated"}
    return write_npz(folder / "old.npz", truth, names), truth


@case("arrays in Fortran order", "read as any other", source="numpy.savez of a pandas frame")
def npz_in_fortran_order(folder):
    truth = truth_of(episodes(np.random.default_rng(92), [30] * 3, d=4))
    arrays = {"observations": np.asfortranarray(truth.observation), "rewards": truth.reward}
    return write_npz(folder / "frame.npz", truth, OGBENCH, **arrays), truth


@case(
    "a pickled dict of settings beside the arrays",
    "read; the dict is not unpickled, and named in a note",
    source="conglu1997/v-d4rl 13",
    says="not read, since pickled objects can run code: config",
)
def npz_with_a_pickled_entry(folder):
    truth = truth_of(episodes(np.random.default_rng(100), [30] * 3, d=4))
    more = {"rewards": truth.reward, "config": {"env": "reach", "seed": 3}}
    return write_npz(folder / "with-config.npz", truth, OGBENCH, **more), truth


@case(
    "a needed array is pickled",
    "refused by its name",
    source="object arrays saved by accident",
    says=r"missing actions(.|\n)*pickled objects can run code: actions",
)
def npz_with_pickled_actions(folder):
    truth = truth_of(episodes(np.random.default_rng(103), [30] * 3, d=4))
    return write_npz(folder / "pickled.npz", truth, OGBENCH, actions=truth.action.astype(object)), None


@case(
    "an npz file with names of its own",
    "read by --column",
    source="hand-made npz",
    options=["--column", "observation=state,action=act,reward=rew"],
)
def npz_with_other_names(folder):
    truth = truth_of(episodes(np.random.default_rng(104), [30] * 3, d=4))
    names = {"state": "observation", "act": "action", "rew": "reward", "terminals": "truncated"}
    return write_npz(folder / "named.npz", truth, names), truth
