from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from field.episodes import D4RL_NEXT, episodes, truth_of, write_hdf5
from helpers import make_transitions, write_d4rl
from hypothesis import given, settings
from hypothesis import strategies as st

from vaco_curate.core.transitions import COLUMNS, ROW_COLUMNS, Fingerprint
from vaco_curate.data.columns import checked_columns, transitions_from_columns
from vaco_curate.data.episodes import EpisodeNumbers, whole_episodes
from vaco_curate.data.formats import ReadOptions, open_dataset, read_dataset
from vaco_curate.data.formats import dataset as dataset_module
from vaco_curate.data.formats.cache import mapped
from vaco_curate.data.successors import Findings
from vaco_curate.errors import DatasetError

flags = st.lists(st.sampled_from([0, 0, 0, 1]), min_size=1, max_size=60)


@given(
    terminated=flags, batch=st.integers(1, 25), limit=st.one_of(st.none(), st.integers(1, 9)), data=st.data()
)
@settings(max_examples=200, deadline=None)
def test_batches_of_any_size_give_the_rows_that_all_at_once_give(terminated, batch, limit, data):
    count = len(terminated)
    columns = {
        "observation": np.arange(count, dtype=np.float32)[:, None],
        "action": np.zeros((count, 1), np.float32),
        "reward": np.zeros(count, np.float32),
        "terminated": np.array(terminated),
    }
    if limit is None:
        columns["truncated"] = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    whole = transitions_from_columns(columns, source="x", format_name="x", max_episode_steps=limit)
    numbers = EpisodeNumbers(0, limit)
    parts = (
        numbers.of(
            checked_columns({name: values[at : at + batch] for name, values in columns.items()}, "x", at)
        )
        for at in range(0, count, batch)
    )
    pieces = list(whole_episodes(parts, "x"))
    for name in ("observation", "terminated", "truncated", "episode_id"):
        assert (np.concatenate([piece[name] for piece in pieces]) == getattr(whole, name)).all(), name
    first_and_last = [(piece["episode_id"][0], piece["episode_id"][-1]) for piece in pieces]
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(first_and_last))


def test_pieces_of_any_size_add_up_to_the_fingerprint_of_the_whole(tmp_path):
    dataset = open_dataset(str(write_d4rl(tmp_path / "d.hdf5", make_transitions(episodes=9, length=13))))
    whole = dataset.read()
    for rows in (1, 13, 40, 1000):
        pieces = list(dataset.pieces(rows))
        assert [piece.first_row for piece in pieces] == [0, *np.cumsum([len(p) for p in pieces])[:-1].tolist()]
        fingerprint = Fingerprint()
        for piece in reversed(pieces):
            fingerprint.add(piece)
        assert fingerprint.hexdigest() == whole.fingerprint


@pytest.mark.parametrize("name", COLUMNS)
def test_a_change_of_any_column_changes_the_fingerprint(name):
    data = make_transitions()
    values = getattr(data, name).copy()
    values.flat[-1] = 1 - values.flat[-1] if values.dtype == bool else values.flat[-1] + 1
    assert dataclasses.replace(data, **{name: values}).fingerprint != data.fingerprint


def test_the_order_of_the_rows_is_part_of_the_fingerprint():
    data = make_transitions(episodes=2)
    order = np.roll(np.arange(40), 20)
    swapped = dataclasses.replace(data, **{name: getattr(data, name)[order] for name in COLUMNS})
    assert swapped.fingerprint != data.fingerprint


def several(folder, count=3):
    parts = [make_transitions(episodes=4, seed=seed) for seed in range(count)]
    for number, part in enumerate(parts):
        write_d4rl(folder / f"log-{number * 5}.hdf5", part)
    return parts


@pytest.mark.parametrize("name", ["log-*.hdf5", ""])
def test_a_pattern_or_a_folder_of_files_is_one_dataset_in_the_order_of_their_numbers(tmp_path, name):
    parts = several(tmp_path)
    dataset = open_dataset(str(tmp_path / name))
    data = dataset.read()
    assert (data.observation == np.concatenate([part.observation for part in parts])).all()
    assert data.episode_length.tolist() == [20] * 12
    assert len(np.unique(data.episode_id)) == 12
    files = dataset.further.label("source_file")
    assert files.tolist() == ["log-0.hdf5"] * 80 + ["log-5.hdf5"] * 80 + ["log-10.hdf5"] * 80


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_d4rl(tmp_path / name / "log.hdf5", make_transitions())
    dataset = open_dataset(str(tmp_path / "*" / "log.hdf5"))
    assert dataset.file_names == ("a/log.hdf5", "b/log.hdf5")


def test_an_episode_does_not_go_on_in_the_next_file(tmp_path):
    open_ended = make_transitions(columns={"truncated": np.zeros(120, bool), "terminated": np.zeros(120, bool)})
    for number in range(2):
        write_d4rl(tmp_path / f"{number}.hdf5", open_ended)
    data = read_dataset(str(tmp_path))
    assert data.episode_length.tolist() == [120, 120]
    assert not data.has_successor[119]


def test_files_of_several_formats_or_of_none_are_refused(tmp_path):
    several(tmp_path, 1)
    np.savez(tmp_path / "play.npz", observations=np.zeros((3, 2)))
    with pytest.raises(DatasetError, match=r"several formats(.|\n)*--?|pattern"):
        open_dataset(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="known format"):
        open_dataset(str(tmp_path / "empty"))
    with pytest.raises(DatasetError, match="no file matches this pattern"):
        open_dataset(str(tmp_path / "*.csv"))


def test_files_whose_vectors_differ_in_size_or_type_are_refused_by_name(tmp_path):
    write_d4rl(tmp_path / "0.hdf5", make_transitions())
    write_d4rl(tmp_path / "1.hdf5", make_transitions(observation_size=5))
    with pytest.raises(DatasetError, match=r"observation of another type(.|\n)*\(4,\), then float32 \(5,\)"):
        read_dataset(str(tmp_path))


def test_files_with_and_without_stored_successors_are_one_dataset(tmp_path):
    data = make_transitions(episodes=2)
    write_d4rl(tmp_path / "0.hdf5", data)
    write_d4rl(tmp_path / "1.hdf5", data, next_observations=data.next_observation + 1)
    read = read_dataset(str(tmp_path))
    assert (read.next_observation[:40] == data.next_observation).all()
    assert (read.next_observation[40:] == data.next_observation + 1).all()


def test_a_bad_row_is_named_with_its_file_and_its_number_there(tmp_path):
    several(tmp_path, 2)
    odd = np.zeros(80)
    odd[17] = 0.5
    write_d4rl(tmp_path / "log-5.hdf5", make_transitions(episodes=4), terminals=odd)
    with pytest.raises(DatasetError, match=r"log-5\.hdf5: terminated is 0\.5 in row 17"):
        read_dataset(str(tmp_path))


def shards(folder, ids, **extra):
    """One Parquet shard for each list of episode ids, a row for each."""
    folder.mkdir()
    for number, episode_id in enumerate(ids):
        rows = len(episode_id)
        columns = {
            "observation": np.arange(rows, dtype=float),
            "action": np.zeros(rows),
            "reward": np.zeros(rows),
        }
        columns |= {name: values[number] for name, values in extra.items()}
        pq.write_table(pa.table(columns | {"episode_id": episode_id}), folder / f"{number}.parquet")
    return read_dataset(str(folder)).episode_id.tolist()


def test_an_episode_goes_on_in_the_next_shard_where_its_number_and_steps_do(tmp_path):
    ids = [[0, 0, 1, 1], [1, 1, 2]]
    going_on = [np.zeros(4, bool), np.zeros(3, bool)]
    assert shards(tmp_path / "a", ids, terminated=going_on) == [0, 0, 1, 1, 1, 1, 2]
    assert shards(tmp_path / "e", ids) == [0, 0, 1, 1, 2, 2, 3], "nothing says that it goes on"
    assert shards(tmp_path / "b", ids, step_index=[[0, 1, 0, 1], [2, 3, 0]]) == [0, 0, 1, 1, 1, 1, 2]
    assert shards(tmp_path / "c", ids, step_index=[[0, 1, 0, 1], [0, 1, 0]]) == [0, 0, 1, 1, 2, 2, 3]
    ended = [np.array([False, True, False, True]), np.array([False, True, True])]
    assert shards(tmp_path / "d", ids, terminated=ended) == [0, 0, 1, 1, 2, 2, 3]


def test_numbers_that_begin_anew_in_every_shard_are_shifted(tmp_path):
    steps = [[0, 1, 0], [0, 0, 1], [0, 1, 2]]
    assert shards(tmp_path / "a", [[0, 0, 1], [0, 1, 1], [5, 5, 5]], step_index=steps) == [
        *(0, 0, 1),
        *(2, 3, 3),
        *(4, 4, 4),
    ]


def test_an_episode_that_comes_back_is_refused_also_when_it_is_far_away(tmp_path):
    table = pa.table({name: np.zeros(6) for name in ("observation", "action", "reward")})
    pq.write_table(table.append_column("episode_id", [[0, 0, 1, 1, 0, 0]]), tmp_path / "log.parquet")
    with pytest.raises(DatasetError, match="the rows of episode 0 are not together: more begin at row 4"):
        list(open_dataset(str(tmp_path / "log.parquet")).pieces(2))


def test_a_step_limit_holds_in_every_file(tmp_path):
    for number in range(2):
        write_d4rl(tmp_path / f"{number}.hdf5", make_transitions(length=30, episodes=2), timeouts=None)
    data = read_dataset(str(tmp_path), ReadOptions(max_episode_steps=20))
    assert data.episode_length.tolist() == [20, 10, 20, 10] * 2


def test_labels_must_be_in_every_file(tmp_path):
    data = make_transitions()
    write_d4rl(tmp_path / "0.hdf5", data, **{"infos/behavior": np.arange(120), "infos/x": np.arange(120)})
    write_d4rl(tmp_path / "1.hdf5", data, **{"infos/behavior": np.arange(120)[:, None]})
    dataset = open_dataset(str(tmp_path))
    assert dataset.further.labels == ("infos/behavior", "source_file")
    assert dataset.further.label("infos/behavior").tolist() == [*range(120), *range(120)]
    with pytest.raises(DatasetError, match=r"no column infos/x(.|\n)*infos/behavior"):
        dataset.further.label("infos/x")


def test_numbers_need_no_order_to_be_told_apart(tmp_path):
    steps = [[0, 1, 0, 1], [2, 3, 0]]
    assert shards(tmp_path / "a", [[5, 5, 2, 2], [2, 2, 8]], step_index=steps) == [5, 5, 2, 2, 2, 2, 8]
    assert shards(tmp_path / "b", [[9.0, 9.0, 10.0], [6.0, 6.0, 7.0]]) == [9, 9, 10, 6, 6, 7]


def test_files_of_one_episode_each_with_the_same_number_are_not_joined(tmp_path):
    assert shards(tmp_path / "a", [[0, 0], [0, 0, 0], [0]]) == [0, 0, 1, 1, 1, 2]


def test_rows_cut_into_other_shards_have_the_same_fingerprint(tmp_path):
    ids, steps = [5, 5, 5, 2, 2, 8, 8], [0, 1, 2, 0, 1, 0, 1]
    prints = set()
    for number, cuts in enumerate(([7], [2, 5], [3, 2, 2], [1, 1, 1, 1, 1, 1, 1])):
        ends = np.cumsum(cuts)
        parts = [slice(end - size, end) for end, size in zip(ends, cuts, strict=True)]
        observation = [np.arange(7.0)[part] for part in parts]
        shards(
            tmp_path / str(number),
            [ids[part] for part in parts],
            step_index=[steps[part] for part in parts],
            observation=observation,
        )
        prints.add(read_dataset(str(tmp_path / str(number))).fingerprint)
    assert len(prints) == 1


def test_numbers_too_far_apart_to_be_shifted_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="too far apart to be shifted"):
        shards(tmp_path / "a", [[0, 2**62], [0, 2**62]])


@pytest.mark.parametrize("rows", [7, 1000])
def test_a_step_limit_does_not_cut_where_the_source_tells_the_ends(tmp_path, rows):
    path = write_d4rl(tmp_path / "d.hdf5", make_transitions(length=30, episodes=4))
    dataset = open_dataset(str(path), ReadOptions(max_episode_steps=100))
    assert [len(piece) for piece in dataset.pieces(1)] == [30] * 4
    assert sum(int(piece.truncated.sum()) for piece in dataset.pieces(rows)) == 2
    assert any("the given step limit is not used" in note for note in dataset.facts["notes"])


def test_a_dataset_is_found_again_from_another_folder(tmp_path, monkeypatch):
    several(tmp_path, 2)
    monkeypatch.chdir(tmp_path)
    datasets = [open_dataset(source) for source in ("log-0.hdf5", ".", "log-*.hdf5")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [len(dataset.read()) for dataset in datasets] == [80, 160, 160]


def test_two_names_of_one_file_are_two_recordings(tmp_path):
    path = write_d4rl(tmp_path / "blob", make_transitions())
    for name in ("a.hdf5", "b.hdf5"):
        (tmp_path / name).symlink_to(path)
    dataset = open_dataset(str(tmp_path / "*.hdf5"))
    assert dataset.shard_names == ("a", "b")
    assert len(dataset.read()) == 240


def test_a_label_without_a_value_is_refused_and_words_are_told_apart(tmp_path):
    table = pa.table({name: np.zeros(3) for name in ("observation", "action", "reward")})
    words = pa.array(["x", "y", "x"]).dictionary_encode()
    pq.write_table(table.append_column("task", words), tmp_path / "words.parquet")
    assert open_dataset(str(tmp_path / "words.parquet")).further.groups("task").tolist() == [0, 1, 0]
    holes = pa.array(["x", None, "y"]).dictionary_encode()
    pq.write_table(table.append_column("task", holes), tmp_path / "holes.parquet")
    with pytest.raises(DatasetError, match=r"task is null, first in row 1"):
        open_dataset(str(tmp_path / "holes.parquet")).further.groups("task")


def test_wide_rows_are_read_fewer_at_a_time(tmp_path, monkeypatch):
    path = write_d4rl(tmp_path / "d.hdf5", make_transitions(length=10, episodes=12))
    monkeypatch.setattr("vaco_curate.data.formats.dataset.PIECE_BYTES", 1000)
    assert len(list(open_dataset(str(path)).pieces())) > 3


def test_small_files_are_taken_together(tmp_path, monkeypatch):
    """As units, and as pieces; but for the numbers of rows, nothing shows."""
    data = make_transitions(episodes=5)
    for episode in range(5):
        rows = slice(20 * episode, 20 * episode + 20)
        part = make_transitions(columns={name: getattr(data, name)[rows] for name in COLUMNS})
        write_d4rl(tmp_path / f"{episode}.hdf5", part)
    dataset = open_dataset(str(tmp_path))
    monkeypatch.setattr(dataset_module, "UNIT_ROWS", 50)
    units = dataset.units()
    assert [(unit.first_row, len(unit)) for unit in units] == [(0, 60), (60, 40)]
    assert [unit.shard_names for unit in units] == [("0", "1", "2"), ("3", "4")]
    assert [len(piece) for piece in dataset.pieces()] == [80, 20], "the last may go on"
    assert [len(piece) for piece in dataset.pieces(45)] == [20, 40, 20, 20]
    fingerprint = Fingerprint()
    for unit in units:
        for piece in unit.pieces():
            fingerprint.add(piece)
    assert fingerprint.hexdigest() == dataset.read().fingerprint
    assert np.array_equal(dataset.read().observation, data.observation)


def test_a_path_goes_on_in_the_next_file_with_its_episode(tmp_path, small_units):
    """Two shards that are cut within an episode, and an empty one between them."""
    truth = truth_of(episodes(np.random.default_rng(2), [40] * 4), last_known=True)
    columns = {
        name: pa.array(list(getattr(truth, name))) for name in ("observation", "action", "next_observation")
    }
    columns |= {
        name: pa.array(getattr(truth, name)) for name in ("reward", "terminated", "truncated", "step_index")
    }
    table = pa.table(columns | {"episode_id": pa.array(truth.episode)})
    for name, part in (("0", slice(0, 60)), ("1", slice(60, 60)), ("2", slice(60, 160))):
        pq.write_table(table.slice(part.start, part.stop - part.start), tmp_path / f"{name}.parquet")
    dataset = open_dataset(str(tmp_path))
    assert dataset.read().path_start.tolist() == [0, 40, 80, 120]
    (unit,) = dataset.units()
    assert unit.read().path_start.tolist() == [0, 40, 80, 120]


def test_the_file_of_the_first_break_is_named(tmp_path):
    for number, ends in enumerate((["timeout"] * 3, ["timeout", "none", "timeout"])):
        truth = truth_of(episodes(np.random.default_rng(number), [40] * 3, ends), last_known=True)
        write_hdf5(tmp_path / f"log-{number}.hdf5", truth, D4RL_NEXT)
    data = read_dataset(str(tmp_path))
    assert data.episode_length.tolist() == [40] * 6
    assert "(first row 79 of log-1.hdf5)" in data.notes[0]


def test_mapped_columns_keep_what_was_found_and_equal_those_in_memory(tmp_path):
    truth = truth_of(
        episodes(np.random.default_rng(2), [50, 30, 40], ["none", "terminal", "none"]), last_known=True
    )
    dataset = open_dataset(str(write_hdf5(tmp_path / "replay.hdf5", truth, D4RL_NEXT)))
    in_memory = dataset.read()
    for _ in ("written", "found again"):
        data = mapped(dataset, tmp_path / "columns", lambda note: None)
        assert data.notes == in_memory.notes
        assert any("episodes end there" in note for note in data.notes)
        for name in ROW_COLUMNS:
            assert (getattr(data, name) == getattr(in_memory, name)).all(), name


@pytest.mark.parametrize("rows", [1, 7, 40, 1000])
def test_pieces_of_any_size_see_the_same_breaks(tmp_path, rows):
    ends = ["timeout", "none", "terminal", "none"]
    truth = truth_of(episodes(np.random.default_rng(2), [50, 30, 40, 25], ends), last_known=True)
    dataset = open_dataset(str(write_hdf5(tmp_path / "replay.hdf5", truth, D4RL_NEXT)))
    whole, findings = dataset.read(), Findings()
    pieces = list(dataset.pieces(rows, findings))
    for name in ROW_COLUMNS:
        assert (np.concatenate([getattr(piece, name) for piece in pieces]) == getattr(whole, name)).all(), name
    assert findings.ends == 1
    assert findings.first == "row 79"


def test_damaged_columns_in_the_cache_are_written_again(tmp_path):
    dataset = open_dataset(str(write_d4rl(tmp_path / "data.hdf5", make_transitions())))
    notes = []
    whole = mapped(dataset, tmp_path / "columns", notes.append)
    for name, change in (
        ("reward.npy", lambda file: file[:-2] + bytes([file[-2] ^ 1]) + file[-1:]),
        ("observation.npy", lambda file: file[:200]),
        ("facts.json", lambda file: b"{"),
    ):
        file = tmp_path / "columns" / name
        file.write_bytes(change(file.read_bytes()))
        assert mapped(dataset, tmp_path / "columns", notes.append).fingerprint == whole.fingerprint
    assert len(notes) == 4
    (tmp_path / ".columns.fresh").mkdir()  # of a command that was killed
    mapped(dataset, tmp_path / "columns", notes.append)
    assert len(notes) == 4


@pytest.mark.parametrize(
    "names", [("a/x.hdf5", "a--x.hdf5"), ("b/X.hdf5", "b/x.hdf5"), ("c/x.hdf5", "d/x.hdf5")]
)
def test_no_two_files_of_a_dataset_are_written_to_one(tmp_path, names):
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_d4rl(tmp_path / name, make_transitions(seed=number))
    dataset = open_dataset(str(tmp_path / "**" / "*.hdf5"))
    assert len({name.casefold() for name in dataset.shard_names}) == 2
    assert not any("/" in name for name in dataset.shard_names)


def test_a_home_folder_in_quotes_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "logs").mkdir()
    write_d4rl(tmp_path / "logs" / "a.hdf5", make_transitions())
    for source in ("~/logs/a.hdf5", "~/logs", "~/logs/*.hdf5"):
        assert len(read_dataset(source)) == 120
    with pytest.raises(DatasetError, match=f"{tmp_path}/b.hdf5: no such file"):
        read_dataset("~/b.hdf5")
