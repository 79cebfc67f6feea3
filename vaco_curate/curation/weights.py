"""Scores to weights of mean 1."""

from __future__ import annotations

import math

import numpy as np

from vaco_curate.curation.selection import KEPT, Selection
from vaco_curate.errors import SettingsError
from vaco_curate.transitions import Array

SMALLEST = 1e-30
"""Smallest weight relative to the largest: above zero also as float32, for a weight of zero drops a row."""


def weights_from_scores(score: Array, temperature: float) -> Array:
    """(n,) float64 weights of mean 1, proportional to w ** (1 / temperature), none of them zero.

    Args:
        score: (n,) log w, up to a constant.
        temperature: 1 keeps the scorer's weights; larger is closer to uniform.
    """
    scaled = (score.astype(np.float64) - score.max()) / temperature
    weight = np.exp(np.maximum(scaled, math.log(SMALLEST)))
    return np.asarray(weight / weight.mean())


def clipped_weights(weight: Array, maximum: float) -> Array:
    """min(c * weight, maximum) with c such that the mean is 1 again: nothing exceeds the maximum.

    The k largest weights are clipped, where k is the smallest number for which the others, scaled
    to fill the rest, stay below the maximum.

    Args:
        weight: (n,) positive, mean 1.
        maximum: above 1.
    """
    if weight.max() <= maximum:
        return weight
    count = len(weight)
    descending = np.sort(weight)[::-1]
    rest = np.cumsum(descending[::-1])[::-1]  # rest[k]: sum of all but the k largest
    clipped = np.arange(count)
    factor = (count - clipped * maximum) / rest
    first = int(np.argmax(factor * descending <= maximum))
    return np.asarray(np.minimum(weight * factor[first], maximum))


def effective_sample_share(weight: Array) -> float:
    """(sum w)^2 / (n sum w^2) of non-negative weights, in (0, 1]; Kish's effective sample size over n."""
    return float(weight.sum() ** 2 / (len(weight) * np.square(weight).sum()))


def reweight(score: Array, *, temperature: float, maximum: float | None) -> tuple[Selection, float]:
    """Keep every row with a weight of mean 1.

    Args:
        score: (n,) log w, up to a constant.
        temperature: see ``weights_from_scores``.
        maximum: largest weight allowed, ``None`` for no clip.

    Returns:
        The selection, and the effective sample share before clipping.

    Raises:
        SettingsError: a temperature or a maximum out of range.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise SettingsError(
            f"--temperature {temperature:g} must be above 0", fix="1 keeps the scorer's weights"
        )
    if maximum is not None and not maximum > 1:
        raise SettingsError(f"--clip {maximum:g} must be above 1, the mean of the weights")
    weight = weights_from_scores(score, temperature)
    before = effective_sample_share(weight)
    rule = f"weights at temperature {temperature:g}"
    if maximum is not None:
        weight, rule = clipped_weights(weight, maximum), f"{rule}, clipped at {maximum:g}"
    return Selection(weight, np.full(len(weight), KEPT, dtype=object), rule, None), before
