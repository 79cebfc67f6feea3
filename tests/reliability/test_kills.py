"""Commands that are killed at any change of the file system lose nothing, and the next command gets on.

The process kills itself with SIGKILL at its n-th change: a file opened for writing, a folder made, something
renamed or removed. A few points here; ``make test-long`` takes every one.

The same with the power gone at that moment: the command writes to a file system in an image, and goes on in a
copy of that image, made when it has ended, with nothing more written to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

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
COMMANDS = {
    "score": (SCORE, (*SCORE, "--resume")),
    "score --force": ((*SCORE, "--force"), (*SCORE, "--force")),
    "filter": (("filter", "pendulum.vaco", "--top", "50%", "--out", "out"),) * 2,
    "filter --force": (("filter", "pendulum.vaco", "--top", "50%", "--out", "out", "--force"),) * 2,
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


IN_SHORT = ("score", "filter --force")
"""What one run of the suite tries; the others take their turn in ``make test-long``."""


def points(changes, kills):
    return sorted({int(point) for point in np.linspace(1, changes, min(changes, kills)).round()})


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_loses_nothing(scored, tmp_path_factory, kills, name):
    if kills <= 2 and name not in IN_SHORT:
        pytest.skip("only in make test-long")
    command, again = COMMANDS[name]
    (scored / "tiny.json").write_text(CONFIG)
    if "--force" in command:
        old = (*SCORE, "--seed", "1") if command[0] == "score" else (*command[:3], "10%", "--out", "out")
        assert run(scored, old).returncode == 0
    before = contents(scored / "out")
    start = tmp_path_factory.mktemp("start")
    shutil.copytree(scored, start, dirs_exist_ok=True)
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


class Disk:
    """An ext4 file system in an image, mounted, until its power is gone."""

    def __init__(self, folder):
        self.image, self.copy, self.mounted = folder / "image", folder / "copy", folder / "mounted"
        self.image.write_bytes(b"")
        os.truncate(self.image, 64 << 20)
        subprocess.run(["mkfs.ext4", "-q", self.image], check=True, capture_output=True)
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
    if kills <= 2 and name != "filter --force":
        pytest.skip("only in make test-long")
    command, again = COMMANDS[name]
    (scored / "tiny.json").write_text(CONFIG)
    if "--force" in command:
        old = (*SCORE, "--seed", "1") if command[0] == "score" else (*command[:3], "10%", "--out", "out")
        assert run(scored, old).returncode == 0
    before = contents(scored / "out")
    start = tmp_path_factory.mktemp("start")
    shutil.copytree(scored, start, dirs_exist_ok=True)
    done = run(scored, command)
    expected, changes = contents(scored / "out"), int(done.stdout.rpartition("changes:")[2])
    for point in (*points(changes, kills), None):
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
