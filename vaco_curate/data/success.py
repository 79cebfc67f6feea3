"""Demonstrations whose reward is a flag of success: what an episode earns, and where it ends."""

from __future__ import annotations

import numpy as np

from vaco_curate.core.transitions import Array
from vaco_curate.data.episodes import Columns
from vaco_curate.data.successors import Findings


def ends_beside_success(flagged: Array, ends: Array) -> Array | None:
    """Rows at which episodes end, of a source that has a flag of success and does not number its episodes.

    They end where the source's own flags say so: the flag may be set on several frames, and failures lack it.
    They also end with the last of some flagged frames where most of these are no ends by the source's flags:
    such a source marks its failures alone.

    Args:
        flagged: (rows,) the flag of success.
        ends: (rows,) what the source's own flags end.

    Returns:
        Row numbers; None where the source has no flags of its own.
    """
    if not ends.any():
        return None
    last = flagged & (ends | ~np.append(flagged[1:], False))
    unmarked = last & ~ends
    return np.flatnonzero(ends | unmarked if 2 * unmarked.sum() > last.sum() else ends)


def earned_once(columns: Columns, step_cost: float, findings: Findings) -> dict[str, Array]:
    """Whole episodes of which each earns the reward of its success flag, and its true end, once.

    It does so on the first frame with the flag. Where all frames of an episode have it, it is a flag of the
    episode, and counts on the last frame. An episode whose last frame is no true end ends at its time limit.

    Args:
        columns: checked, with ``episode_id``; the flag is ``terminated``.
        step_cost: that was subtracted from every reward.
        findings: takes in how many episodes have the flag on several frames.
    """
    flagged, episode = columns["terminated"], columns["episode_id"]
    start = np.concatenate([[0], np.flatnonzero(np.diff(episode)) + 1])
    length = np.diff(np.append(start, len(episode)))
    last = start + length - 1
    flags = np.add.reduceat(flagged.astype(np.int64), start)
    findings.flagged += int((flags > 1).sum())
    first = np.minimum.reduceat(np.where(flagged, np.arange(len(flagged)), len(flagged)), start)
    once = np.zeros_like(flagged)
    once[np.where(flags == length, last, first)[flags > 0]] = True
    reward, truncated = columns["reward"], columns["truncated"].copy()
    truncated[last] |= ~once[last]
    unpaid = reward.dtype.type(0.0) - reward.dtype.type(step_cost)
    return {
        **columns,
        "reward": np.where(flagged & ~once, unpaid, reward),
        "terminated": once,
        "truncated": truncated,
    }
