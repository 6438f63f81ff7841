"""How well a reward model's scores agree with people's comparisons.

Accuracy alone says little: it stands beside chance, beside what the length of the answers gives
away, and beside how sure the model was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from guildgpt.data.examples import Example, Ranking

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLES = 2000
BINS = 4


class Scorer(Protocol):
    """Whatever gives each answer a number."""

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """One score (rows,) for each example."""


@dataclass(frozen=True, slots=True)
class MarginBin:
    """Pairs whose scores lie about as far apart: how sure the model was, and how often right."""

    pairs: int
    margin: float  # mean |r_i - r_j|
    expected: float  # mean σ(|r_i - r_j|): what it would be if the model knew its own doubts
    accuracy: float


@dataclass(frozen=True, slots=True)
class PreferenceFigures:
    """The figures of one set of comparisons. Accuracies are shares of pairs; ties count half."""

    prompts: int
    pairs: int
    accuracy: float
    low: float  # the 95 % interval of `accuracy`, trees resampled whole
    high: float
    longer: float  # the accuracy of "the longer answer is better"
    log_loss: float  # nats a pair; ln 2 = 0.693 for a model that knows nothing
    calibration_error: float  # mean |expected - accuracy| over the bins, weighted by their pairs
    bins: tuple[MarginBin, ...]

    @property
    def by_length(self) -> float:
        """What length alone gives, with hindsight about whether longer or shorter is better."""
        return max(self.longer, 1 - self.longer)

    @property
    def beats_length(self) -> bool:
        """Whether the interval lies above what the length of the answers gives away."""
        return self.low > self.by_length


def measure_preferences(
    scorer: Scorer, rankings: Mapping[str, Sequence[Ranking]], seed: int = 0
) -> dict[str, PreferenceFigures]:
    """The figures of each source that has comparisons."""
    return {
        source: _measure(scorer, rows, np.random.default_rng(seed))
        for source, rows in rankings.items()
        if rows
    }


def _measure(
    scorer: Scorer, rows: Sequence[Ranking], generator: np.random.Generator
) -> PreferenceFigures:
    answers = [example for row in rows for example in row.answers]
    scores = scorer.scores(answers).double().numpy()
    margins, lengths, trees = _pairs(rows, scores, answers)
    right = _right(margins)
    low, high = _interval(right, trees, generator)
    bins = _bins(margins)
    return PreferenceFigures(
        prompts=len(rows),
        pairs=len(margins),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        longer=float(_right(lengths).mean()),
        log_loss=float(np.logaddexp(0, -margins).mean()),
        calibration_error=sum(b.pairs * abs(b.expected - b.accuracy) for b in bins) / len(margins),
        bins=bins,
    )


def _pairs(
    rows: Sequence[Ranking], scores: NDArray[np.float64], answers: Sequence[Example]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """For each pair, better less worse: scores, answers' lengths in tokens, and whose tree."""
    places: list[tuple[int, int]] = []
    trees: list[str] = []
    first = 0
    for row in rows:
        places += [(first + i, first + j) for i, j in row.pairs]
        trees += [f"{row.source} {row.tree}"] * len(row.pairs)
        first += len(row.answers)
    lengths = np.array([float(answer.trained) for answer in answers])
    better, worse = np.array(places).T
    return scores[better] - scores[worse], lengths[better] - lengths[worse], trees


def _right(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the better answer has more, 0 where it has less, a half where they are equal."""
    return np.asarray((np.sign(differences) + 1) / 2)


def _interval(
    right: NDArray[np.float64], trees: Sequence[str], generator: np.random.Generator
) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean, whole trees drawn with replacement."""
    _, tree = np.unique(np.array(trees), return_inverse=True)
    sums, counts = np.bincount(tree, right), np.bincount(tree)
    drawn = generator.integers(len(counts), size=(RESAMPLES, len(counts)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _bins(margins: NDArray[np.float64]) -> tuple[MarginBin, ...]:
    """Pairs by how far apart their scores are, in `BINS` groups of equal size."""
    order = np.argsort(np.abs(margins), kind="stable")
    return tuple(
        MarginBin(
            pairs=len(part),
            margin=float(np.abs(margins[part]).mean()),
            expected=float((1 / (1 + np.exp(-np.abs(margins[part])))).mean()),
            accuracy=float(_right(margins[part]).mean()),
        )
        for part in np.array_split(order, BINS)
        if len(part)
    )
