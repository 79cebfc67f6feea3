"""Whatever lies in a file that a reader claims, it is read or refused in one message; never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import make_transitions, write_d4rl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaco_curate.data.formats import ReadOptions, open_dataset, read_dataset
from vaco_curate.errors import CurateError, DatasetError

NAMES = (
    *("observations", "actions", "rewards", "terminals", "timeouts", "next_observations", "infos/goal"),
    *("data/demo_0/obs/state", "data/demo_0/actions", "data/demo_1/obs/state", "data/demo_1/actions"),
    *(
        "data/demo_0/obs",
        "data/demo_1",
        "data/demo_0/rewards",
        "data/demo_0/dones",
        "data/x",
        "data",
        "mask/train",
    ),
    *(
        "columns",
        "num_episodes",
        "observations_0",
        "actions_0",
        "rewards_0",
        "terminated_0",
        "episode_terminals",
    ),
    *("observation", "action", "reward", "terminated", "masks", "episode_id", "step_index"),
)


@st.composite
def arrays(draw):
    """An array of any shape and type that people store."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 7, 7, 7]), max_size=3))
    kind = draw(st.sampled_from(["f4", "f8", "f2", "i8", "u1", "?", "S3", "c8"]))
    values = np.random.default_rng(draw(st.integers(0, 5))).integers(0, 3, shape)
    return values.astype(kind)


WHOLE = (
    {"observations": (7, 2), "actions": (7, 2), "rewards": (7,), "terminals": (7,)},
    {f"data/demo_{n}/{name}": (7, 2) for n in (0, 1) for name in ("obs/state", "actions")}
    | {f"data/demo_{n}/rewards": (7,) for n in (0, 1)},
    {"observations_0": (7, 2), "actions_0": (7, 2), "rewards_0": (7, 1), "terminated_0": (), "num_episodes": ()}
    | {"columns": (1,)},
    {},
)
"""Shapes of files that are read, of which a part is then replaced."""


@st.composite
def changed_trees(draw):
    """A file that can be read, and what somebody has made of it."""
    shapes = draw(st.sampled_from(WHOLE))
    whole = {name: np.ones(shape, "f4" if name != "terminals" else bool) for name, shape in shapes.items()}
    several = st.dictionaries(
        st.sampled_from((*shapes, *NAMES)), st.one_of(arrays(), st.just("group"), st.none()), max_size=3
    )
    changed = whole | draw(several)
    return {name: content for name, content in changed.items() if content is not None}


trees = changed_trees() | st.dictionaries(
    st.sampled_from(NAMES), st.one_of(arrays(), st.just("group")), min_size=1, max_size=8
)
asked = st.sampled_from([{}, {"observation": "observations", "action": "act*"}, {"terminated": "masks"}])
often = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def read_or_refuse(source, columns=None):
    """Anything but a refusal escapes; a refusal names the file, or the option that does not fit it."""
    lines = None
    try:
        read_dataset(str(source), ReadOptions(columns=columns or {}))
    except CurateError as error:
        lines = error.lines()
    if lines is not None:
        assert source.name in lines[0] or "--column" in lines[0]
        assert len(lines) < 25


@given(trees, asked, st.sampled_from(["hdf5", "h5"]))
@often
def test_any_tree_in_hdf5_is_read_or_refused(tmp_path, tree, columns, suffix):
    path = tmp_path / f"tree.{suffix}"
    with h5py.File(path, "w") as file:
        for name, content in tree.items():
            try:
                if isinstance(content, str):
                    file.create_group(name)
                else:
                    file[name] = content
            except (ValueError, TypeError, OSError, RuntimeError, KeyError):
                continue  # a name below an array, or one that is there
        file.attrs["env_id"] = b"\xff\xfe"
    read_or_refuse(path, columns)


@given(trees, asked)
@often
def test_any_arrays_in_npz_are_read_or_refused(tmp_path, tree, columns):
    path = tmp_path / "tree.npz"
    contents = {name: {"a": 1} if isinstance(content, str) else content for name, content in tree.items()}
    np.savez(path, **contents)
    read_or_refuse(path, columns)


kinds = st.sampled_from(
    [
        pa.array([1.0, 2.0, 3.0]),
        pa.array([1, 0, 1]),
        pa.array([True, False, None]),
        pa.array(["a", "b", "a"]),
        pa.array([[1.0], [2.0], [3.0]]),
        pa.array([[1.0, 2.0], None, [3.0, 4.0]]),
        pa.array([[1.0], [2.0, 3.0], []]),
        pa.array([[[1.0]], [[2.0]], [[3.0]]]),
        pa.array([{"x": 1.0, "y": [2.0]}] * 3),
        pa.array([{}] * 3, pa.struct([])),
        pa.array([b"a", b"b", b"c"]),
        pa.array([None, None, None]),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([{"k": 1}] * 3, pa.map_(pa.string(), pa.int64())),
    ]
)
columns_of_ours = (
    "observation",
    "action",
    "reward",
    "terminated",
    "truncated",
    "episode_id",
    "next_observation",
)


@given(
    st.dictionaries(st.sampled_from((*columns_of_ours, "done", "obs_0", "obs_1")), kinds, min_size=1),
    st.sampled_from([{}, {"observation": "obs_*"}, {"observation": "obs_0"}, {"reward": "observation.x"}]),
)
@often
def test_any_columns_in_parquet_are_read_or_refused(tmp_path, columns, named):
    path = tmp_path / "rows.parquet"
    plain = {"observation": pa.array([[1.0]] * 3), "action": pa.array([1.0] * 3), "reward": pa.array([1.0] * 3)}
    columns = columns if named else plain | columns
    try:
        pq.write_table(pa.table(columns), path)
    except pa.ArrowNotImplementedError:
        return  # a struct without fields
    read_or_refuse(path, named)


@given(st.binary(max_size=200), st.sampled_from(["a.hdf5", "a.h5", "a.npz", "a.parquet"]))
@often
def test_any_bytes_are_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError):
        read_dataset(str(tmp_path / name))


@given(st.integers(0, 10_000), st.integers(1, 255))
@often
def test_a_changed_byte_is_read_or_refused(tmp_path, at, change):
    whole = tmp_path / "whole.hdf5"
    if not whole.exists():
        write_d4rl(whole, make_transitions(episodes=3))
    content = bytearray(whole.read_bytes())
    content[at % len(content)] ^= change
    (tmp_path / "changed.hdf5").write_bytes(content)
    read_or_refuse(tmp_path / "changed.hdf5")


@pytest.mark.parametrize(
    "found", sorted((Path(__file__).parent / "found").iterdir()), ids=lambda path: path.stem
)
def test_what_fuzzing_found_is_refused_at_once(found):
    """In a process of its own, for HDF5 may end or hang it."""
    code = "import sys; from vaco_curate import read_dataset; read_dataset(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(found)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "vaco_curate.errors.DatasetError" in done.stderr


@pytest.mark.parametrize("left", [1, 4])
def test_a_part_that_is_shorter_than_its_checksum_does_not_end_the_process(tmp_path, left):
    """HDF5 itself would."""
    path = write_d4rl(tmp_path / "d.hdf5", make_transitions(), actions=None)
    with h5py.File(path, "r+") as file:
        actions = file.create_dataset("actions", (120, 2), "f4", chunks=(60, 2), fletcher32=True)
        actions[:] = 1
        actions.id.write_direct_chunk((60, 0), b"x" * left)
    with pytest.raises(DatasetError, match="actions: a part of it is shorter than its checksum"):
        read_dataset(str(path))


@pytest.mark.parametrize(
    "facts", [{}, [], {"features": 3}, {"features": {"action": None}}, {"features": {"action": {}}}]
)
def test_any_info_of_lerobot_is_refused(tmp_path, facts):
    (tmp_path / "meta").mkdir()
    whole = {"codebase_version": "v3.0", "total_frames": 3, "features": {}} | facts if facts != [] else facts
    (tmp_path / "meta" / "info.json").write_text(json.dumps(whole))
    with pytest.raises(DatasetError):
        read_dataset(str(tmp_path))


def test_a_filter_that_is_not_installed_is_named_with_the_package_that_brings_it(tmp_path):
    path = write_d4rl(tmp_path / "blosc.hdf5", make_transitions(episodes=1), rewards=None)
    with h5py.File(path, "r+") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((20,))
        layout.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((20,))
        rewards = h5py.h5d.create(file.id, b"rewards", h5py.h5t.IEEE_F32LE, space, dcpl=layout)
        rewards.write_direct_chunk((0,), b"compressed", filter_mask=0)
    with pytest.raises(DatasetError, match=r"rewards: is compressed by a filter(.|\n)*pip install hdf5plugin"):
        read_dataset(str(path))


def test_a_file_that_a_writer_has_open_is_said_to_be(tmp_path):
    path = write_d4rl(tmp_path / "open.hdf5", make_transitions())
    hold = f"import h5py; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(DatasetError, match="another program has it open for writing"):
            read_dataset(str(path))
        writer.communicate("\n")


def test_a_group_with_a_damaged_table_is_refused(tmp_path):
    path = write_d4rl(tmp_path / "rows.hdf5", make_transitions(), **{"infos/goal": np.ones(120)})
    content = path.read_bytes()
    assert content.count(b"SNOD") == 2
    for at in (content.index(b"SNOD"), content.rindex(b"SNOD")):
        path.write_bytes(content[:at] + b"XNOD" + content[at + 4 :])
        with pytest.raises(DatasetError, match="not a readable HDF5 file"):
            read_dataset(str(path))


def test_groups_that_hold_each_other_are_looked_into_once(tmp_path):
    path = write_d4rl(tmp_path / "rows.hdf5", make_transitions(), **{"infos/goal": np.ones(120)})
    with h5py.File(path, "r+") as file:
        file["infos/again"] = file["infos"]
        file["infos/all"] = file["/"]
    assert open_dataset(str(path)).further.labels == ("infos/goal", "source_file")


def test_an_array_that_is_declared_and_not_stored_is_refused(tmp_path):
    path = write_d4rl(tmp_path / "rows.hdf5", make_transitions(), rewards=None)
    with h5py.File(path, "r+") as file:
        file.create_dataset("rewards", (10**12,), "f4", chunks=(1024,))
    with pytest.raises(DatasetError, match=r"rewards: declares 4,000,000,000,000 bytes, of which 0 are stored"):
        read_dataset(str(path))
