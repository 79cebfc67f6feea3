"""Names of arguments in messages: written and stored as the command line's, shown in Python as its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

OF_READ_OPTIONS = ("column", "drop-columns", "success", "step-cost", "max-episode-steps")
IN_PYTHON = {f"--{name}": f"read_options.{name.replace('-', '_')}" for name in OF_READ_OPTIONS} | {
    "--column": "read_options.columns",
    "--format": "file_format",
    "--no-cache": "cache",
    "--env": "environment",
    "--preset": "settings",
}
"""Arguments whose names in Python are not their options' with underscores."""

FORMATS = "parquet|d4rl|npz|minari|robomimic|lerobot|weights|npy"
LITERALS = {
    "--if-exists": "fail|skip|replace",
    "--level": r"transition|episode|window:\d+",
    "--format": FORMATS,
    "--engine": "local|ray",
    "--preset": "quick|standard|paper",
    "--by": "score|vaco_score|q_value|advantage|return|random",
    "--device": "auto|cpu|cuda",
}
"""Values that are words of ours, by option."""

SWITCHES = ("--resume", "--selection-only", "--dry-run")
"""Options without a value."""

FUNCTIONS = {
    "inspect": "inspect_dataset",
    "score": "score_dataset",
    "filter": "filter_dataset",
    "reweight": "reweight_dataset",
    "eval": "evaluate_policy",
    "report": "report_run",
    "convert": "convert_dataset",
    "verify": "verify_folder",
}
"""What a command is called in Python."""

OUR_COMMAND = re.compile(rf"\bvaco-curate ({'|'.join(FUNCTIONS)})\b")
COMMAND = re.compile(rf"{OUR_COMMAND.pattern}|\b(pip install|lerobot-edit-dataset|minari list) ?")
OPTION = re.compile(
    "|".join(rf"(?<![\w-]){option} (?:{values})(?![\w-]|:\w)" for option, values in LITERALS.items())
    + r"|(?<![\w-])--[a-z][a-z-]*"
)


VALUE = r"('[^']+'|(?!(?:and|or|if|is|makes|names|takes)\b)[^\s;']*[^\s;:,.'])"
NAMED = re.compile(
    r"(?<![\w-])(?:(--column) ('[^']+'|\w+=[^\s;,':]+(?:,\w+=[^\s;,':]+)*)"
    rf"|(--success|--drop-columns|--env|--dataset) {VALUE})"
)
"""Options with a name behind them."""

PROPOSED, ALL_WEIGHTED = re.compile(r"\bfilter --top (\d+%(?:ep)?)|^reweight$"), "reweight_dataset(run)"
"""Proposed commands without their run."""


class Note(str):
    """A sentence for a user, in which arguments have their names in Python.

    Attributes:
        on_command_line: the same with the names of options, as it is printed there and stored in manifests.
    """

    on_command_line: str

    def __new__(cls, on_command_line: str) -> Note:
        """From the sentence with the names of options; a note stays as it is."""
        if isinstance(on_command_line, Note):
            return on_command_line
        note = super().__new__(cls, in_python(on_command_line))
        note.on_command_line = on_command_line
        return note

    def __getnewargs__(self) -> tuple[str]:
        return (self.on_command_line,)


def as_notes(sentences: Iterable[str]) -> tuple[Note, ...]:
    """Sentences with the command line's names, for who calls from Python."""
    return tuple(map(Note, sentences))


def holds_command(line: str) -> bool:
    """Whether a line of a message holds a command to be given to a shell."""
    return COMMAND.search(line) is not None


def in_python(line: str) -> str:
    """With Python's names of arguments; a command for a shell stays, and its function is named behind it."""
    ours = OUR_COMMAND.search(line)
    if ours is not None:
        translated = (_argument(option[0]) for option in OPTION.finditer(line, ours.end()))
        given = ", ".join(argument for argument in translated if "=" in argument)
        return f"{line} (in Python: {FUNCTIONS[ours[1]]}{f' with {given}' if given else ''})"
    if holds_command(line):
        return line
    line = PROPOSED.sub(lambda found: f'filter_dataset(run, "{found[1]}")' if found[1] else ALL_WEIGHTED, line)
    line = NAMED.sub(lambda found: _with_value(found[1] or found[3], found[2] or found[4]), line)
    return OPTION.sub(lambda found: _argument(found[0]), line)


def _with_value(option: str, value: str) -> str:
    """``--success done`` -> ``ReadOptions(success="done")``, ``--env ID`` -> ``environment="ID"``."""
    value = value.strip("'")
    if option == "--column":
        pairs = (pair.partition("=") for pair in value.split(","))
        quoted = (f'"{ours}": ' + (theirs if theirs == "..." else f'"{theirs}"') for ours, _, theirs in pairs)
        return f"ReadOptions(columns={{{', '.join(quoted)}}})"
    if option == "--drop-columns":
        return f"ReadOptions(drop_columns={json.dumps(value.split(','))})"
    if option == "--success":
        return f'ReadOptions(success="{value}")'
    return f'{IN_PYTHON.get(option, option[2:])}="{value}"'


def _argument(option: str) -> str:
    """``--if-exists replace`` -> ``if_exists="replace"``, ``--resume`` -> ``resume=True``."""
    option, _, value = option.partition(" ")
    name = IN_PYTHON.get(option, option[2:].replace("-", "_"))
    if value:
        return f'{name}="{value}"'
    return f"{name}=True" if option in SWITCHES else name
