"""One trial of a library: numbered rows are scored and weighted, its example runs, its draws are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from adapters.libraries import EXAMPLES, LIBRARIES
from adapters.truth import numbered, rows_file, weighted, write_demonstrations

from vaco_curate import ReadOptions

HERE = Path(__file__).parent


def tried(name: str, folder: Path, python: Path = Path(sys.executable)) -> dict[str, Any]:
    """What the draws of a library were.

    Args:
        folder: to work in; what others have made there is used again.
        python: where the library is installed.
    """
    library, options = LIBRARIES[name], None
    source = folder / "rows.hdf5"
    if library.source == "rows" and not source.exists():
        rows_file(folder)
    if library.source == "robomimic":
        source = write_demonstrations(folder / "demos.hdf5", numbered())
    if library.source == "lerobot":
        source, options = folder / "recorded", ReadOptions(success="next.success")
        if not source.exists():
            run(python, HERE / "record_lerobot.py", source, folder=folder)
    out = weighted(folder, source, library.file_format, options)
    arguments = [str(out / "data" / f"{out.name}.npz")] if library.file_format == "npz" else [str(out)]
    if library.source != "rows":
        arguments.insert(0, str(source))
    truth = folder / f"{out.name}.truth.npz"
    printed = run(python, HERE / "count.py", name, truth, EXAMPLES / library.example, *arguments, folder=folder)
    return json.loads(printed.splitlines()[-1])


def run(python: Path, *arguments: object, folder: Path) -> str:
    """What a script prints; without the network, and without what lies on the path here."""
    environment = os.environ | {
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
    }
    command = [str(python), "-P", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def check(found: dict[str, Any]) -> None:
    """Every row is drawn as it is, and as often as its weight says."""
    assert found["wrong"] == 0, found
    assert found["outside"] == 0, found
    assert found["spread"] > 5, "the weights must differ for the counts to say anything"
    assert found["correlation"] > 0.98, found
    assert abs(found["chi_square"] - 1) < 5 * (2 / found["cells"]) ** 0.5, found


def lines_of_glue(example: str) -> int:
    """Lines of code of an example, training included."""
    code = (EXAMPLES / example).read_text().split('"""', 2)[2]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in code.splitlines())
