"""robomimic's layout and its relatives, and a Minari dataset of parts."""

from __future__ import annotations

import json

import h5py
import numpy as np
from field.episodes import case, episode, episodes, truth_of


def write_demos(path, found, *, names=None, parts=None, dones=True, **attributes):
    """A group for each episode; ``parts`` cut the observation into arrays by name."""
    parts = parts or {"state": slice(None)}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(attributes)
        for number, one in enumerate(found):
            group = data.create_group(names[number] if names else f"demo_{number}")
            group["actions"], group["rewards"] = one.action, one.reward
            if dones:
                group["dones"] = one.terminated.astype("i8")
            for part, columns in parts.items():
                group[f"obs/{part}"] = one.observation[:-1, columns]
    return path


@case(
    "dones of mode 0: a run of ones at the end; next_obs; demonstrations 1, 2, 10",
    "three episodes in that order, rows with done are true ends",
    source="robomimic docs (done_mode); robocasa/robocasa 163",
    says="dones are taken as true ends",
)
def robomimic_done_mode_0(folder):
    found = episodes(np.random.default_rng(33), [40, 35, 50], "none", d=5, k=7, dtype="f8")
    for one in found:
        one.reward[:] = 0
    found[0].terminated[-6:] = found[1].terminated[-4:] = True
    found[0].reward[-6:] = found[1].reward[-4:] = 1
    found[2].truncated[-1] = True
    cut = {"object": slice(0, 2), "robot0_eef_pos": slice(2, 5)}
    order, names = [found[2], found[0], found[1]], ["demo_10", "demo_1", "demo_2"]
    path = write_demos(folder / "lift ph.hdf5", order, names=names, parts=cut)
    with h5py.File(path, "r+") as file:
        for name, one in zip(names, order, strict=True):
            for part, columns in cut.items():
                file[f"data/{name}/next_obs/{part}"] = one.observation[1:, columns]
        file["mask/train"] = np.array(["demo_1", "demo_10"], dtype="S8")
    return path, truth_of(found, last_known=True)


@case(
    "Isaac Lab: groups inside obs, no dones",
    "the parts are joined",
    source="isaac-sim/IsaacLab 4644, 2992",
)
def isaac_lab_nested_observations(folder):
    found = episodes(np.random.default_rng(34), [20, 25], d=5, k=3)
    parts = {"policy/joint_pos": slice(0, 3), "policy/joint_vel": slice(3, 5)}
    env = json.dumps({"env_name": "Isaac-Reach-Franka-v0", "type": 2})
    path = write_demos(folder / "isaac.hdf5", found, parts=parts, dones=False, env_args=env)
    return path, truth_of(found)


@case(
    "observations with one entry more than actions",
    "the last is the successor of the last step, noted",
    source="HumanCompatibleAI/imitation 699; robocasa/robocasa 124",
    says=r"2 demonstration\(s\) hold T \+ 1 observations",
)
def robomimic_one_observation_more(folder):
    found = episodes(np.random.default_rng(35), [20, 25], d=4, k=3)
    path = write_demos(folder / "long.hdf5", found)
    with h5py.File(path, "r+") as file:
        for number, one in enumerate(found):
            del file[f"data/demo_{number}/obs/state"]
            file[f"data/demo_{number}/obs/state"] = one.observation
    return path, truth_of(found, last_known=True)


@case(
    "LIBERO: images beside states, a reward of 1 at the end",
    "3 episodes that end truly",
    source="Lifelong-Robot-Learning/LIBERO 54, 71",
    options=["--drop-columns", "agentview_rgb,eye_in_hand_rgb"],
)
def libero(folder):
    rng = np.random.default_rng(36)
    found = episodes(rng, [20, 25, 11], "terminal", d=4, k=7, dtype="f8")
    for one in found:
        one.reward = one.terminated.astype("u1")
    path = write_demos(
        folder / "libero.hdf5", found, parts={"ee_pos": slice(0, 3), "gripper_states": slice(3, 4)}
    )
    with h5py.File(path, "r+") as file:
        for number, one in enumerate(found):
            for name in ("agentview_rgb", "eye_in_hand_rgb"):
                file[f"data/demo_{number}/obs/{name}"] = rng.integers(0, 255, (len(one), 8, 8, 3), dtype="u1")
    return path, truth_of(found)


@case(
    "next_obs in some demonstrations only",
    "read; the last step of the others has no successor",
    source="isaac-sim/IsaacLab 2992; NVlabs/mimicgen 30",
)
def robomimic_next_obs_in_some(folder):
    found = episodes(np.random.default_rng(37), [20, 25, 11], d=4, k=3)
    path = write_demos(folder / "merged.hdf5", found)
    with h5py.File(path, "r+") as file:
        for number in (0, 1):
            file[f"data/demo_{number}/next_obs/state"] = found[number].observation[1:]
    truth = truth_of(found, last_known=True)
    truth.has_successor[-1] = False
    truth.next_observation[-1] = 0
    return path, truth


@case(
    "robosuite's raw demonstrations: states, no obs",
    "refused, with the script that extracts observations",
    source="ARISE-Initiative/robomimic 260; NVlabs/mimicgen 30",
    says="dataset_states_to_obs.py",
)
def robosuite_without_observations(folder):
    rng = np.random.default_rng(38)
    with h5py.File(folder / "demo.hdf5", "w") as file:
        for number, length in enumerate((20, 25)):
            group = file.create_group(f"data/demo_{number + 1}")
            group["actions"], group["states"] = rng.normal(size=(length, 7)), rng.normal(size=(length, 32))
    return folder / "demo.hdf5", None


@case(
    "a matrix of keypoints beside a state",
    "refused as a matrix, not as an image, with the way to leave it out",
    source="ARISE-Initiative/robomimic 115",
    says=r"keypoints has shape \(4, 3\) per step: matrices(.|\n)*--drop-columns keypoints",
)
def robomimic_keypoints(folder):
    rng = np.random.default_rng(39)
    found = episodes(rng, [20, 25], k=7)
    path = write_demos(folder / "kp.hdf5", found)
    with h5py.File(path, "r+") as file:
        for number, one in enumerate(found):
            file[f"data/demo_{number}/obs/keypoints"] = rng.normal(size=(len(one), 4, 3))
    return path, None


@case(
    "a demonstration without steps, and a filter key that names one that is not there",
    "the others are read, noted",
    source="facebookresearch/salina 20",
    says="without steps: demo_1",
)
def robomimic_empty_demo(folder):
    rng = np.random.default_rng(40)
    found = [episode(rng, 20, k=7), episode(rng, 0, k=7), episode(rng, 25, k=7)]
    path = write_demos(folder / "empty.hdf5", found)
    with h5py.File(path, "r+") as file:
        file["mask/best"] = np.array(["demo_0", "demo_77"], dtype="S8")
    return path, truth_of([found[0], found[2]])


@case(
    "env_args that is a Python dict's repr",
    "read without an environment, noted",
    source="robocasa/robocasa 163",
    says="env_args of data is no JSON object",
)
def robomimic_env_args_no_json(folder):
    found = episodes(np.random.default_rng(91), [20, 25], d=4, k=3)
    text = str({"env_name": "Lift", "type": 1})
    return write_demos(folder / "handmade.hdf5", found, env_args=text), truth_of(found)


@case(
    "an array beside the demonstrations",
    "read, noted",
    source="IsaacLab and hand-written collectors",
    says="data/num_demos",
)
def robomimic_scalar_beside_demos(folder):
    found = episodes(np.random.default_rng(99), [20, 25], d=4, k=3)
    path = write_demos(folder / "extra.hdf5", found)
    with h5py.File(path, "r+") as file:
        file["data/num_demos"] = 2
    return path, truth_of(found)


@case(
    "an object whose observation has another width in one demonstration",
    "refused, with the demonstration and both widths",
    source="robosuite tasks with several objects",
    says=r"data/demo_1/obs/object has 3 numbers a step, the first demonstration 2",
)
def robomimic_widths_differ(folder):
    rng = np.random.default_rng(43)
    found = episodes(rng, [20, 25], k=7)
    path = write_demos(folder / "objects.hdf5", found)
    with h5py.File(path, "r+") as file:
        for number, (one, width) in enumerate(zip(found, (2, 3), strict=True)):
            file[f"data/demo_{number}/obs/object"] = rng.normal(size=(len(one), width))
    return path, None


@case(
    "a demonstration whose rewards are shorter than its actions",
    "refused, with the demonstration and the lengths",
    source="hand-written collectors",
    says="data/demo_1/rewards has 24 entries, actions 25",
)
def robomimic_lengths_differ(folder):
    found = episodes(np.random.default_rng(44), [20, 25], k=7)
    path = write_demos(folder / "short.hdf5", found)
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/rewards"]
        file["data/demo_1/rewards"] = found[1].reward[:-1]
    return path, None


@case(
    "observations behind links",
    "the links are followed",
    source="files that share their observations",
)
def robomimic_links(folder):
    found = episodes(np.random.default_rng(47), [20, 25], d=4, k=3)
    path = write_demos(folder / "links.hdf5", found, parts={"a": slice(0, 2), "b": slice(2, 4)})
    with h5py.File(path, "r+") as file:
        for number in range(2):
            group = file[f"data/demo_{number}"]
            group.move("obs/b", "shared")
            group["obs/b"] = h5py.SoftLink(f"/data/demo_{number}/shared")
    return path, truth_of(found)


@case(
    "a part that only a later demonstration has",
    "refused by its name",
    source="merged files",
    says="data/demo_1/obs/extra is not in the first demonstration",
)
def robomimic_more_parts_later(folder):
    path = write_demos(folder / "later.hdf5", episodes(np.random.default_rng(48), [20, 25], k=7))
    with h5py.File(path, "r+") as file:
        file["data/demo_1/obs/extra"] = np.zeros((25, 2))
    return path, None


@case(
    "rewards in some demonstrations only",
    "refused, with the first demonstration that lacks them",
    source="merged files",
    says=r"data/demo_1 has no rewards(.|\n)*1 of 2",
)
def robomimic_rewards_in_some(folder):
    path = write_demos(folder / "some.hdf5", episodes(np.random.default_rng(46), [20, 25], k=7))
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/rewards"]
    return path, None


@case(
    "names of one's own for actions and rewards",
    "read by --column",
    source="robomimic's absolute actions",
    options=["--column", "action=actions_abs,reward=progress"],
)
def robomimic_with_other_names(folder):
    found = episodes(np.random.default_rng(45), [20, 25], d=4, k=3)
    path = write_demos(folder / "abs.hdf5", found)
    with h5py.File(path, "r+") as file:
        for number in range(2):
            group = file[f"data/demo_{number}"]
            group.move("actions", "actions_abs")
            group.move("rewards", "progress")
    return path, truth_of(found)
