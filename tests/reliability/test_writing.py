"""What is written is on the disk before it gets its name; one command writes a folder; none leaves litter."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from helpers import CONFIG, make_transitions, write_d4rl

from vaco_curate import read_dataset
from vaco_curate.errors import RunError
from vaco_curate.stages import write
from vaco_curate.store import files, folders
from vaco_curate.store.locks import locked
from vaco_curate.store.manifest import read_manifest, write_manifest


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("exchanges", [True, False])
def test_all_files_are_on_the_disk_before_a_folder_gets_its_name(vaco, scored, monkeypatch, exchanges):
    assert vaco("filter", "--top", "50%", "--out", "kept").code == 0
    synced, at_rename = set(), []
    fsync, rename, exchange = os.fsync, type(scored).rename, folders.exchanged

    def recorded(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def looked_at(finished):
        if finished.name == ".kept.fresh":
            inner = [finished, *finished.rglob("*")]
            at_rename.append([path.name for path in inner if path.stat().st_ino not in synced])

    def renamed(self, target):
        looked_at(self)
        return rename(self, target)

    def exchanged(one, other):
        looked_at(one)
        return exchanges and exchange(one, other)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(type(scored), "rename", renamed)
    monkeypatch.setattr(folders, "exchanged", exchanged)
    assert vaco("filter", "--top", "10%", "--out", "kept", "--if-exists", "replace").code == 0
    assert at_rename
    assert not any(at_rename), "not on the disk"
    assert scored.stat().st_ino in synced, "the new name"
    assert names(scored) == ["kept", "pendulum.hdf5", "pendulum.vaco"]


def test_force_does_not_delete_what_somebody_put_into_a_folder_of_ours(vaco, scored):
    assert vaco("filter", "--top", "50%", "--out", "kept").code == 0
    (scored / "kept" / "data" / "notes.txt").write_text("mine")
    outcome = vaco("filter", "--top", "10%", "--out", "kept", "--if-exists", "replace")
    assert outcome.code == 1
    assert "also holds data/notes.txt, which vaco-curate did not write" in outcome.stderr
    assert (scored / "kept" / "data" / "notes.txt").read_text() == "mine"
    assert vaco("eval", "pendulum.vaco", "--updates", 5, "--seeds", 1, "--episodes", 1).code == 0
    assert vaco("report", "pendulum.vaco").code == 0
    (scored / "tiny.json").write_text(CONFIG)
    again = vaco("score", "pendulum.hdf5", "--config", "tiny.json", "--if-exists", "replace")
    assert again.code == 0, again.stderr


def test_a_run_that_is_replaced_while_it_is_read_is_noticed(vaco, scored, monkeypatch):
    real = write._write_rows

    def replaced_meanwhile(run, *arguments):
        written = real(run, *arguments)
        manifest = read_manifest(run.folder)
        write_manifest(run.folder, manifest | {"finished": "later"})
        return written

    monkeypatch.setattr(write, "_write_rows", replaced_meanwhile)
    outcome = vaco("filter", "--top", "50%", "--out", "kept")
    assert outcome.code == 1
    assert "was replaced while it was read" in outcome.stderr
    assert names(scored) == ["pendulum.hdf5", "pendulum.vaco"]


def test_two_folders_change_places_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of {name}").touch()
    assert files.exchanged(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "of b").exists()
    assert (tmp_path / "b" / "of a").exists()
    assert not files.exchanged(tmp_path / "a", tmp_path / "none")


@pytest.mark.parametrize(
    "command",
    [["score", "pendulum.hdf5", "--out", "kept"], ["filter", "--top", "50%", "--out", "kept"]],
    ids=["score", "filter"],
)
def test_the_second_command_on_a_folder_is_refused(vaco, scored, command):
    with locked(scored / "kept"):
        outcome = vaco(*command)
    assert outcome.code == 1
    assert f"another command is writing it, process {os.getpid()}" in outcome.stderr
    assert names(scored) == ["pendulum.hdf5", "pendulum.vaco"]


def test_a_lock_ends_with_its_process(tmp_path):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(tmp_path / "kept"):
            os.write(writer, b"x")
            time.sleep(60)
    os.read(reader, 1)
    with pytest.raises(RunError, match=f"process {child}"), locked(tmp_path / "kept"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with locked(tmp_path / "kept"):
        pass
    assert names(tmp_path) == []


def test_what_a_killed_command_left_is_removed_by_the_next(vaco, scored):
    for left in (".kept.fresh", ".kept.scratch"):
        (scored / left / "data").mkdir(parents=True)
        (scored / left / "data" / "rows.parquet").write_bytes(b"half")
    assert vaco("filter", "--top", "50%", "--out", "kept").code == 0
    assert vaco("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "kept2").code == 0
    assert names(scored) == ["kept", "kept2", "pendulum.hdf5", "pendulum.vaco"]


def test_a_replacement_that_was_killed_between_its_renames_is_undone(vaco, scored):
    assert vaco("filter", "--top", "50%", "--out", "kept").code == 0
    before = (scored / "kept" / "_manifest.json").read_bytes()
    (scored / "kept").rename(scored / ".kept.previous")
    assert vaco("filter", "--top", "10%", "--out", "kept").code == 1, "it is there again"
    assert (scored / "kept" / "_manifest.json").read_bytes() == before


def test_a_training_that_was_killed_before_its_first_manifest_can_be_begun(vaco, scored):
    (scored / "new.vaco.partial").mkdir()
    (scored / "new.vaco.partial" / "_manifest.json.partial").write_text("{")
    (scored / "tiny.json").write_text(CONFIG)
    assert vaco("score", "pendulum.hdf5", "--out", "new.vaco", "--config", "tiny.json").code == 0


def test_a_checkpoint_that_was_left_in_a_finished_run_is_no_damage(vaco, scored):
    (scored / "pendulum.vaco" / "checkpoint.safetensors").write_bytes(b"x")
    assert vaco("verify", "pendulum.vaco").code == 0


@pytest.mark.parametrize("file_format", ["d4rl", "minari"])
def test_hdf5_is_not_let_onto_a_disk_that_it_would_fill(vaco, scored, monkeypatch, file_format):
    """It would end the process."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100_000))
    outcome = vaco("convert", "pendulum.hdf5", "kept", "--format", file_format)
    assert outcome.code == 1
    assert "no space left to write" in outcome.stderr
    assert names(scored) == ["pendulum.hdf5", "pendulum.vaco"]


def test_sigterm_cleans_up_as_ctrl_c_does(start, scored):
    process = start("score", "pendulum.hdf5", "--out", "new.vaco")
    end = time.monotonic() + 60
    while not (scored / "new.vaco.partial" / "_manifest.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in stderr
    assert names(scored) == ["new.vaco.partial", "pendulum.hdf5", "pendulum.vaco"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_python_drops_ends_a_command_all_the_same(scored, number, code):
    program = f"""
import os, time
from vaco_curate.stages import convert
from vaco_curate_cli.main import main

class Odd:
    def __del__(self):
        os.kill(os.getpid(), {int(number)})
        time.sleep(0.01)  # here it is raised, and Python goes on

def slow(*arguments):
    Odd()
    time.sleep(20)
    raise SystemExit("went on")

convert._shards = slow
main()
"""
    command = [sys.executable, "-c", program, "convert", "pendulum.hdf5", "out"]
    done = subprocess.run(command, cwd=scored, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert {130: "interrupted", 143: "terminated"}[code] in done.stderr
    assert names(scored) == ["pendulum.hdf5", "pendulum.vaco"]


def test_an_error_after_a_signal_that_a_library_has_swallowed_is_its_consequence(scored):
    program = """
import os, signal
from vaco_curate.stages import convert
from vaco_curate_cli.main import main

def half_imported(*arguments):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
    except KeyboardInterrupt:  # as PyArrow does while it imports pandas
        raise ValueError("already registered") from None

convert._shards = half_imported
main()
"""
    command = [sys.executable, "-c", program, "convert", "pendulum.hdf5", "out"]
    done = subprocess.run(command, cwd=scored, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert names(scored) == ["pendulum.hdf5", "pendulum.vaco"]


def test_what_is_made_after_a_signal_that_a_library_has_swallowed_gets_no_name(scored):
    program = """
import os, signal
from vaco_curate.stages import convert
from vaco_curate_cli.main import main

shards = convert._shards

def swallowed(*arguments):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass
    except BaseException:
        pass
    return shards(*arguments)

convert._shards = swallowed
main()
"""
    command = [sys.executable, "-c", program, "convert", "pendulum.hdf5", "out"]
    done = subprocess.run(command, cwd=scored, capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr
    assert names(scored) == ["pendulum.hdf5", "pendulum.vaco"]


def test_more_files_are_written_than_can_be_open(here):
    write_d4rl(here / "many.hdf5", make_transitions(episodes=150, length=2))
    main = "from vaco_curate_cli.start import start; start()"
    command = ["convert", "many.hdf5", "out", "--format", "d4rl", "--rows-per-shard", "2"]
    limited = ["sh", "-c", 'ulimit -n 128; exec "$0" "$@"', sys.executable, "-c", main, *command]
    done = subprocess.run(limited, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((here / "out" / "data").iterdir())) == 150
    assert len(read_dataset(str(here / "out"))) == 300


def test_a_damaged_native_library_is_built_again(tmp_path):
    code = "from vaco_curate.core.fast import native; print(native.load() is not None, native.why_not())"

    def loaded():
        command = [sys.executable, "-c", code]
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    if loaded() != "True None\n":
        pytest.skip("there is no C compiler")
    (library,) = (tmp_path / "vaco-curate").glob("products-*.so")
    whole = library.read_bytes()
    library.write_bytes(whole[: len(whole) // 3])
    assert loaded() == "True None\n"
    assert [path.read_bytes() for path in (tmp_path / "vaco-curate").glob("products-*.so")] == [whole]
