"""Try every library, some in environments of their own, and write the table of docs/learners.md."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import textwrap
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from adapters.libraries import LIBRARIES, Library  # noqa: E402
from adapters.trial import check, lines_of_glue, run, tried  # noqa: E402

PAGE, ENVIRONMENTS = ROOT / "docs" / "learners.md", ROOT / ".venv-adapters"
BEGIN, END = "<!-- adapters: begin -->", "<!-- adapters: end -->"


def environment(name: str, library: Library) -> Path:
    """The Python of a library's environment, made if its packages are others than before."""
    if not library.steps:
        return Path(sys.executable)
    folder = ENVIRONMENTS / name
    mark, wanted = folder / "installed", hashlib.sha256(repr(library.steps).encode()).hexdigest()
    if not mark.is_file() or mark.read_text() != wanted:
        print(f"installing {library.name}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        for step in library.steps:
            command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", *step]
            subprocess.run([*command, "--disable-pip-version-check"], check=True)
        mark.write_text(wanted)
    return folder / "bin" / "python"


def walk_through_lerobot(folder: Path, python: Path) -> dict[str, Any]:
    """From the recorded folder to one without the bad episodes, by the commands of the documents."""
    path = f"{Path(sys.executable).parent}:{python.parent}:{os.environ['PATH']}"
    for command in (
        "vaco-curate score recorded --success next.success --preset quick --out walk.vaco",
        "vaco-curate filter walk.vaco --top 80%ep --out kept",
        "sh kept/_lerobot.txt",
    ):
        subprocess.run(
            command.split(), check=True, cwd=folder, env=os.environ | {"PATH": path, "HF_HUB_OFFLINE": "1"}
        )
    weights, truth = folder / "recorded-lerobot", folder / "recorded-lerobot.truth.npz"
    printed = run(
        python,
        Path(__file__).with_name("check_lerobot.py"),
        *(folder / "recorded", folder / "kept.lerobot", folder / "kept" / "_selection.pq"),
        *(weights / "sarm_progress.parquet", truth),
        folder=folder,
    )
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    assert found["copy"], found
    assert found["episodes="], found
    assert found["error of weights"] < 1e-3, found
    return found


def main() -> None:
    lines = [
        "| library | example | lines | rows | draws | wrong rows | draws against weights, r |",
        "|---|---|---|---|---|---|---|",
    ]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, library in LIBRARIES.items():
            python = environment(name, library)
            print(f"trying {library.name}", flush=True)
            found = tried(name, folder, python)
            check(found)
            lines.append(
                f"| {library.name} | [`{library.example}`](../examples/learners/{library.example}) "
                f"| {lines_of_glue(library.example)} | {found['rows']:,} | {found['draws']:,} "
                f"| {found['wrong']} | {found['correlation']:.4f} |"
            )
        walk = walk_through_lerobot(folder, environment("lerobot", LIBRARIES["lerobot"]))
    words = (
        f"LeRobot also made a copy without the dropped episodes by the printed command ({walk['episodes']} "
        f"episodes, {walk['frames']:,} frames: those that were kept), `episodes=` read the same frames, and "
        f"the weights of its RA-BC differed from ours by at most {walk['error of weights']:.0e}."
    )
    lines += ["", textwrap.fill(words, 100, break_long_words=False)]
    page = PAGE.read_text()
    assert page.count(BEGIN) == page.count(END) == 1
    PAGE.write_text(
        re.sub(f"{BEGIN}.*{END}", lambda _: "\n".join([BEGIN, *lines, "", END]), page, flags=re.DOTALL)
    )
    print("\n".join(lines))


if __name__ == "__main__":
    main()
