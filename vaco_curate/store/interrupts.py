"""Signals that end a command are kept in mind: a library may swallow what they raise, and go on without a part.

An import that Ctrl-C stopped half way is such a case: whoever tried it may take the module for missing.
"""

from __future__ import annotations

_received: list[type[KeyboardInterrupt]] = []


def forget() -> None:
    """To be called when a command has ended."""
    _received.clear()


def receive(kind: type[KeyboardInterrupt]) -> None:
    """Keep a signal in mind, and raise it.

    Raises:
        KeyboardInterrupt: of the kind.
    """
    _received.append(kind)
    raise kind


def raise_received() -> None:
    """To be called before an output gets its name: what was made after a signal may lack something.

    Raises:
        KeyboardInterrupt: a signal was received.
    """
    if _received:
        raise _received[-1]
