"""How well a reward model's scores agree with people's comparisons.

Accuracy alone says little: it stands beside chance, beside what the length of the answers gives
away, and beside how sure the model was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from guildgpt.data.examples import Example, Ranking
from guildgpt.errors import GuildError
from guildgpt.evaluate.equal_length import EqualLength, measure_equal_length
from guildgpt.evaluate.intervals import Floats, Share, accuracies, interval
from guildgpt.evaluate.logistic import sigmoid
from guildgpt.text.figures import percent

if TYPE_CHECKING:
    from torch import Tensor

BINS = 4


class Scorer(Protocol):
    """Whatever gives each answer a number."""

    def scores(self, examples: Sequence[Example]) -> Tensor:
        """One score (rows,) for each example."""


@runtime_checkable
class Ensemble(Protocol):
    """A scorer that has one head or several, whose mean its score is."""

    def scores_by_head(self, examples: Sequence[Example]) -> Tensor:
        """The scores (rows, heads) of each example."""


@dataclass(frozen=True, slots=True)
class MarginBin:
    """Pairs whose scores lie about as far apart: how sure the model was, and how often right."""

    pairs: int
    margin: float  # mean |r_i - r_j|
    expected: float  # mean σ(|r_i - r_j|): what it would be if the model knew its own doubts
    accuracy: float


@dataclass(frozen=True, slots=True)
class MemberFigures:
    """How far the members of an ensemble agree on which answer of a pair is the better one."""

    members: int
    disagreement: float  # the share of pairs, and of pairs of members, that differ in the order
    agreed: Share | None  # on the pairs that all members order alike; None where there is none
    agreed_share: float

    @property
    def words(self) -> str:
        """The figures in a sentence without its end."""
        heads = f"its {self.members} heads"
        differ = f"two of them differ on {percent(self.disagreement)}"
        if self.agreed is None:
            return f"{heads} agree on no pair ({differ}): their mean says little"
        return (
            f"{heads} agree on {percent(self.agreed_share)} of pairs, of which "
            f"{percent(self.agreed.accuracy)} are right ({differ})"
        )


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
    equal_length: EqualLength | None = None  # older runs did not measure it
    ensemble: MemberFigures | None = None  # where the scorer has several members

    @property
    def by_length(self) -> float:
        """What length alone gives, with hindsight about whether longer or shorter is better."""
        return max(self.longer, 1 - self.longer)

    @property
    def further(self) -> str:
        """What is said beside accuracy, in a sentence without its end: at equal length, and how far
        an ensemble agrees."""
        return "; ".join(one.words for one in (self.equal_length, self.ensemble) if one)

    @property
    def beats_length(self) -> bool:
        """Whether the interval lies above what the length of the answers gives away."""
        return self.low > self.by_length


def measure_preferences(
    scorer: Scorer, rankings: Mapping[str, Sequence[Ranking]]
) -> dict[str, PreferenceFigures]:
    """The figures of each source that has comparisons."""
    return {source: _measure(scorer, rows) for source, rows in rankings.items() if rows}


def _measure(scorer: Scorer, rows: Sequence[Ranking]) -> PreferenceFigures:
    answers = [example for row in rows for example in row.answers]
    by_head = _scores(scorer, answers)
    scores = by_head.mean(1)
    better, worse, trees = _pairs(rows)
    lengths = np.array([float(answer.trained) for answer in answers])
    margins = scores[better] - scores[worse]
    right = interval(accuracies(margins), trees)
    bins = _bins(margins)
    return PreferenceFigures(
        prompts=len(rows),
        pairs=len(margins),
        accuracy=right.accuracy,
        low=right.low,
        high=right.high,
        longer=float(accuracies(lengths[better] - lengths[worse]).mean()),
        log_loss=float(np.logaddexp(0, -margins).mean()),
        calibration_error=sum(b.pairs * abs(b.expected - b.accuracy) for b in bins) / len(margins),
        bins=bins,
        equal_length=measure_equal_length(margins, lengths[better], lengths[worse], trees),
        ensemble=_agreement(by_head[better] - by_head[worse], trees),
    )


def _scores(scorer: Scorer, answers: Sequence[Example]) -> Floats:
    """The scores (answers, heads) of every head; one column where there is one alone."""
    if isinstance(scorer, Ensemble):
        return finite(scorer.scores_by_head(answers))
    return finite(scorer.scores(answers))[:, None]


def finite(scores: Tensor) -> Floats:
    """Scores as they are; GuildError where one is not a number."""
    found = np.asarray(scores.double().numpy())
    if bad := int((~np.isfinite(found)).sum()):
        raise GuildError(
            f"{bad:,} of {found.size:,} scores of the reward model are not numbers",
            remedy="Its weights are broken: was its training healthy?",
        )
    return found


def _agreement(margins: Floats, trees: Sequence[str]) -> MemberFigures | None:
    """From the score differences (pairs, members) how far members agree; a tie is an order of its
    own."""
    members = margins.shape[1]
    if members == 1:
        return None
    orders = np.sign(margins)
    couples = [(i, j) for i in range(members) for j in range(i)]
    differ = float(np.mean([(orders[:, i] != orders[:, j]).mean() for i, j in couples]))
    alike = (orders == orders[:, :1]).all(1)
    agreed = None
    if alike.any():
        own = [tree for tree, kept in zip(trees, alike, strict=True) if kept]
        agreed = interval(accuracies(margins[alike, 0]), own)
    return MemberFigures(members, differ, agreed, float(alike.mean()))


def _pairs(rows: Sequence[Ranking]) -> tuple[list[int], list[int], list[str]]:
    """For each pair the places of the better and of the worse answer, all answers laid end to end,
    and whose tree it is."""
    better: list[int] = []
    worse: list[int] = []
    trees: list[str] = []
    first = 0
    for row in rows:
        better += [first + i for i, _ in row.pairs]
        worse += [first + j for _, j in row.pairs]
        trees += [f"{row.source} {row.tree}"] * len(row.pairs)
        first += len(row.answers)
    return better, worse, trees


def _bins(margins: Floats) -> tuple[MarginBin, ...]:
    """Pairs by how far apart their scores are, in `BINS` groups of equal size."""
    order = np.argsort(np.abs(margins), kind="stable")
    return tuple(
        MarginBin(
            pairs=len(part),
            margin=float(np.abs(margins[part]).mean()),
            expected=float(sigmoid(np.abs(margins[part])).mean()),
            accuracy=float(accuracies(margins[part]).mean()),
        )
        for part in np.array_split(order, BINS)
        if len(part)
    )
