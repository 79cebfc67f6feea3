"""Errors a user can act on. Anything else that escapes the library is a bug and keeps its traceback."""

from __future__ import annotations

import re

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


class CurateError(Exception):
    """A refused request.

    Messages name arguments as the command line does. As a string, for a traceback, the error names them as
    Python does.

    Args:
        problem: what is wrong and where, one line.
        details: further facts, one line each.
        fix: what the user can do about it.
    """

    def __init__(self, problem: str, *, details: tuple[str, ...] = (), fix: str | None = None) -> None:
        self.problem = problem
        self.details = details
        self.fix = fix
        super().__init__(problem)

    def __str__(self) -> str:
        return "\n".join(map(_in_python, self.lines()))

    def lines(self) -> list[str]:
        """The message as indented lines, ready to print below ``Error:``."""
        lines = [self.problem, *(f"  {detail}" for detail in self.details)]
        if self.fix is not None:
            lines.append(f"  fix: {self.fix}")
        return lines


def holds_command(line: str) -> bool:
    """Whether a line of a message holds a command to be given to a shell."""
    return COMMAND.search(line) is not None


def _in_python(line: str) -> str:
    """With Python's names of arguments; a command for a shell stays, and its function is named behind it."""
    ours = OUR_COMMAND.search(line)
    if ours is not None:
        translated = (_argument(option[0]) for option in OPTION.finditer(line, ours.end()))
        given = ", ".join(argument for argument in translated if "=" in argument)
        return f"{line} (in Python: {FUNCTIONS[ours[1]]}{f' with {given}' if given else ''})"
    return line if holds_command(line) else OPTION.sub(lambda found: _argument(found[0]), line)


def _argument(option: str) -> str:
    """``--if-exists replace`` -> ``if_exists="replace"``, ``--resume`` -> ``resume=True``."""
    option, _, value = option.partition(" ")
    name = IN_PYTHON.get(option, option[2:].replace("-", "_"))
    if value:
        return f'{name}="{value}"'
    return f"{name}=True" if option in SWITCHES else name


class DatasetError(CurateError):
    """A dataset that cannot be read, or whose contents break the contract of ``Transitions``."""


class RunError(CurateError):
    """A run folder or an output folder that is missing, unfinished, foreign or in the way."""


class SettingsError(CurateError):
    """A setting out of range, unknown, or in conflict with another."""


class EnvironmentUnavailableError(CurateError):
    """The simulator that an evaluation needs is not installed or does not fit the dataset."""
