"""Weights as the progress from which LeRobot computes them.

LeRobot weights samples by RA-BC (SARM, Chen et al. 2025), of a file with a row for each frame: ``index``,
``episode_index`` and ``progress_sparse``. With the progress p, the chunk size C of the policy, and e(t) the
last row that has the ``episode_index`` of row t::

    r(t) = p(min(t + C, e(t))) - p(t)          M = max(mean r, 0)    S = max(std r, EPSILON), over all rows
    w(t) = clip((r(t) - M + 2 S) / (4 S + EPSILON), 0, 1)            where 0 <= r(t) <= KAPPA
    w(t) = 1 where r(t) > KAPPA, and 0 where r(t) < 0

A batch is divided by its sum, so the scale of weights does not matter. Here p is found for given weights. Rows
that no frame has, after the last one, make M = 2 S and 4 S + EPSILON = the largest r: then w(t) is r(t) over
the largest r. What ``episode_index`` numbers are groups of frames, each of which looks at the first frame of
the next group: so every frame has an r of its own, also the last of an episode, and the chunk size does not
matter.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from vaco_curate.core.transitions import Array

KAPPA, EPSILON = 0.01, 1e-6
"""LeRobot's defaults (``rabc_kappa``, ``rabc_epsilon``)."""

REACH = 50
"""Frames of a group, and the smallest chunk size that is right: the default of SmolVLA, pi0 and pi0.5."""


def rabc_table(weight: Array) -> pa.Table:
    """The file of LeRobot's RA-BC that gives frame i a weight in proportion to ``weight[i]``.

    Args:
        weight: (n,) not negative, some above 0.
    """
    change, others = _changes(weight)
    change = np.concatenate([change, others, [0.0]])  # the last row looks at itself
    index = np.arange(len(change))
    group = index // REACH
    # What a group looks at: p of the first row of the next one, which is the sum of what comes after.
    after = -np.append(np.cumsum(change[::REACH][:0:-1])[::-1], 0.0)
    progress = after[group] - change
    seam = index[REACH::REACH]  # first rows of a group are also the last ones of the group before
    index, group = np.concatenate([index, seam]), np.concatenate([group, seam // REACH - 1])
    order = np.lexsort((index, group))
    index, group = index[order], group[order]
    return pa.table({"index": index, "episode_index": group, "progress_sparse": progress[index]})


def _changes(weight: Array) -> tuple[Array, Array]:
    """(r of the frames, r of other rows), so that w(t) is in proportion to the weights.

    Half of the other rows have the one of two values and half the other: the two that give all rows the mean
    2 S and the deviation S. There are so many of them that such values exist.
    """
    share = np.asarray(weight, np.float64) / np.max(weight)
    share *= min(1.0, 0.5 / share.mean())  # of weights that hardly differ, fewer rows make up the mean
    largest = 0.99 * KAPPA
    deviation = (largest - EPSILON) / 4
    change = np.where(share > 0, largest * share, -1e-9 * KAPPA)
    total, squares = change.sum(), np.square(change).sum()
    half = 1
    while True:
        rows = len(change) + 2 * half + 1
        pair = (2 * deviation * rows - total) / half  # x + y
        pair_squares = (5 * deviation**2 * rows - squares) / half  # x^2 + y^2
        if 2 * pair_squares >= pair**2:
            root = np.sqrt(2 * pair_squares - pair**2)
            return change, np.tile([(pair + root) / 2, (pair - root) / 2], half)
        half += max(1, half // 64)
