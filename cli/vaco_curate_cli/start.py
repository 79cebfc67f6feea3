"""The entry point: it imports next to nothing before Ctrl-C can end the command quietly."""

from __future__ import annotations

import signal


def start() -> None:
    """Load the command line and run it; Ctrl-C before and after ends the process without a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vaco_curate_cli.main import main

    signal.signal(signal.SIGINT, before)
    try:
        main()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is Python's own end
