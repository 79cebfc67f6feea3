"""Errors a user can act on. Anything else that escapes the library is a bug and keeps its traceback."""

from __future__ import annotations

import re

OF_READ_OPTIONS = ("column", "drop-columns", "success", "step-cost", "max-episode-steps")
IN_PYTHON = {f"--{name}": f"read_options.{name.replace('-', '_')}" for name in OF_READ_OPTIONS} | {
    "--column": "read_options.columns",
    "--format": "file_format",
    "--no-cache": "cache",
    "--env": "environment",
}
"""Arguments whose names in Python are not their options' with underscores."""


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


def _in_python(line: str) -> str:
    """With the names of arguments, unless the line holds a command to be given to a shell."""
    if re.search(r"\b(vaco-curate|pip|lerobot-edit-dataset) ", line):
        return line
    return re.sub(
        r"(?<![\w-])--[a-z][a-z-]*", lambda found: IN_PYTHON.get(found[0], found[0][2:].replace("-", "_")), line
    )


class DatasetError(CurateError):
    """A dataset that cannot be read, or whose contents break the contract of ``Transitions``."""


class RunError(CurateError):
    """A run folder or an output folder that is missing, unfinished, foreign or in the way."""


class SettingsError(CurateError):
    """A setting out of range, unknown, or in conflict with another."""


class EnvironmentUnavailableError(CurateError):
    """The simulator that an evaluation needs is not installed or does not fit the dataset."""
