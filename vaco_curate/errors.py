"""Errors a user can act on. Anything else that escapes the library is a bug and keeps its traceback."""

from __future__ import annotations

from vaco_curate.wording import in_python


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
        return "\n".join(map(in_python, self.lines()))

    def lines(self) -> list[str]:
        """The message as indented lines, ready to print below ``Error:``."""
        lines = [self.problem, *(f"  {detail}" for detail in self.details)]
        if self.fix is not None:
            lines.append(f"  fix: {self.fix}")
        return lines


class DatasetError(CurateError):
    """A dataset that cannot be read, or whose contents break the contract of ``Transitions``."""


class RunError(CurateError):
    """A run folder or an output folder that is missing, unfinished, foreign or in the way."""


class SettingsError(CurateError):
    """A setting out of range, unknown, or in conflict with another."""


class EnvironmentUnavailableError(CurateError):
    """The simulator that an evaluation needs is not installed or does not fit the dataset."""
