"""Shares of pairs and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Share:
    """A share of pairs and its 95 % interval; ties count half."""

    pairs: int
    accuracy: float
    low: float
    high: float


def accuracies(margins: Floats) -> Floats:
    """1 where the better answer has more, 0 where it has less, a half where they are equal."""
    return np.asarray((np.sign(margins) + 1) / 2)


def interval(values: Floats, trees: Sequence[str]) -> Share:
    """The mean of `values` (P,) and its 95 % bootstrap interval, whole trees drawn with
    replacement."""
    _, tree = np.unique(np.array(trees), return_inverse=True)
    sums, counts = np.bincount(tree, values), np.bincount(tree)
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Share(len(values), float(values.mean()), float(low), float(high))


Z = 1.959963985  # standard errors to either side of a 95 % interval


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `count` things (Wilson 1927). It is never empty, not
    even of none or all of them. Where each thing counts by a part in 0..1, it is wider than need
    be: nothing in between varies as much as yes and no."""
    spread = Z * np.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    middle, scale = share + Z**2 / (2 * count), 1 + Z**2 / count
    return float(max(middle - spread, 0) / scale), float(min((middle + spread) / scale, 1))


def paired_difference(differences: Floats) -> tuple[float, float, float]:
    """The mean of differences in -1..1 (N,), each of one thing measured twice, and its 95 %
    interval: Wald's, with half a pair for each outcome of the four that two yes-or-no answers have
    (Agresti & Min 2005), which keeps it from being empty where no pair differs."""
    count = len(differences) + 2
    mean = differences.sum() / count
    squares = np.square(differences).sum() + 1  # the half pairs that differ
    spread = Z * np.sqrt(max(squares / count - mean**2, 0) / count)
    middle = float(differences.mean())
    return middle, float(max(mean - spread, -1)), float(min(mean + spread, 1))
