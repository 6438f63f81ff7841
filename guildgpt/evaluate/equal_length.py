"""How often a score is right where length cannot help it.

People prefer longer answers, so a score that grows with length is right often and knows nothing.
Two figures say what is left without it: the accuracy on pairs whose answers are about equally long,
and the accuracy of the score once everything that length explains is taken out of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guildgpt.evaluate.intervals import RESAMPLES, Floats, Share, accuracies, interval
from guildgpt.text.figures import percent

CHUNK = 1_000_000  # numbers held at a time
ALIKE = 0.8  # the shorter answer has at least this share of the longer one's tokens
FEWEST = 30  # pairs; fewer say little, and a fit of three slopes explains whatever stands there
TIE = 1e-6  # of the differences' spread: what rounding leaves of a score that is length alone


@dataclass(frozen=True, slots=True)
class EqualLength:
    """Accuracies of a score where length cannot help it; None where too few pairs are there."""

    matched: Share | None  # on the pairs that are about equally long
    matched_by_length: float | None  # on these what length alone gives, with hindsight
    regressed: Share | None  # all pairs, with length regressed out of the score
    explained: float | None  # the share of the score differences' squares that length explains

    @property
    def words(self) -> str:
        """The figures in a sentence without its end."""
        if not self.matched and not self.regressed:
            return "at equal length nothing can be said: too few pairs"
        parts = []
        if self.regressed:
            parts.append(f"{_with_interval(self.regressed)} of pairs with length regressed out")
        if one := self.matched:
            pairs = f"the {one.pairs:,} pair{'s' * (one.pairs != 1)} of about equal length"
            parts.append(f"{_with_interval(one)} of {pairs}")
        return f"at equal length {' and '.join(parts)}"


def _with_interval(share: Share) -> str:
    return f"{percent(share.accuracy)} ({percent(share.low)} to {percent(share.high)})"


def length_differences(better: Floats, worse: Floats) -> Floats:
    """What may be length in a score: differences (P, 3) in tokens, in their root and logarithm."""

    def shapes(tokens: Floats) -> Floats:
        tokens = np.maximum(tokens, 1.0)
        return np.stack([tokens, np.sqrt(tokens), np.log(tokens)], axis=1)

    return shapes(better) - shapes(worse)


def measure_equal_length(
    margins: Floats, better: Floats, worse: Floats, trees: Sequence[str]
) -> EqualLength:
    """The figures of score differences (P,), better less worse, whose answers have `better` and
    `worse` tokens (P,); `trees` says which pairs are no independent evidence."""
    alike = np.minimum(better, worse) >= ALIKE * np.maximum(better, worse)
    matched = by_length = None
    if alike.sum() >= FEWEST:
        own = [tree for tree, kept in zip(trees, alike, strict=True) if kept]
        matched = interval(accuracies(margins[alike]), own)
        longer = float(accuracies((better - worse)[alike]).mean())
        by_length = max(longer, 1 - longer)
    regressed = explained = None
    shapes = length_differences(better, worse)
    if len(margins) >= FEWEST:
        regressed, explained = _regressed(margins, shapes, trees)
    return EqualLength(matched, by_length, regressed, explained)


def _regressed(margins: Floats, shapes: Floats, trees: Sequence[str]) -> tuple[Share, float]:
    """The accuracy of what length leaves of the score, and the share that length explains.

    A least-squares fit without a constant, anew for each resample of trees. Both sides change their
    sign if a pair is turned round, so the fit cannot know which answer people preferred.
    """
    spread = np.sqrt(np.square(shapes).mean(0))
    unit = shapes / np.where(spread > 0, spread, 1)
    _, tree = np.unique(np.array(trees), return_inverse=True)
    generator = np.random.default_rng(0)
    count, rows = int(tree.max()) + 1, max(CHUNK // len(margins), 1)
    found: list[float] = []
    for first in range(0, RESAMPLES, rows):
        drawn = generator.integers(count, size=(min(rows, RESAMPLES - first), count))
        weights = np.stack([np.bincount(one, minlength=count)[tree] for one in drawn]).astype(float)
        right = accuracies(_residuals(margins, unit, weights))
        found += ((right * weights).sum(1) / weights.sum(1)).tolist()
    low, high = np.percentile(found, [2.5, 97.5])
    left = _residuals(margins, unit, np.ones((1, len(margins))))[0]
    total = np.square(margins).sum()
    explained = float(1 - np.square(left).sum() / total) if total > 0 else 0.0
    share = Share(len(margins), float(accuracies(left).mean()), float(low), float(high))
    return share, explained


def _residuals(margins: Floats, unit: Floats, weights: Floats) -> Floats:
    """Score differences less what the best function of length explains of them: a row (P,) for
    each row of weights (R, P)."""
    gram = np.einsum("rp,pi,pj->rij", weights, unit, unit, optimize=True)
    moment = (weights * margins) @ unit
    slopes = (np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ moment[:, :, None])[:, :, 0]
    left = margins - slopes @ unit.T
    left[np.abs(left) <= TIE * np.sqrt(np.square(margins).mean())] = 0
    return np.asarray(left)
