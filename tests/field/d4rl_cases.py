"""D4RL's layout in HDF5 and npz, and flat arrays of other projects."""

from __future__ import annotations

import h5py
import numpy as np
from field.episodes import D4RL, D4RL_NEXT, Truth, case, episode, episodes, truth_of, write_hdf5, write_npz

NO_LIMITS = {key: name for key, name in D4RL_NEXT.items() if key != "timeouts"}
INSIDE = r"row\(s\) inside episodes are not followed by their stored successor"


def generator(seed):
    return np.random.default_rng(seed)


@case(
    "a replay buffer with next observations, two of six ends without a flag",
    "6 episodes; the two ends are noted",
    source="Farama-Foundation/D4RL 162; tinkoff-ai/CORL 43",
    says=rf"2 {INSIDE} \(first row 99\): episodes end there",
)
def unmarked_time_limits(folder):
    ends = ["timeout", "none", "terminal", "none", "terminal", "none"]
    truth = truth_of(episodes(generator(2), [50, 50, 30, 50, 17, 8], ends), last_known=True)
    return write_hdf5(folder / "replay.hdf5", truth, D4RL_NEXT), truth


@case(
    "20 trajectories with next observations and no flag at all",
    "20 episodes, noted",
    source="tinkoff-ai/CORL 43",
    says=f"19 {INSIDE}",
)
def no_flags_but_next_observations(folder):
    truth = truth_of(episodes(generator(21), [25] * 20, "none"), last_known=True)
    return write_hdf5(folder / "steps.hdf5", truth, NO_LIMITS), truth


def _dump(folder, **changes):
    lengths, ends = (
        [60, 60, 30, 60, 12, 60],
        ["timeout", "timeout", "terminal", "timeout", "terminal", "timeout"],
    )
    found = [
        one.without_last_row() if one.truncated[-1] else one for one in episodes(generator(1), lengths, ends)
    ]
    truth = truth_of(found, last_known=True)
    return write_hdf5(folder / "qlearning.hdf5", truth, NO_LIMITS, **changes), truth


@case(
    "a dump of D4RL's qlearning_dataset, which leaves out the rows of time limits",
    "6 episodes, noted",
    source="Farama-Foundation/D4RL qlearning_dataset",
    says=f"3 {INSIDE}",
)
def qlearning_dump(folder):
    return _dump(folder)


@case(
    "the same dump with the environment's step limit named",
    "6 episodes: the limit would cut wrongly and is not used",
    source="Farama-Foundation/D4RL qlearning_dataset",
    options=["--max-episode-steps", "60"],
    says="the given step limit is not used",
)
def qlearning_dump_with_a_limit(folder):
    return _dump(folder)


@case(
    "next observations in float64 beside observations in float32",
    "5 episodes, as without rounding",
    source="thu-ml/tianshou 766",
)
def next_observations_in_another_type(folder):
    wide = episodes(generator(5), [40] * 5, dtype="f8")
    truth = truth_of(wide, last_known=True)
    truth.observation = truth.observation.astype("f4")
    return write_hdf5(folder / "mixed.hdf5", truth, D4RL_NEXT), truth


@case(
    "next observations rounded to three decimals",
    "5 episodes, as without rounding",
    source="CSV exports",
)
def next_observations_rounded(folder):
    truth = truth_of(episodes(generator(6), [40] * 5), last_known=True)
    truth.next_observation = truth.next_observation.round(3)
    return write_hdf5(folder / "rounded.hdf5", truth, D4RL_NEXT), truth


@case(
    "a ring buffer that was written over: an old episode goes on right behind the newest row",
    "an episode ends at the write position, noted",
    source="replay buffers with a write position",
    says=f"1 {INSIDE}",
)
def ring_buffer(folder):
    old = truth_of(episodes(generator(7), [50] * 4), last_known=True)
    new = truth_of(episodes(generator(8), [50, 50], ["timeout", "none"]), last_known=True)
    new = new.take(np.arange(70))
    columns = {}
    for name in Truth.__dataclass_fields__:
        columns[name] = np.concatenate([getattr(new, name), getattr(old, name)[70:]])
    columns["episode"] = np.repeat([0, 1, 2, 3, 4], [50, 20, 30, 50, 50])
    columns["step_index"] = np.concatenate([np.arange(n) for n in (50, 20, 30, 50, 50)])
    truth = Truth(**columns)
    return write_hdf5(folder / "ring.hdf5", truth, D4RL_NEXT), truth


@case(
    "time limits marked one row late, on the first row of the next episode",
    "taken for the row before, noted",
    source="time-limit wrappers outside the recorder",
    says="marked one row late",
)
def time_limits_one_row_late(folder):
    truth = truth_of(episodes(generator(9), [40] * 8), last_known=True)
    truth.truncated[-1] = False  # the last one would be beyond the file
    return write_hdf5(folder / "late.hdf5", truth, D4RL_NEXT, timeouts=np.roll(truth.truncated, 1)), truth


@case(
    "frames dropped inside episodes, next observations stored",
    "the episodes of the flags; paths end at the holes, noted",
    source="loggers that skip frames",
    says="frames are missing there",
)
def dropped_frames(folder):
    truth = truth_of(episodes(generator(10), [60] * 6), last_known=True)
    kept = truth.take(np.flatnonzero(~np.isin(truth.step_index, [20, 21, 40])))
    kept.step_index = np.tile(np.arange(57), 6)
    return write_hdf5(folder / "dropped.hdf5", kept, D4RL_NEXT), kept


@case(
    "rows of eight environments alternate",
    "refused, with how to reorder them",
    source="cpnota/autonomous-learning-library 220; tianshou and SB3 buffers of (steps, environments)",
    says="rows of 8 environments alternate",
)
def interleaved_environments(folder):
    found = episodes(generator(11), [100] * 8)
    for one, length in zip(found, (100, 80, 60, 100, 90, 70, 100, 40), strict=True):
        one.terminated[length - 1] = True
    arrays = {
        key: np.stack([getattr(one, name) for one in found], axis=1)
        for key, name in D4RL.items()
        if name != "observation"
    }
    arrays["observations"] = np.stack([one.observation[:-1] for one in found], axis=1)
    arrays["next_observations"] = np.stack([one.observation[1:] for one in found], axis=1)
    with h5py.File(folder / "buffer.hdf5", "w") as file:
        for key, values in arrays.items():
            file[key] = values.reshape(800, *values.shape[2:])
    return folder / "buffer.hdf5", None


@case(
    "a simulator that resets itself: next observations at time limits are the next episode's first",
    "kept as stored, noted; training does not bootstrap from them",
    source="openai/gym 3177; Farama-Foundation/Gymnasium 1103",
    says=r"9 end\(s\) lead to the next episode's first observation",
)
def autoreset_next_observations(folder):
    truth = truth_of(episodes(generator(7), [40] * 10), last_known=True)
    starts = np.arange(40, 400, 40)
    truth.next_observation[starts - 1] = truth.observation[starts]
    return write_hdf5(folder / "autoreset.hdf5", truth, D4RL_NEXT), truth


@case(
    "a row more after each end, from the last state to the reset",
    "kept as the first row of the next episode, noted",
    source="vwxyzjn/cleanrl 499; automl/Mighty 108",
    says="a simulator that resets itself records such a step",
)
def next_step_autoreset_rows(folder):
    rng = generator(8)
    found = episodes(rng, [30] * 8, ["timeout", "terminal"] * 4)
    rows = []
    for number, one in enumerate(found):
        truth = truth_of([one], last_known=True)
        if number + 1 < len(found):
            observation = np.concatenate([one.observation, found[number + 1].observation[:1]])
            action = np.concatenate([one.action, rng.uniform(-1, 1, (1, 2)).astype("f4")])
            more = {name: np.append(getattr(one, name), 0) for name in ("reward", "terminated", "truncated")}
            flags = {name: more[name].astype(bool) for name in ("terminated", "truncated")}
            long = type(one)(observation, action, more["reward"].astype("f4"), **flags)
            truth = truth_of([long], last_known=True)
        rows.append(truth)
    columns = {
        name: np.concatenate([getattr(row, name) for row in rows]) for name in Truth.__dataclass_fields__
    }
    ends = columns["terminated"] | columns["truncated"]
    columns["episode"] = np.concatenate([[0], np.cumsum(ends[:-1])])
    lengths = np.bincount(columns["episode"])
    columns["step_index"] = np.concatenate([np.arange(length) for length in lengths])
    truth = Truth(**columns)
    return write_hdf5(folder / "nextstep.hdf5", truth, D4RL_NEXT), truth


def _ant_maze(folder, length):
    rng = generator(3)
    found = episodes(rng, [length] * 8, "none", d=6)
    for number, one in enumerate(found):
        one.observation[:, :2] = (
            np.linspace([0, 0], [8, 8], length + 1) + rng.normal(size=(length + 1, 2)) * 0.03
        )
        one.reward[:] = 0
        if number % 2 == 0:
            one.terminated[-7:] = True
            one.reward[-7:] = 1
    truth = truth_of(found)
    rows = len(truth)
    path = write_hdf5(
        folder / "antmaze-v0.hdf5",
        truth,
        timeouts=np.arange(rows) % (length - 1) == length - 2,
        **{"infos/goal": np.full((rows, 2), 8.0)},
    )
    last = np.flatnonzero(np.diff(truth.episode))  # the file stops in the last trajectory
    truth.truncated[last] = ~truth.terminated[last]
    truth.has_successor &= ~truth.terminated
    truth.next_observation[~truth.has_successor] = 0
    return path, truth


@case(
    "AntMaze v0: terminals near the goal, timeouts out of step with trajectories of 301 rows",
    "8 trajectories that end where the position jumps, noted",
    source="Farama-Foundation/D4RL 77, 146",
    says="timeouts are out of step",
)
def ant_maze_v0(folder):
    return _ant_maze(folder, 301)


@case(
    "the same with trajectories of 51 rows",
    "8 trajectories, noted",
    source="Farama-Foundation/D4RL 77, 146",
    says="timeouts are out of step",
)
def ant_maze_v0_short(folder):
    return _ant_maze(folder, 51)


@case(
    "AntMaze, diverse: one terminal inside each trajectory, timeouts right",
    "6 trajectories, each with its terminal inside, noted",
    source="Farama-Foundation/D4RL 199",
    says="the state moves on after terminals",
)
def ant_maze_single_terminals(folder):
    rng = generator(4)
    found = episodes(rng, [60] * 6, d=6)
    for one in found:
        one.observation[:, :2] = np.linspace([0, 0], [8, 8], 61) + rng.normal(size=(61, 2)) * 0.03
        one.reward[:] = 0
        one.terminated[40], one.reward[40] = True, 1
    truth = truth_of(found)
    path = write_hdf5(folder / "umaze-diverse.hdf5", truth, **{"infos/goal": np.full((len(truth), 2), 8.0)})
    truth.has_successor &= ~truth.terminated
    truth.next_observation[~truth.has_successor] = 0
    return path, truth


@case(
    "an angle that wraps, terminals as success flags, timeouts right",
    "the trajectories of the timeouts, noted: no AntMaze",
    source="Adroit and hand-made success flags",
    says="they mark success",
)
def wrapped_angle_with_success_flags(folder):
    rng = generator(12)
    found = episodes(rng, [80] * 8, d=5)
    for number, one in enumerate(found):
        angle = rng.uniform(-np.pi, np.pi) + np.cumsum(rng.uniform(0, 0.3, 81))
        one.observation[:, 0] = (angle + np.pi) % (2 * np.pi) - np.pi
        one.reward[:] = 0
        if number % 2 == 0:
            one.terminated[-12:], one.reward[-12:] = True, 1
    truth = truth_of(found)
    path = write_hdf5(folder / "reach.hdf5", truth)
    truth.truncated &= ~truth.terminated
    truth.has_successor &= ~truth.terminated
    truth.next_observation[~truth.has_successor] = 0
    return path, truth


def _success_flags():
    found = episodes(generator(24), [60] * 8, "none", d=4)
    for number, one in enumerate(found):
        if number % 2 == 0:
            one.terminated[-10:] = True
    return truth_of(found, last_known=True)


@case(
    "success flags in the rows at the goal, next observations, no time limits",
    "the trajectories of the next observations, noted",
    source="robomimic's done_mode 0 in flat arrays",
    says="they mark success",
)
def success_flags_with_next_observations(folder):
    truth = _success_flags()
    return write_hdf5(folder / "goal.hdf5", truth, NO_LIMITS), truth


@case(
    "AntMaze without timeouts, named so",
    "trajectories end where the position jumps, noted",
    source="AntMaze files that were written again",
    says="there are no timeouts: trajectories end where the position jumps",
)
def ant_maze_without_timeouts(folder):
    path, truth = _ant_maze(folder, 101)
    with h5py.File(path, "r+") as file:
        del file["timeouts"]
    return path, truth


@case(
    "one-step episodes and long ones that all begin near the same state",
    "65 episodes",
    source="takuseno/d3rlpy 127",
)
def one_step_episodes_with_alike_starts(folder):
    rng = generator(25)
    found = episodes(rng, [1] * 60, "terminal") + episodes(rng, [60] * 5)
    for one in found:
        start = rng.normal(size=3).astype("f4") * 0.01
        one.observation = one.observation - one.observation[0] + start
    truth = truth_of(found)
    return write_hdf5(folder / "grasps.hdf5", truth), truth


@case(
    "next observations rounded to two decimals, steps of 0.005",
    "5 episodes, as without rounding",
    source="CSV exports",
)
def next_observations_rounded_coarsely(folder):
    found = episodes(generator(26), [200] * 5, "none")
    for one in found:
        one.observation = one.observation[0] + 0.05 * (one.observation - one.observation[0])
    truth = truth_of(found, last_known=True)
    truth.next_observation = truth.next_observation.round(2)
    return write_hdf5(folder / "coarse.hdf5", truth, NO_LIMITS), truth


@case(
    "80 episodes of one step, then 6 long ones",
    "86 episodes: terminals that follow one another end them here",
    source="takuseno/d3rlpy 127",
)
def one_step_episodes_before_long_ones(folder):
    rng = generator(9)
    found = episodes(rng, [1] * 80, "terminal") + episodes(rng, [20] * 6)
    truth = truth_of(found)
    return write_hdf5(folder / "bandit-and-more.hdf5", truth), truth


@case("every row an episode of one step", "300 episodes", source="takuseno/d3rlpy 127")
def bandit(folder):
    truth = truth_of(episodes(generator(16), [1] * 300, "terminal"))
    return write_hdf5(folder / "bandit.hdf5", truth), truth


@case(
    "Maze2D: one trajectory, timeouts at waypoints",
    "successors reach beyond the timeouts, noted",
    source="Farama-Foundation/D4RL 85, 31",
    says="as in Maze2D",
)
def maze2d(folder):
    rng = generator(6)
    truth = truth_of(episodes(rng, [400], "none", d=4))
    truth.truncated[[90, 143, 229, 300, 377]] = True
    truth.episode = np.concatenate([[0], np.cumsum(truth.truncated[:-1])])
    truth.step_index = np.concatenate([np.arange(n) for n in np.bincount(truth.episode)])
    infos = {"infos/goal": rng.normal(size=(400, 2)), "infos/qpos": rng.normal(size=(400, 2))}
    return write_hdf5(folder / "maze2d.hdf5", truth, **infos), truth


@case(
    "both flags on one row; float flags, columns of one number; a name with an accent and a space",
    "a row with both is a true end",
    source="Farama-Foundation/Minari 187; huggingface/lerobot 3833",
)
def both_flags(folder):
    ends = ["terminal", "both", "timeout", "terminal", "both", "timeout"]
    truth = truth_of(episodes(generator(0), [20, 30, 25, 1, 40, 12], ends))
    path = write_hdf5(
        folder / "both flags é.hdf5",
        truth,
        rewards=truth.reward[:, None],
        terminals=truth.terminated.astype("f4")[:, None],
        timeouts=truth.truncated.astype("u1"),
        **{"metadata/algorithm": "SAC", "infos/qpos": np.zeros((len(truth), 5))},
    )
    return path, truth


@case(
    "whole numbers for observations, float64 actions, float16 rewards, integer flags",
    "the same numbers",
    source="huggingface/datasets 6595; apache/arrow 39790",
)
def other_number_types(folder):
    ends = ["terminal", "timeout", "terminal", "timeout"]
    truth = truth_of(episodes(generator(13), [31, 40, 25, 60], ends, dtype="f8"))
    truth.observation = np.round(truth.observation * 4096).astype("i4")
    truth.next_observation = np.round(truth.next_observation * 4096).astype("i4")
    truth.reward = truth.reward.astype("f2")
    flags = {"terminals": truth.terminated.astype("u1"), "timeouts": truth.truncated.astype("i1")}
    return write_hdf5(folder / "ticks.h5", truth, **flags), truth


@case("everything in float16, LZF, chunks of one row", "the same numbers", source="apache/arrow 39790")
def half_precision(folder):
    truth = truth_of(episodes(generator(14), [31, 40, 25], ["terminal", "timeout", "terminal"], dtype="f2"))
    with h5py.File(folder / "half.hdf5", "w") as file:
        for key, name in D4RL.items():
            values = getattr(truth, name)
            file.create_dataset(key, data=values, compression="lzf", chunks=(1, *values.shape[1:]))
    return folder / "half.hdf5", truth


@case(
    "a recording without flags that never ends",
    "one episode, and a word on --max-episode-steps",
    source="google-deepmind/open_x_embodiment 11; Farama-Foundation/D4RL 40, 182",
    says="name the environment's step limit with --max-episode-steps",
)
def one_long_recording(folder):
    truth = truth_of(episodes(generator(15), [3000], "none", d=6, k=3))
    return write_hdf5(folder / "run.hdf5", truth, timeouts=None), truth


@case(
    "torques of 300 Nm, a constant action, one that is nearly constant, a clock of 1.7e9 s",
    "trains to finite scores, numbers as stored",
    source="ARISE-Initiative/robomimic 38; Physical-Intelligence/openpi 814",
)
def constant_and_large_dimensions(folder):
    rng = generator(17)
    found = episodes(rng, [60] * 12, d=6, k=4, dtype="f8")
    for number, one in enumerate(found):
        one.action *= 300
        one.action[:, 2] = 1.0
        one.action[:, 3] = 0.5 + 1e-9 * rng.normal(size=60)
        one.observation[:, 4] = 7.0
        one.observation[:, 5] = 1.7e9 + 0.1 * np.arange(61) + 1000 * number
    truth = truth_of(found)
    return write_hdf5(folder / "torque.hdf5", truth), truth


@case("one success in 40 episodes, no other reward", "read and trained on", source="robocasa/robocasa 165")
def one_success(folder):
    found = episodes(generator(19), [50] * 40)
    for one in found:
        one.reward[:] = 0
    found[23].reward[-1], found[23].terminated[-1], found[23].truncated[-1] = 1, True, False
    truth = truth_of(found)
    return write_hdf5(folder / "sparse.hdf5", truth), truth


@case("-1 a step until success", "read and trained on", source="tinkoff-ai/CORL 63; seohongpark/ogbench 26")
def minus_one_a_step(folder):
    rng = generator(20)
    found = []
    for number in range(30):
        length = 60 if number % 3 == 0 else int(rng.integers(15, 50))
        one = episode(rng, length, end="timeout" if number % 3 == 0 else "terminal")
        one.reward = np.full(length, -1, "f4")
        one.reward[-1] = -1.0 if number % 3 == 0 else 0.0
        found.append(one)
    truth = truth_of(found)
    return write_hdf5(folder / "steps.hdf5", truth), truth


@case("every episode three times", "30 episodes", source="huggingface/lerobot 1158")
def duplicates(folder):
    truth = truth_of(episodes(generator(21), [40] * 10) * 3)
    return write_hdf5(folder / "copies.hdf5", truth), truth


@case("all rewards 0, actions constant", "read; a warning with the scores", source="robocasa/robocasa 165")
def all_zero(folder):
    found = episodes(generator(22), [40] * 10, k=1)
    for one in found:
        one.reward[:], one.action[:] = 0, 0
    truth = truth_of(found)
    return write_hdf5(folder / "zeros.hdf5", truth), truth


@case(
    "observations one longer than actions for every episode",
    "refused, with the lengths and why",
    source="HumanCompatibleAI/imitation 699",
    says=r"205 observations, 200 actions(.|\n)*T \+ 1",
)
def one_observation_more(folder):
    found = episodes(generator(82), [40] * 5)
    truth = truth_of(found)
    longer = np.concatenate([one.observation for one in found])
    return write_hdf5(folder / "tplus1.hdf5", truth, observations=longer), None


@case("one sensor, one motor, whole rewards", "sizes 1 and 1", source="huggingface/lerobot 3771")
def one_dimension(folder):
    truth = truth_of(episodes(generator(83), [40] * 5, d=1, k=1))
    truth.reward = np.round(truth.reward * 10).astype("i8")
    flat = {"observations": truth.observation[:, 0], "actions": truth.action[:, 0]}
    return write_hdf5(folder / "one.hdf5", truth, **flat), truth


@case(
    "(episodes, steps, size) padded to one length",
    "refused, with the shapes",
    source="pytorch/rl 928",
    says=r"\(6, 50\)(.|\n)*padded",
)
def padded_tensors(folder):
    rng = generator(84)
    with h5py.File(folder / "padded.hdf5", "w") as file:
        file["observations"], file["actions"] = rng.normal(size=(6, 50, 4)), rng.uniform(-1, 1, (6, 50, 2))
        file["rewards"], file["terminals"] = rng.normal(size=(6, 50)), np.zeros((6, 50), bool)
    return folder / "padded.hdf5", None


@case("env_id stored as an array of one string", "read", source="thu-ml/tianshou 766")
def env_id_in_an_array(folder):
    truth = truth_of(episodes(generator(101), [30] * 3, d=11, k=3))
    path = write_hdf5(folder / "attr.hdf5", truth)
    with h5py.File(path, "r+") as file:
        file.attrs["env_id"] = ["Hopper-v5"]
    return path, truth


@case(
    "next_observations is an empty group",
    "refused by its name",
    source="hand-written HDF5",
    says="next_observations is a group",
)
def next_observations_are_a_group(folder):
    truth = truth_of(episodes(generator(102), [30] * 3))
    path = write_hdf5(folder / "group.hdf5", truth)
    with h5py.File(path, "r+") as file:
        file.create_group("next_observations")
    return path, None


@case(
    "tianshou's ReplayBuffer.save_hdf5, its names given",
    "5 episodes, next observations used",
    source="thu-ml/tianshou 766",
    options=["--column", "observation=obs,action=act,reward=rew,next_observation=obs_next"],
)
def tianshou_buffer(folder):
    truth = truth_of(episodes(generator(85), [40] * 5), last_known=True)
    names = {
        "obs": "observation",
        "act": "action",
        "rew": "reward",
        "obs_next": "next_observation",
        "terminated": "terminated",
        "truncated": "truncated",
    }
    path = write_hdf5(folder / "buffer.hdf5", truth, names, done=truth.terminated | truth.truncated)
    with h5py.File(path, "r+") as file:
        file.create_group("info")
    return path, truth


@case(
    "a column for each dimension in HDF5, one of them left out",
    "joined without it",
    source="hand-written HDF5",
    options=["--column", "observation=obs_*", "--drop-columns", "obs_1"],
)
def hdf5_column_per_dimension(folder):
    truth = truth_of(episodes(generator(105), [40] * 5))
    flat = {f"obs_{number}": truth.observation[:, number] for number in range(3)}
    path = write_hdf5(folder / "flat.hdf5", truth, observations=None, **flat)
    truth.observation, truth.next_observation = truth.observation[:, [0, 2]], truth.next_observation[:, [0, 2]]
    return path, truth


@case(
    "tianshou's buffer without names",
    "refused, with the way in",
    source="thu-ml/tianshou 766",
    says=r"missing observations(.|\n)*--column observation=NAME",
)
def tianshou_buffer_unnamed(folder):
    return tianshou_buffer(folder)[0], None


@case(
    "ManiSkill's trajectory.h5",
    "refused, with what it looks like",
    source="mani-skill/ManiSkill 550",
    says="ManiSkill",
)
def maniskill_trajectories(folder):
    with h5py.File(folder / "trajectory.state.h5", "w") as file:
        for number, one in enumerate(episodes(generator(42), [20, 25])):
            group = file.create_group(f"traj_{number}")
            group["obs"], group["actions"], group["rewards"] = one.observation, one.action, one.reward
    return folder / "trajectory.state.h5", None


@case(
    "ALOHA's file for each episode, without rewards",
    "refused, with what is missing",
    source="tonyzhaozh/act; MarkFzp/act-plus-plus 62",
    says=r"missing actions, rewards|missing rewards|missing .*rewards",
)
def aloha_episodes(folder):
    rng = generator(96)
    for number in range(2):
        with h5py.File(folder / f"episode_{number}.hdf5", "w") as file:
            file["action"], file["observations/qpos"] = rng.normal(size=(30, 14)), rng.normal(size=(30, 14))
            file["observations/images/top"] = rng.integers(0, 255, (30, 6, 8, 3), dtype="u1")
    return folder, None


@case(
    "diffusion policy's replay buffer: data/state, meta/episode_ends",
    "refused, with what was found",
    source="real-stanford/diffusion_policy 137",
    says=r"missing observations(.|\n)*found: data",
)
def data_group_of_arrays(folder):
    rng = generator(98)
    with h5py.File(folder / "replay.h5", "w") as file:
        file["data/state"], file["data/action"] = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
        file["meta/episode_ends"] = np.array([20, 50])
    return folder / "replay.h5", None


@case(
    "a dict of D4RL's arrays in an npz file",
    "6 episodes with their true ends: timeouts have D4RL's meaning",
    source="Farama-Foundation/D4RL 31, 40, 73",
)
def npz_of_a_d4rl_dict(folder):
    ends = ["timeout", "timeout", "terminal", "timeout", "terminal", "timeout"]
    truth = truth_of(episodes(generator(32), [30, 30, 12, 30, 17, 30], ends, d=4))
    return write_npz(folder / "hopper.npz", truth), truth


@case(
    "Minari's main_data.hdf5 by itself",
    "refused: name the folder",
    source="Farama-Foundation/Minari 131",
    says="name its folder",
)
def minari_file_alone(folder):
    with h5py.File(folder / "main_data.hdf5", "w") as file:
        for number, one in enumerate(episodes(generator(41), [20, 25])):
            group = file.create_group(f"episode_{number}")
            group["observations"], group["actions"], group["rewards"] = one.observation, one.action, one.reward
    return folder / "main_data.hdf5", None


@case(
    "rewards as telescoping progress: every return is 1 but for rounding",
    "read; a warning with the scores that returns are equal",
    source="progress rewards",
)
def telescoping_rewards(folder):
    rng = generator(23)
    found = episodes(rng, [50] * 20)
    for one in found:
        progress = np.sort(np.concatenate([[0.0, 1.0], rng.uniform(0, 1, 49)]))
        one.reward = np.diff(progress).astype("f4")
    truth = truth_of(found)
    return write_hdf5(folder / "progress.hdf5", truth), truth
