"""Commands that are killed at any change of the file system lose nothing, and the next command gets on.

The process kills itself with SIGKILL at its n-th change: a file opened for writing, a folder made, something
renamed or removed. A few points here; ``make test-long`` takes every one.

The same with the power gone at that moment: the command writes to a file system in an image, and goes on in a
copy of that image, made when it has ended, with nothing more written to it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import CONFIG

KILLER = """
import os, signal, sys
left = int(sys.argv.pop(1))
begun = left
changes = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
def hook(event, arguments):
    global left
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if event in changes or writes:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from vaco_curate_cli.main import main
try:
    main()
finally:
    print("changes:", begun - left)
"""

SCORE = ("score", "pendulum.hdf5", "--config", "tiny.json", "--device", "cpu", "--quiet", "--out", "out")
REPLACE = ("--if-exists", "replace")
COMMANDS = {
    "score": (SCORE, (*SCORE, "--resume")),
    "score --if-exists replace": ((*SCORE, *REPLACE), (*SCORE, *REPLACE)),
    "filter": (("filter", "pendulum.vaco", "--top", "50%", "--out", "out"),) * 2,
    "filter --if-exists replace": (("filter", "pendulum.vaco", "--top", "50%", "--out", "out", *REPLACE),) * 2,
    "convert": (("convert", "pendulum.hdf5", "out"),) * 2,
    "score --scorer": (("score", "pendulum.hdf5", "--scorer", "pendulum.vaco", "--out", "out"),) * 2,
}


def run(folder, command, kill_at=-1):
    return subprocess.run(
        [sys.executable, "-c", KILLER, str(kill_at), *command],
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder):
    files = sorted(path for path in folder.rglob("*.parquet") if path.name != "metrics.parquet")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def prepared(scored, tmp_path_factory, command):
    """What stands in the command's output before it, and a copy of the folder."""
    (scored / "tiny.json").write_text(CONFIG)
    if "replace" in command:
        old = (*SCORE, "--seed", "1") if command[0] == "score" else (*command[:3], "10%", "--out", "out")
        assert run(scored, old).returncode == 0
    start = tmp_path_factory.mktemp("start")
    shutil.copytree(scored, start, dirs_exist_ok=True)
    return contents(scored / "out"), start


IN_SHORT = ("score", "filter --if-exists replace")
"""What one run of the suite tries; the others take their turn in ``make test-long``."""


def points(changes, kills):
    return sorted({int(point) for point in np.linspace(1, changes, min(changes, kills)).round()})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_loses_nothing(scored, tmp_path_factory, kills, name):
    if kills <= 2 and name not in IN_SHORT:
        pytest.skip("only in make test-long")
    command, again = COMMANDS[name]
    before, start = prepared(scored, tmp_path_factory, command)
    done = run(scored, command)
    assert done.returncode == 0, done.stderr
    expected = contents(scored / "out")
    names = sorted(path.name for path in scored.iterdir())
    changes = int(done.stdout.rpartition("changes:")[2])
    for point in points(changes, kills):
        here = tmp_path_factory.mktemp("killed")
        shutil.copytree(start, here, dirs_exist_ok=True)
        assert run(here, command, point).returncode == -9, f"{point} of {changes}"
        assert contents(here / "out") in (before, expected), f"after change {point}: neither old nor new"
        finished = run(here, again)
        if finished.returncode:
            assert "exists already" in finished.stderr or "is finished" in finished.stderr, finished.stderr
        assert contents(here / "out") == expected, f"after change {point}"
        assert run(here, ("verify", "out")).returncode == 0
        left = [path.name for path in here.iterdir() if not path.name.endswith(".lock")]
        assert sorted(left) == names, f"after change {point}"
        shutil.rmtree(here)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_stopped_at_any_moment_loses_nothing(scored, tmp_path_factory, kills, name, number):
    if kills <= 2:
        pytest.skip("only in make test-long")
    command, again = COMMANDS[name]
    before, start = prepared(scored, tmp_path_factory, command)
    began = time.monotonic()
    assert run(scored, command).returncode == 0
    seconds, expected = time.monotonic() - began, contents(scored / "out")
    names = sorted(path.name for path in scored.iterdir())
    for moment in np.random.default_rng(number).uniform(0.3 * seconds, seconds, min(kills, 12)):
        here = tmp_path_factory.mktemp("stopped")
        shutil.copytree(start, here, dirs_exist_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", "from vaco_curate_cli.start import start; start()", *command],
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, errors = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            _, errors = process.communicate()
        when = f"{number.name} after {moment:.3f} of {seconds:.3f} s"
        assert process.returncode in (0, -number, 128 + number), f"{when}: {errors}"
        assert "Traceback" not in errors or process.returncode == -number, when
        assert contents(here / "out") in (before, expected), when
        finished = run(here, again)
        if finished.returncode:
            assert "exists already" in finished.stderr or "is finished" in finished.stderr, finished.stderr
        assert contents(here / "out") == expected, when
        left = [path.name for path in here.iterdir() if not path.name.endswith(".lock")]
        assert sorted(left) == names, when
        shutil.rmtree(here)


class Disk:
    """An ext4 file system in an image, mounted, until its power is gone."""

    def __init__(self, folder):
        self.image, self.copy, self.mounted = folder / "image", folder / "copy", folder / "mounted"
        self.image.write_bytes(b"")
        os.truncate(self.image, 64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", self.image], check=True, capture_output=True)
        self.mounted.mkdir()
        self.mount(self.image)

    def mount(self, image):
        subprocess.run(["mount", "-o", "loop", image, self.mounted], check=True, capture_output=True)

    def lose_power(self):
        """What was not on the disk is lost; then the disk is mounted again."""
        shutil.copyfile(self.image, self.copy)
        self.unmount()
        self.mount(self.copy)

    def unmount(self):
        subprocess.run(["umount", self.mounted], check=True, capture_output=True)


@pytest.fixture
def new_disk(tmp_path_factory):
    disks = []

    def made():
        while disks:
            disks.pop().unmount()
        try:
            disks.append(Disk(tmp_path_factory.mktemp("disk")))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"needs to mount an image, as root: {error}")
        return disks[-1]

    yield made
    for disk in disks:
        disk.unmount()


@pytest.mark.parametrize("name", COMMANDS)
def test_when_the_power_goes_nothing_is_lost(scored, tmp_path_factory, new_disk, kills, name):
    if kills <= 2 and name != "filter --if-exists replace":
        pytest.skip("only in make test-long")
    command, again = COMMANDS[name]
    before, start = prepared(scored, tmp_path_factory, command)
    done = run(scored, command)
    expected, changes = contents(scored / "out"), int(done.stdout.rpartition("changes:")[2])
    for point in (*(points(changes, kills) if kills > 2 else ()), None):
        disk = new_disk()
        here = disk.mounted / "here"
        shutil.copytree(start, here)
        os.sync()
        outcome = run(here, command, point or -1)
        assert outcome.returncode == (-9 if point else 0), outcome.stderr
        disk.lose_power()
        when = f"power gone after change {point} of {changes}" if point else "power gone when all was done"
        assert contents(here / "out") in ((before, expected) if point else (expected,)), when
        finished = run(here, again)
        if finished.returncode:
            assert "exists already" in finished.stderr or "is finished" in finished.stderr, finished.stderr
        assert contents(here / "out") == expected, when
        verified = run(here, ("verify", "out"))
        assert verified.returncode == 0, f"{when}: {verified.stderr}"


FULL = COMMANDS | {
    "convert --format d4rl": (("convert", "pendulum.hdf5", "out", "--format", "d4rl"),) * 2,
    "filter --format minari": (
        ("filter", "pendulum.vaco", "--top", "50%", "--level", "episode", "--format", "minari", "--out", "out"),
    )
    * 2,
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_disk_is_one_message_and_nothing_is_left(scored, tmp_path_factory, new_disk, kills, name):
    if kills <= 2 and name != "convert --format d4rl":
        pytest.skip("only in make test-long")
    command, again = FULL[name]
    before, start = prepared(scored, tmp_path_factory, command)
    disk = new_disk()
    here = disk.mounted / "here"
    shutil.copytree(start, here)
    refused = 0
    for free in (4 << 10, 64 << 10, 400 << 10, 1 << 20, 2 << 20)[: max(2, kills)]:
        filler, names = disk.mounted / "filler", {path.name for path in here.iterdir()}
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk.mounted).free - free)
        outcome = run(here, again if refused else command)
        if outcome.returncode == 0:
            break
        refused += 1
        assert outcome.returncode == 1, outcome.stderr
        assert "Traceback" not in outcome.stderr
        assert "no space left" in outcome.stderr or "are free" in outcome.stderr, outcome.stderr
        assert contents(here / "out") == before
        left = {path.name for path in here.iterdir() if not path.name.endswith(".lock")}
        assert left - {"out.partial"} == names - {"out.partial"}, "but for a training that can be resumed"
        filler.unlink()
    assert refused, "the disk was not full"
