"""A flipped bit or a cut in anything that we wrote is refused when it is read, or changes nothing.

Short here; ``make test-long`` flips many more, with other seeds.
"""

from __future__ import annotations

import shutil
import zlib

import numpy as np
import pytest
from helpers import tiny_settings

from vaco_curate import filter_dataset, load_curated, score_dataset
from vaco_curate.core.policy import TrainedPolicy
from vaco_curate.core.scorer import Scorer
from vaco_curate.curation import Cut
from vaco_curate.errors import CurateError
from vaco_curate.stages.apply import apply_scorer
from vaco_curate.stages.convert import convert_dataset
from vaco_curate.stages.runs import open_run


class Halt(BaseException):
    pass


def filtered(folder):
    filter_dataset(folder / "run", Cut(share=0.5), out=folder / "kept", if_exists="replace")
    return [path.read_bytes() for path in sorted((folder / "kept" / "data").iterdir())]


def applied(folder):
    apply_scorer(folder / "data.hdf5", folder / "run", out=folder / "other", device="cpu", if_exists="replace")
    scores = open_run(folder / "other").scores
    return [scores.column(name).tobytes() for name in ("score", "q_value", "advantage")]


def taken_alone(folder):
    scorer = Scorer.load(folder / "run" / "scorer")
    tensors = [tensor.numpy().tobytes() for tensor in scorer._tensors().values()]
    return [*tensors, scorer.scaling.to_json(), scorer.discount, scorer.trajectory, scorer.provenance]


def loaded(folder):
    data = load_curated(folder / "curated")
    columns = ("observation", "action", "reward", "terminated")
    return [getattr(data.transitions, name).tobytes() for name in columns] + [data.index.tobytes()]


def resumed(folder):
    settings = tiny_settings()
    score_dataset(folder / "data.hdf5", out=folder / "halted", settings=settings, device="cpu", resume=True)
    result = open_run(folder / "halted").scores.column("score").tobytes()
    shutil.move(folder / "halted", folder / "halted.partial")
    return [result]


def converted(folder, name="converted"):
    convert_dataset(folder / name, folder / "copy", if_exists="replace")
    return [path.read_bytes() for path in sorted((folder / "copy" / "data").iterdir())]


def converted_hdf5(folder):
    return converted(folder, "hdf5")


def converted_minari(folder):
    return converted(folder, "minari")


def converted_npz(folder):
    return converted(folder, "npz")


def policy(folder):
    found = TrainedPolicy.load(folder / "run" / "policy")
    tensors = [tensor.numpy().tobytes() for tensor in found.network.state_dict().values()]
    return [*tensors, found.scaling.to_json(), found.hidden]


READERS = {
    "filter, a run's scores": (filtered, "run", "scores/*"),
    "filter, a run's manifest": (filtered, "run", "_manifest.json"),
    "score --scorer, a run's scorer": (applied, "run", "scorer/*"),
    "Scorer.load, its files": (taken_alone, "run", "scorer/*"),
    "load_curated, curated rows": (loaded, "curated", "data/*"),
    "load_curated, their manifest": (loaded, "curated", "_manifest.json"),
    "convert, a converted dataset": (converted, "converted", "data/*"),
    "convert, its manifest": (converted, "converted", "_manifest.json"),
    "convert, data in D4RL's layout": (converted_hdf5, "hdf5", "data/*"),
    "convert, data as Minari": (converted_minari, "minari", "data/*"),
    "convert, data as npz": (converted_npz, "npz", "data/*"),
    "TrainedPolicy.load, its files": (policy, "run", "policy/*"),
    "score --resume, a checkpoint": (resumed, "halted.partial", "checkpoint.safetensors"),
}


@pytest.fixture
def folder(tmp_path, pendulum, pendulum_run, monkeypatch):
    shutil.copy(pendulum, tmp_path / "data.hdf5")
    shutil.copytree(pendulum_run, tmp_path / "run")
    filter_dataset(tmp_path / "run", Cut(share=0.5), out=tmp_path / "curated")
    convert_dataset(tmp_path / "data.hdf5", tmp_path / "converted")
    convert_dataset(tmp_path / "data.hdf5", tmp_path / "hdf5", file_format="d4rl")
    convert_dataset(tmp_path / "data.hdf5", tmp_path / "minari", file_format="minari")
    convert_dataset(tmp_path / "data.hdf5", tmp_path / "npz", file_format="npz")

    def stop(progress):
        if progress.phase == "bilevel" and progress.update:
            raise Halt

    with pytest.raises(Halt):
        score_dataset(
            tmp_path / "data.hdf5",
            out=tmp_path / "halted",
            settings=tiny_settings(),
            device="cpu",
            on_progress=stop,
        )
    return tmp_path


@pytest.mark.parametrize(("read", "where", "files"), READERS.values(), ids=READERS)
def test_damage_is_refused_or_changes_nothing(folder, flips, read, where, files):
    shutil.copytree(folder / where, folder / "whole")
    expected = read(folder)
    refused = 0
    for file in sorted((folder / "whole").glob(files)):
        whole, target = file.read_bytes(), folder / where / file.relative_to(folder / "whole")
        generator = np.random.default_rng(zlib.crc32(f"{file.name}{flips}".encode()))
        for number, position in enumerate(generator.integers(len(whole), size=flips + max(2, flips // 4))):
            if where == "halted.partial":  # a resumed run has taken it away
                shutil.rmtree(folder / where)
                shutil.copytree(folder / "whole", folder / where)
            damaged = bytearray(whole)
            if number < flips:
                damaged[position] ^= 1 << generator.integers(8)
            else:
                del damaged[position:]
            target.write_bytes(damaged)
            try:
                assert read(folder) == expected, f"{file.name}, byte {position}"
            except CurateError:
                refused += 1
        if where != "halted.partial":
            target.write_bytes(whole)
    assert refused, "nothing was found"
