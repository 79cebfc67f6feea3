"""Make ``terminal.svg`` from a real run: ``python docs/images/terminal.py``, some two minutes.

The commands are run as typed, on the demo's dataset, and what they print is kept as it is, but for lines that
progress bars write over each other.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from vaco_curate.demo import record_pendulum

COMMANDS = (
    "vaco-curate score play.hdf5",
    "vaco-curate filter --top 10%",
)
WIDTH = 100
PICTURE = Path(__file__).with_name("terminal.svg")


def printed(command: str, folder: Path) -> str:
    """What a command prints where there is no terminal, in color."""
    environment = os.environ | {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command.split(),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def last_bars(text: str) -> str:
    """Without cursor movements, and of bars that are drawn again and again, only the last."""
    lines, bars = [], dict[str, str]()
    for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[(\?25[lh]|[0-9]*[AK]|2K)", "", text)):
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        bar = re.match(r"(reading|scoring|writing|value phase|bi-level phase|checking the dataset)\s", plain)
        if bar:
            bars[bar[1]] = line
        else:
            lines.append(line)
    return "\n".join([*bars.values(), *lines])


def main() -> None:
    """Run the commands and draw what they print."""
    console = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        record_pendulum(folder / "play.hdf5")
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
            console.print(Text.from_ansi(last_bars(printed(command, folder)).strip()))
            console.print()
    drawn = console.export_svg(title="vaco-curate")
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # the reader's own font, from no server
    PICTURE.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n")


if __name__ == "__main__":
    main()
