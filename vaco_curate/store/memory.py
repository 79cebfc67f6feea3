"""How much memory there is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""Of Linux: the control groups of this process, and where their limits stand."""


def memory_of_machine() -> int:
    """Bytes that this process may have: the machine's, or fewer in a container or under ``ulimit -d``.

    More than any data needs where the system does not say.
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        physical = sys.maxsize
    return min([physical, *_own_limit(), *_limits_of_groups()])


def _own_limit() -> Iterator[int]:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
        if limit != resource.RLIM_INFINITY:
            yield limit


def _limits_of_groups() -> Iterator[int]:
    """Of the control group of this process and of those around it, in version 1 or 2."""
    try:
        lines = [line.split(":", 2) for line in GROUP.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            root, name = GROUPS / "memory", "memory.limit_in_bytes"
        elif not controllers:
            root, name = GROUPS, "memory.max"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                yield int((folder / name).read_text())
