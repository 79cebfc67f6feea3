"""LeRobot folders, written with pyarrow alone."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from field.episodes import case, episodes, truth_of

STATE, ACTION = "observation.state", "action"


def feature(dtype, *shape):
    return {"dtype": dtype, "shape": list(shape), "names": None}


def vectors(values):
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
    )


COMMON = {
    "timestamp": feature("float32", 1),
    "frame_index": feature("int64", 1),
    "episode_index": feature("int64", 1),
    "index": feature("int64", 1),
    "task_index": feature("int64", 1),
}
REWARD, DONE = {"next.reward": feature("float32", 1)}, {"next.done": feature("bool", 1)}


def write_info(folder, features, frames, count, version):
    info = {
        "codebase_version": version,
        "total_episodes": count,
        "total_frames": frames,
        "fps": 30,
        "features": features | COMMON,
    }
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))


def frames_of(number, one, first=0, **columns):
    """A table of one episode; ``columns`` are added, as arrays."""
    length = len(one)
    return pa.table(
        {
            STATE: vectors(one.observation[:-1]),
            ACTION: vectors(one.action),
            "timestamp": pa.array(np.arange(length, dtype="f4") / 30),
            "frame_index": pa.array(np.arange(length)),
            "episode_index": pa.array(np.full(length, number)),
            "index": pa.array(np.arange(first, first + length)),
            "task_index": pa.array(np.zeros(length, int)),
        }
        | {
            name: values if isinstance(values, pa.Array) else pa.array(values)
            for name, values in columns.items()
        }
    )


def write_episodes(folder, found, features, columns_of, *, version="v2.1", names=None):
    """A file for each episode; ``columns_of`` gives further columns of one, by number."""
    shape = {STATE: feature("float32", found[0].observation.shape[1]), ACTION: feature("float32", 3)}
    write_info(folder, shape | features, sum(map(len, found)), len(found), version)
    first = 0
    for number, one in enumerate(found):
        chunk = folder / "data" / f"chunk-{number // 2:03d}"
        chunk.mkdir(parents=True, exist_ok=True)
        table = frames_of(number, one, first, **columns_of(number, one))
        if names:
            table = table.rename_columns([names.get(name, name) for name in table.column_names])
        pq.write_table(table, chunk / f"episode_{number:06d}.parquet")
        first += len(one)
    return folder


def rewards_and_ends(number, one):
    return {"next.reward": one.reward, "next.done": one.terminated | one.truncated}


@case(
    "next.terminated and next.truncated in place of next.done",
    "2 true ends, 1 time limit",
    source="behavior-1k/2026-challenge-demos; RLinf; huggingface/lerobot 1861",
)
def lerobot_terminated_and_truncated(folder):
    found = episodes(np.random.default_rng(93), [12, 9, 15], ["terminal", "timeout", "terminal"], d=4, k=3)
    flags = {"next.terminated": feature("bool", 1), "next.truncated": feature("bool", 1)}
    return write_episodes(
        folder,
        found,
        REWARD | flags,
        lambda number, one: {
            "next.reward": one.reward,
            "next.terminated": one.terminated,
            "next.truncated": one.truncated,
        },
        version="v3.0",
    ), truth_of(found)


@case(
    "an observation that is a word",
    "refused, with the option that leaves it out",
    source="huggingface/lerobot 3467; Physical-Intelligence/openpi 213",
    says=r"observation.language holds words(.|\n)*--drop-columns observation.language",
)
def lerobot_words(folder):
    found = episodes(np.random.default_rng(95), [12], "terminal", d=4, k=3)
    language = {"observation.language": feature("string", 1)}
    return write_episodes(
        folder,
        found,
        REWARD | DONE | language,
        lambda number, one: rewards_and_ends(number, one) | {"observation.language": ["pick"] * len(one)},
    ), None


@case(
    "the same with the word left out",
    "read",
    source="huggingface/lerobot 3467",
    options=["--drop-columns", "observation.language"],
)
def lerobot_words_dropped(folder):
    return lerobot_words(folder)[0], truth_of(episodes(np.random.default_rng(95), [12], "terminal", d=4, k=3))


@case(
    "v2.1 with videos, rewards as lists of one number, next.done as int64",
    "4 episodes, rewards read",
    source="huggingface/lerobot 3833, 1861",
    options=["--drop-columns", "observation.images"],
    says="next.done is taken as a true end",
)
def lerobot_rewards_in_lists(folder):
    found = episodes(np.random.default_rng(50), [12, 9, 15, 7], "terminal", d=4, k=3)
    video = {"observation.images.top": feature("video", 480, 640, 3)}
    return write_episodes(
        folder,
        found,
        REWARD | DONE | video,
        lambda number, one: {
            "next.reward": vectors(one.reward[:, None]),
            "next.done": one.terminated.astype("i8"),
        },
    ), truth_of(found)


@case(
    "an episode's file removed by hand",
    "refused, with the frames and what to do for both reasons",
    source="huggingface/lerobot 630",
    says=r"27 of 36 frames(.|\n)*removed episodes by hand",
)
def lerobot_episode_removed(folder):
    found = episodes(np.random.default_rng(51), [12, 9, 15], "terminal", d=4, k=3)
    write_episodes(folder, found, REWARD | DONE, rewards_and_ends)
    (folder / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    return folder, None


@case(
    "AppleDouble files beside the real ones",
    "left out",
    source="duckdb/duckdb 16466; scverse/spatialdata 1013",
)
def lerobot_hidden_files(folder):
    found = episodes(np.random.default_rng(52), [12, 9], "terminal", d=4, k=3)
    write_episodes(folder, found, REWARD | DONE, rewards_and_ends)
    for file in list((folder / "data").glob("*/*.parquet")):
        file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
    return folder, truth_of(found)


@case(
    "data files in folders named by episode",
    "refused, with where they should lie",
    source="huggingface/lerobot 986",
    says="data files lie in folders of their own",
)
def lerobot_partitioned(folder):
    found = episodes(np.random.default_rng(53), [12, 9], "terminal", d=4, k=3)
    write_episodes(folder, found, REWARD | DONE, rewards_and_ends)
    for number, file in enumerate(sorted((folder / "data").glob("*/*.parquet"))):
        inner = file.parent / f"episode_index={number:03d}"
        inner.mkdir()
        file.rename(inner / "episode.parquet")
    return folder, None


@case(
    "next.done at the last frame of failures too, next.success beside it",
    "read as true ends, with a note on --column terminated=next.success",
    source="huggingface/lerobot 761, 3914",
    says="--column terminated=next.success",
)
def lerobot_done_at_failures(folder):
    rng = np.random.default_rng(54)
    lengths = [40 if number % 2 else int(rng.integers(10, 30)) for number in range(8)]
    found = episodes(rng, lengths, "terminal", d=4, k=3)
    for one in found:
        one.reward = np.full(len(one), -1, "f4")
    return write_episodes(
        folder,
        found,
        REWARD | DONE | {"next.success": feature("bool", 1)},
        lambda number, one: (
            rewards_and_ends(number, one) | {"next.success": one.terminated & (number % 2 == 0)}
        ),
    ), truth_of(found)


@case(
    "openpi's names: state and actions",
    "read by --column",
    source="Physical-Intelligence/openpi",
    options=["--column", "observation=state,action=actions"],
)
def lerobot_with_other_names(folder):
    found = episodes(np.random.default_rng(55), [12, 9], "terminal", d=4, k=3)
    names = {STATE: "state", ACTION: "actions"}
    write_episodes(folder, found, REWARD | DONE, rewards_and_ends, names=names)
    info = json.loads((folder / "meta" / "info.json").read_text())
    info["features"] = {names.get(name, name): facts for name, facts in info["features"].items()}
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder, truth_of(found)


@case(
    "next.terminated, and next.done at every end",
    "done and not terminated is a time limit",
    source="recorders with both",
)
def lerobot_done_and_terminated(folder):
    found = episodes(np.random.default_rng(57), [12, 9, 15], ["terminal", "timeout", "terminal"], d=4, k=3)
    return write_episodes(
        folder,
        found,
        REWARD | DONE | {"next.terminated": feature("bool", 1)},
        lambda number, one: rewards_and_ends(number, one) | {"next.terminated": one.terminated},
    ), truth_of(found)


@case(
    "actions in two columns",
    "joined by --column action=action+gripper",
    source="robot recorders with a gripper of its own",
    options=["--column", "action=action+gripper"],
)
def lerobot_actions_in_two_columns(folder):
    found = episodes(np.random.default_rng(56), [12, 9], "terminal", d=4, k=4)
    split = [dataclasses.replace(one, action=one.action[:, :3]) for one in found]
    write_episodes(
        folder,
        split,
        REWARD | DONE | {"gripper": feature("float32", 1)},
        lambda number, one: rewards_and_ends(number, one) | {"gripper": found[number].action[:, 3]},
    )
    return folder, truth_of(found)


@case(
    "an interrupted recording without frames",
    "refused in words",
    source="interrupted lerobot-record",
    says="zero frames",
)
def lerobot_without_frames(folder):
    write_info(
        folder, {STATE: feature("float32", 4), ACTION: feature("float32", 3)} | REWARD | DONE, 0, 0, "v3.0"
    )
    return folder, None
