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
