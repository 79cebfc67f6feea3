"""Parquet of other writers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from field.episodes import Truth, case, episodes, truth_of


def lists(values, kind=None):
    return pa.array([row.tolist() for row in values], pa.list_(kind or pa.float32()))


def columns_of(truth, **more):
    """A table in our names, vectors as plain lists."""
    return {
        "observation": lists(truth.observation),
        "action": lists(truth.action),
        "reward": pa.array(truth.reward),
        "terminated": pa.array(truth.terminated),
        "truncated": pa.array(truth.truncated),
    } | {name: pa.array(values) for name, values in more.items()}


def write(path, columns, rows=None):
    table = pa.table(columns)
    pq.write_table(table if rows is None else table.take(pa.array(rows)), path)
    return path


def three(seed, end="timeout"):
    found = episodes(np.random.default_rng(seed), [20, 10, 30], end)
    return found, truth_of(found)


@case(
    "shards with what other systems leave beside them",
    "names that begin with a dot or _ are no data",
    source="duckdb/duckdb 16466, 15916; modin-project/modin 4782",
)
def parquet_hidden_files(folder):
    _, truth = three(60)
    shards = folder / "shards"
    shards.mkdir()
    for number, rows in enumerate((np.arange(30), np.arange(30, 60))):
        write(shards / f"shard-{number}.parquet", columns_of(truth), rows)
    (shards / "._shard-0.parquet").write_bytes(b"\x00\x05\x16\x07" + bytes(60))
    (shards / "_SUCCESS").write_bytes(b"")
    (shards / ".part-0.parquet.crc").write_bytes(b"crc")
    (shards / "_metadata").write_bytes(b"PAR1PAR1")
    return shards, truth


@case(
    "a folder partitioned by episode_id=0, episode_id=1, ...",
    "refused, with the line that writes plain columns",
    source="pandas, Spark and polars; huggingface/lerobot 986",
    says="hive_partitioning=True",
)
def parquet_partitioned(folder):
    _, truth = three(61)
    for number in range(3):
        part = folder / "hive" / f"episode_id={number}"
        part.mkdir(parents=True)
        write(part / "part-0.parquet", columns_of(truth), np.flatnonzero(truth.episode == number))
    return folder / "hive", None


@case("episode ids that are words", "three episodes", source="TFDS robomimic_mg; RLDS exports")
def parquet_episodes_named_by_words(folder):
    _, truth = three(62)
    names = np.array(["0f8c-aa", "run-7", "b2"])[truth.episode].tolist()
    return write(
        folder / "logs.parquet", columns_of(truth, episode_id=names, step_index=truth.step_index)
    ), truth


@case(
    "one row per trajectory, lists of lists",
    "refused: rows must be steps, with the line that takes them apart",
    source="decision-transformer sets; LoopMind-AI/loopquest 31",
    options=["--column", "observation=observations,action=actions,reward=rewards,terminated=dones"],
    says=r"a row must be a step(.|\n)*explode",
)
def parquet_row_per_episode(folder):
    found, _ = three(63)
    return write(
        folder / "dt.parquet",
        {
            "observations": pa.array([one.observation[:-1].tolist() for one in found]),
            "actions": pa.array([one.action.tolist() for one in found]),
            "rewards": pa.array([one.reward.tolist() for one in found]),
            "dones": pa.array([one.truncated.tolist() for one in found]),
        },
    ), None


def _flat(folder):
    _, truth = three(64, "terminal")
    observation = {f"obs_{number}": pa.array(truth.observation[:, number]) for number in range(3)}
    action = {f"act_{number}": pa.array(truth.action[:, number]) for number in range(2)}
    ends = {"reward": pa.array(truth.reward), "done": pa.array(truth.terminated)}
    return write(folder / "flat.parquet", observation | action | ends), truth


@case(
    "a column for each dimension, one of them named",
    "refused, with the pattern that names all",
    source="CSV exports",
    options=["--column", "observation=obs_0,action=act_0,terminated=done"],
    says=r"there are also obs_1, obs_2(.|\n)*observation=obs_\*",
)
def parquet_one_column_of_several(folder):
    return _flat(folder)[0], None


@case(
    "the same, named by patterns and by +",
    "joined to vectors",
    source="CSV exports",
    options=["--column", "observation=obs_*,action=act_0+act_1,terminated=done"],
)
def parquet_columns_joined(folder):
    return _flat(folder)


@case(
    "a column for each dimension, one of them left out, next observations too",
    "left out of both",
    source="CSV exports",
    options=[
        *("--column", "observation=obs_*,action=act_*,next_observation=next_*,terminated=done"),
        *("--drop-columns", "obs_1"),
    ],
)
def parquet_column_left_out(folder):
    found = episodes(np.random.default_rng(72), [20, 10, 30], "terminal")
    truth = truth_of(found, last_known=True)
    columns = {"reward": pa.array(truth.reward), "done": pa.array(truth.terminated)}
    for stem, values in (("obs", truth.observation), ("act", truth.action), ("next", truth.next_observation)):
        columns |= {f"{stem}_{number}": pa.array(column) for number, column in enumerate(values.T)}
    truth.observation, truth.next_observation = truth.observation[:, [0, 2]], truth.next_observation[:, [0, 2]]
    return write(folder / "flat.parquet", columns), truth


@case(
    "an empty shard among shards with a column for each dimension",
    "read as if it were not there",
    source="Spark's empty partitions",
    options=["--column", "observation=obs_*,action=act_*,terminated=done"],
)
def parquet_empty_shard(folder):
    path, truth = _flat(folder)
    shards = folder / "shards"
    shards.mkdir()
    table = pq.read_table(path)
    for number, part in enumerate((table.slice(0, 0), table.slice(0, 30), table.slice(0, 0), table.slice(30))):
        pq.write_table(part, shards / f"part-{number}.parquet")
    return shards, truth


@case(
    "a struct of the next observation whose fields have another order",
    "joined in the order of the observation",
    source="nested features",
)
def parquet_struct_of_another_order(folder):
    truth = truth_of(episodes(np.random.default_rng(74), [20, 10], dtype="f8"), last_known=True)
    states = [{"pos": row[:2].tolist(), "grip": float(row[2])} for row in truth.observation]
    following = [{"grip": float(row[2]), "pos": row[:2].tolist()} for row in truth.next_observation]
    grip, pos = ("grip", pa.float64()), ("pos", pa.list_(pa.float64()))
    structs = {
        "observation": pa.array(states, pa.struct([pos, grip])),
        "next_observation": pa.array(following, pa.struct([grip, pos])),
    }
    return write(
        folder / "order.parquet", columns_of(truth) | structs | {"action": lists(truth.action, pa.float64())}
    ), truth


@case(
    "steps that begin again at 0, and no episode ids",
    "an episode begins with each 0",
    source="loggers that count steps",
)
def parquet_steps_tell_episodes(folder):
    _, truth = three(75, "none")
    columns = columns_of(truth, step_index=truth.step_index)
    del columns["terminated"], columns["truncated"]
    return write(folder / "steps.parquet", columns), truth


@case(
    "files in the folder, and more in folders below",
    "the files are read, the folders named in a note",
    source="exports that were moved by hand",
    says="not read, in folders of their own: part2",
)
def parquet_folders_below(folder):
    _, truth = three(76)
    (folder / "part2").mkdir()
    write(folder / "part2" / "x.parquet", columns_of(truth))
    write(folder / "x.parquet", columns_of(truth))
    return folder, truth


@case(
    "success flags and time limits with next observations",
    "the trajectories of the time limits, noted",
    source="robomimic's done_mode 0 in Parquet",
    says="they mark success",
)
def parquet_success_flags(folder):
    found = episodes(np.random.default_rng(77), [60] * 8, d=4)
    for number, one in enumerate(found):
        if number % 2 == 0:
            one.terminated[-10:] = True
    truth = truth_of(found, last_known=True)
    return write(
        folder / "goal.parquet", columns_of(truth) | {"next_observation": lists(truth.next_observation)}
    ), truth


@case(
    "the episode's number in a struct",
    "read by --column episode_id=meta.episode",
    source="nested metadata",
    options=["--column", "episode_id=meta.episode"],
)
def parquet_episode_in_a_struct(folder):
    _, truth = three(73)
    meta = pa.array([{"episode": int(number), "robot": "a"} for number in truth.episode])
    return write(folder / "meta.parquet", columns_of(truth) | {"meta": meta}), truth


@case(
    "flags with nulls",
    "refused, with column and row",
    source="pandas' nullable types; google-deepmind/open_x_embodiment 11",
    says=r"terminated is null, first in row 0",
)
def parquet_nullable_flags(folder):
    truth = truth_of(episodes(np.random.default_rng(65), [20, 10]))
    return write(
        folder / "null.parquet", columns_of(truth) | {"terminated": pa.array([None] * 30, pa.bool_())}
    ), None


@case(
    "rows in random order",
    "refused: sort them",
    source="Farama-Foundation/Minari 351; shuffled splits",
    says="sort the rows by episode and step",
)
def parquet_shuffled(folder):
    _, truth = three(66)
    order = np.random.default_rng(66).permutation(60)
    columns = columns_of(truth, episode_id=truth.episode, step_index=truth.step_index)
    return write(folder / "shuffled.parquet", columns, order), None


@case(
    "names with dots of which one begins another; large lists; a pandas index",
    "the column of the very name",
    source="exports with observation.state; pandas to_parquet",
)
def parquet_dots_in_names(folder):
    rng = np.random.default_rng(67)
    truth = truth_of(episodes(rng, [20, 10, 30], dtype="f8"))

    def large(values):
        return pa.array([row.tolist() for row in values], pa.large_list(pa.float64()))

    columns = {
        "observation.state": large(rng.normal(size=(60, 5))),
        "action.gripper": pa.array(rng.normal(size=60)),
    }
    columns |= columns_of(truth) | {"observation": large(truth.observation), "action": large(truth.action)}
    columns["__index_level_0__"] = pa.array(np.arange(60) * 2)
    return write(folder / "dots.parquet", columns), truth


@case(
    "three collectors that each number their episodes from 0",
    "6 episodes, files in the order of their numbers",
    source="huggingface/lerobot 986, 1158",
)
def parquet_ids_repeat_in_every_file(folder):
    truth = truth_of(episodes(np.random.default_rng(68), [20, 10, 30, 5, 8, 13]))
    workers = folder / "workers"
    workers.mkdir()
    for name, first in (("worker-1", 0), ("worker-2", 2), ("worker-10", 4)):
        rows = np.flatnonzero(np.isin(truth.episode, [first, first + 1]))
        part = truth.take(rows)
        columns = columns_of(part, episode_id=part.episode - first, step_index=part.step_index)
        write(workers / f"{name}.parquet", columns)
    return workers, truth


@case(
    "an observation that is a struct",
    "its fields are joined",
    source="Farama-Foundation/Minari 131; nested features",
)
def parquet_struct(folder):
    truth = truth_of(episodes(np.random.default_rng(69), [20, 10], dtype="f8"))
    states = [{"eef_pos": row[:2].tolist(), "gripper": float(row[2])} for row in truth.observation]
    columns = columns_of(truth) | {"observation": pa.array(states), "action": lists(truth.action, pa.float64())}
    return write(folder / "struct.parquet", columns), truth


@case(
    "a column done and no flags of ours",
    "read without ends, with a note on the column",
    source="haosulab/ManiSkill2-Learn 34; instadeepai/Mava 983",
    says="--column terminated=done",
)
def parquet_done_unnamed(folder):
    _, truth = three(70, "terminal")
    columns = columns_of(truth)
    columns["done"] = columns.pop("terminated")
    del columns["truncated"]
    truth.terminated = np.zeros(60, bool)
    truth.episode, truth.step_index = np.zeros(60, int), np.arange(60)
    truth.has_successor = np.arange(60) < 59
    truth.next_observation = np.concatenate([truth.observation[1:], np.zeros((1, 3), "f4")])
    return write(folder / "done.parquet", columns), truth


@case(
    "RLDS steps, with the last observation in a row of its own",
    "3 episodes of T + 1 rows, true ends as marked",
    source="google-deepmind/open_x_embodiment 11",
    options=["--column", "terminated=is_terminal,truncated=is_last"],
)
def parquet_rlds_steps(folder):
    found, _ = three(86)
    parts = []
    for number, one in enumerate(found):
        last = np.arange(len(one) + 1) == len(one)
        observation = one.observation
        following = np.concatenate([observation[1:], np.zeros_like(observation[:1])])
        parts.append(
            Truth(
                observation=observation,
                action=np.concatenate([one.action, np.zeros((1, 2), "f4")]),
                reward=np.append(one.reward, np.float32(0)),
                terminated=last & (number == 1),
                truncated=last,
                next_observation=following,
                has_successor=~last,
                episode=np.full(len(last), number),
                step_index=np.arange(len(last)),
            )
        )
    truth = Truth(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in Truth.__dataclass_fields__}
    )
    columns = columns_of(truth, is_terminal=truth.terminated, is_last=truth.truncated)
    del columns["terminated"], columns["truncated"]
    return write(folder / "rlds.parquet", columns), truth


@case(
    "a shard in float32, the next in float64",
    "refused, with the file and the columns",
    source="huggingface/datasets 6595; huggingface/lerobot 1158",
    says=r"1\.parquet: observation, action of another type",
)
def parquet_mixed_shards(folder):
    mixed = folder / "mixed"
    mixed.mkdir()
    for number, kind in enumerate((pa.float32(), pa.float64())):
        truth = truth_of(episodes(np.random.default_rng(88), [20]))
        vectors = {"observation": lists(truth.observation, kind), "action": lists(truth.action, kind)}
        write(mixed / f"{number}.parquet", columns_of(truth, episode_id=[number] * 20) | vectors)
    return mixed, None


def _spark(folder):
    truth = truth_of(episodes(np.random.default_rng(89), [20, 10]))
    rows = folder / "all" / "rows.parquet"
    rows.mkdir(parents=True)
    for number, part in enumerate((np.arange(20), np.arange(20, 30))):
        write(rows / f"part-{number:05d}-8c1e.c000.snappy.parquet", columns_of(truth), part)
    (rows / "_SUCCESS").write_bytes(b"")
    return rows, truth


@case("Spark's folder named rows.parquet", "read as shards", source="modin-project/modin 4782")
def parquet_spark_folder(folder):
    return _spark(folder)


@case(
    "the folder that such folders lie in",
    "refused, with the folders that are datasets",
    source="modin-project/modin 4782",
    says="rows.parquet; name one",
)
def parquet_folder_of_spark_folders(folder):
    return _spark(folder)[0].parent, None


@case("a pattern under a folder named [v2]", "both files are read", source="folder names with brackets")
def parquet_pattern_under_brackets(folder):
    _, truth = three(71)
    inner = folder / "[v2]"
    inner.mkdir()
    for number, rows in enumerate((np.arange(30), np.arange(30, 60))):
        write(inner / f"log-{number}.parquet", columns_of(truth), rows)
    return inner / "log-*.parquet", truth
