"""Feed a reader with bytes that are nearly a dataset, for as long as asked: ``make fuzz MINUTES=60``.

Atheris (coverage-guided, libFuzzer beneath) changes the bytes of small valid files. A reader may read them or
refuse them in one message. Whatever else happens is a finding: an exception of another kind, a process that
ends, more than 20 s or 4 GB for a file. Findings are printed once each, and their bytes kept in FOLDER.

    python tests/reliability/fuzz.py FOLDER --minutes 60 --readers d4rl parquet
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

SECONDS, MEGABYTES = 20, 4_096
EXPECTED = 77
"""Exit code of libFuzzer where it has found something."""


def d4rl(folder: Path) -> tuple[Path, Path]:
    from helpers import make_transitions, write_d4rl

    path = write_d4rl(folder / "rows.hdf5", make_transitions(episodes=3))
    return path, path


def d4rl_ours(folder: Path) -> tuple[Path, Path]:
    """Chunked and compressed, as we write it."""
    from vaco_curate.stages.convert import convert_dataset

    source, _ = d4rl(folder)
    convert_dataset(source, folder / "converted", file_format="d4rl")
    (folder / "converted" / "_manifest.json").unlink()
    path = next((folder / "converted" / "data").iterdir())
    return path, path


def robomimic(folder: Path) -> tuple[Path, Path]:
    import h5py
    import numpy as np

    path = folder / "demos.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(3):
            demo = file.create_group(f"data/demo_{number}")
            demo["obs/state"], demo["obs/goal"] = np.ones((7, 3), "f4"), np.ones((7, 2))
            demo["actions"], demo["rewards"], demo["dones"] = np.ones((7, 2)), np.ones(7), np.arange(7) == 6
        file["mask/train"] = np.array([b"demo_0", b"demo_2"])
        facts = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        file["data"].attrs["env_args"] = np.bytes_(
            facts
        )  # of variable length, damage can make HDF5 wait forever
    return path, path


def d3rlpy(folder: Path) -> tuple[Path, Path]:
    import h5py
    import numpy as np

    path = folder / "buffer.h5"
    with h5py.File(path, "w") as file:
        file["columns"] = np.array([b"observations", b"actions", b"rewards", b"terminated"])
        file["num_episodes"], file["version"] = 2, np.bytes_("2.1")
        for number in range(2):
            file[f"observations_{number}"] = np.ones((7, 3), "f4")
            file[f"actions_{number}"], file[f"rewards_{number}"] = np.ones((7, 2), "f4"), np.ones((7, 1), "f4")
            file[f"terminated_{number}"] = number == 0
    return path, path


def npz(folder: Path) -> tuple[Path, Path]:
    import numpy as np

    path = folder / "play.npz"
    ends = np.arange(20) % 10 == 9
    np.savez(path, observations=np.ones((20, 3), "f4"), actions=np.ones((20, 2), "f4"), terminals=ends)
    return path, path


def parquet(folder: Path) -> tuple[Path, Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "rows.parquet"
    columns = {
        "observation": pa.array([[1.0, 2.0]] * 20),
        "action": pa.array([[0.5]] * 20),
        "reward": pa.array([1.0] * 20),
        "terminated": pa.array([False] * 19 + [True]),
        "episode_id": pa.array(["a"] * 10 + ["b"] * 10),
        "next_observation": pa.array([[1.0, 2.0]] * 19 + [None]),
    }
    pq.write_table(pa.table(columns), path)
    return path, path


def converted(folder: Path) -> tuple[Path, Path]:
    """A file that we wrote, without the manifest that has its hash."""
    from vaco_curate.stages.convert import convert_dataset

    source, _ = d4rl(folder)
    convert_dataset(source, folder / "converted")
    path = folder / "converted" / "data" / "part-00000.parquet"
    (folder / "converted" / "_manifest.json").unlink()
    return path, path


def _lerobot(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    info = {
        "codebase_version": "v3.0",
        "total_frames": 20,
        "features": {
            "observation.state": {"dtype": "float32", "shape": [2], "names": None},
            "action": {"dtype": "float32", "shape": [1], "names": None},
            "next.reward": {"dtype": "float32", "shape": [1], "names": None},
            "next.done": {"dtype": "bool", "shape": [1], "names": None},
        },
    }
    (folder / "meta").mkdir()
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "data" / "chunk-000").mkdir(parents=True)
    columns = {
        "observation.state": pa.array([[1.0, 2.0]] * 20, pa.list_(pa.float32(), 2)),
        "action": pa.array([[0.5]] * 20, pa.list_(pa.float32(), 1)),
        "next.reward": pa.array([1.0] * 20, pa.float32()),
        "next.done": pa.array([row % 10 == 9 for row in range(20)]),
        "episode_index": pa.array([row // 10 for row in range(20)]),
        "frame_index": pa.array([row % 10 for row in range(20)]),
    }
    pq.write_table(pa.table(columns), folder / "data" / "chunk-000" / "file-000.parquet")
    return folder


def lerobot_rows(folder: Path) -> tuple[Path, Path]:
    return _lerobot(folder) / "data" / "chunk-000" / "file-000.parquet", folder


def lerobot_info(folder: Path) -> tuple[Path, Path]:
    return _lerobot(folder) / "meta" / "info.json", folder


def _minari(folder: Path) -> Path:
    from vaco_curate.stages.convert import convert_dataset

    source, _ = d4rl(folder)
    convert_dataset(source, folder / "store", file_format="minari")
    return folder / "store" / "data"


def minari_rows(folder: Path) -> tuple[Path, Path]:
    data = _minari(folder)
    (folder / "store" / "_manifest.json").unlink()
    return data / "main_data.hdf5", data


def minari_metadata(folder: Path) -> tuple[Path, Path]:
    data = _minari(folder)
    (folder / "store" / "_manifest.json").unlink()
    return data / "metadata.json", data


def _scorer(folder: Path) -> Path:
    from helpers import tiny_settings

    from vaco_curate import score_dataset

    source, _ = d4rl(folder)
    score_dataset(source, out=folder / "run", settings=tiny_settings(), device="cpu")
    return folder / "run" / "scorer"


def scorer_facts(folder: Path) -> tuple[Path, Path]:
    """Signed again after every change, as a stranger would."""
    scorer = _scorer(folder)
    facts = json.loads((scorer / "scorer.json").read_text()) | {"provenance": {}}
    (scorer / "scorer.json").write_text(json.dumps(facts))
    _sign(scorer)
    return scorer / "scorer.json", scorer


def _sign(scorer: Path) -> None:
    from vaco_curate.core.artifacts import HASH, _hash_of

    with contextlib.suppress(ValueError, TypeError, AttributeError):
        facts = json.loads((scorer / "scorer.json").read_bytes())
        facts.pop(HASH, None)
        facts[HASH] = _hash_of(facts, (scorer / "scorer.safetensors").read_bytes())
        (scorer / "scorer.json").write_text(json.dumps(facts))


def scorer_networks(folder: Path) -> tuple[Path, Path]:
    scorer = _scorer(folder)
    return scorer / "scorer.safetensors", scorer


def manifest(folder: Path) -> tuple[Path, Path]:
    """Signed again after every change, as a stranger would."""
    run = _scorer(folder).parent
    return run / "_manifest.json", run


READERS: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    reader.__name__: reader
    for reader in (
        *(d4rl, d4rl_ours, robomimic, d3rlpy, npz, parquet, converted, lerobot_rows, lerobot_info),
        *(minari_rows, minari_metadata, scorer_facts, scorer_networks, manifest),
    )
}
"""By name: makes something valid in a folder, and gives the file to change and what to read."""


def read(name: str, source: Path) -> None:
    """Read what a reader is for, and go through all of it."""
    if name.startswith("scorer"):
        from vaco_curate.core.scorer import Scorer

        if name == "scorer_facts":
            _sign(source)
        Scorer.load(source)
    elif name == "manifest":
        from vaco_curate.stages.verify import verify_folder
        from vaco_curate.store.manifest import write_manifest

        with contextlib.suppress(ValueError, TypeError, AttributeError):
            facts = json.loads((source / "_manifest.json").read_bytes())
            facts.pop("sha256", None)
            write_manifest(source, facts)
        verify_folder(source)
    else:
        from vaco_curate import read_dataset

        read_dataset(str(source))


def worker(name: str, arguments: list[str]) -> None:
    """One process of libFuzzer: goes on until it finds something, or its time is over."""
    import atheris

    os.environ["MINARI_DATASETS_PATH"] = tempfile.mkdtemp()
    with atheris.instrument_imports(include=["vaco_curate", "numpy.lib", "zipfile", "json", "minari"]):
        from vaco_curate.errors import CurateError

        target, source = READERS[name](Path(tempfile.mkdtemp()))
        read(name, source)  # which imports the rest
    temporary = target.with_name(f"{target.stem}.new{target.suffix}")

    def one(content: bytes) -> None:
        temporary.write_bytes(content)  # a file of its own, as some libraries keep what they know by name
        temporary.replace(target)
        with contextlib.suppress(CurateError, MemoryError):
            read(name, source)

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def fuzz(name: str, folder: Path, minutes: float) -> tuple[int, dict[str, Path]]:
    """(files read, findings by what they are) of a reader."""
    corpus, findings = folder / name / "corpus", folder / name / "findings"
    for made in (corpus, findings):
        made.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        shutil.copy(READERS[name](Path(made))[0], corpus / "valid")
    ends, found, runs = time.monotonic() + 60 * minutes, dict[str, Path](), 0
    while (left := int(ends - time.monotonic())) > 5:
        done = subprocess.run(
            [
                *(sys.executable, __file__, str(folder), "--worker", name, str(corpus)),
                *(f"-max_total_time={left}", f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}"),
                *(f"-artifact_prefix={findings}/", "-print_final_stats=1", "-max_len=65536", "-len_control=0"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        runs += sum(map(int, re.findall(r"number_of_executed_units: *(\d+)", done.stdout)))
        kept = re.findall(r"Test unit written to (\S+)", done.stdout)
        if done.returncode == 0:
            break
        if not kept:  # it ended without a word on what it had read
            lost = findings / f"lost-{len(found)}"
            lost.write_text(done.stdout)
            kept = [str(lost)]
        what = next(iter(re.findall(r"^ *=== Uncaught Python exception: ===\n(.*)", done.stdout, re.M)), None)
        where = re.findall(r'File "[^"]*/(vaco_curate/[^"]*)", line (\d+)', done.stdout)
        words = what or next(iter(re.findall(r"ERROR: libFuzzer: (.*)", done.stdout)), "ended")
        key = f"{re.sub('[0-9]+', 'N', words[:160])} at {':'.join(where[-1]) if where else '?'}"
        if key not in found:
            print(f"  {name}: {key}\n    {kept[0]}", flush=True)
            (findings / f"{Path(kept[0]).name}.txt").write_text(done.stdout[-8_000:])
        found.setdefault(key, Path(kept[0]))
    return runs, found


def main() -> int:
    """Fuzz the named readers, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="for each reader")
    parser.add_argument("--readers", nargs="+", choices=READERS, default=list(READERS))
    parser.add_argument("--worker", choices=READERS, help=argparse.SUPPRESS)
    known, others = parser.parse_known_args()
    if known.worker is not None:
        worker(known.worker, others)
        return 0
    several = 0
    for name in known.readers:
        runs, found = fuzz(name, known.folder.resolve(), known.minutes)
        several += len(found)
        print(f"{name}: {runs:,} files in {known.minutes:g} minutes, {len(found)} findings", flush=True)
    return several > 0


if __name__ == "__main__":
    raise SystemExit(main())
