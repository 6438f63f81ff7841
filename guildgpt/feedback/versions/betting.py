"""Whether a guild's members prefer a candidate: asked after every round, at one error rate in all.

An observation Y in [0, 1] is what one round says of the candidate (`observations.py`). A gambler
who bets a share of their money on Y being above `bound`, at odds that are fair if its mean is just
that, grows rich only if the mean is higher. With c the share staked,

    E_n = ∫ from 0 to 1 of ∏_{i ≤ n} (1 + c (Y_i / bound - 1)) dc,    λ = c / bound,

is never negative, begins at 1, and is not expected to grow while E[Y | what was before] ≤ bound.
So by Ville's inequality P(some n: E_n ≥ 1/α) ≤ α: one may look after every round. No observation
has to be like another or independent of it; the mean, given the past, is all that is assumed.
J. Ville, "Étude critique de la notion de collectif" (1939); I. Waudby-Smith and A. Ramdas,
"Estimating means of bounded random variables by betting", arXiv 2010.09686.

The integral is a sum over Gauss's nodes. Their weights are positive and sum to one, so that the sum
is such a process itself: the bound holds for it as it is, not up to an error of integration. Up to
2 · NODES - 1 observations it also is the integral, whose integrand is a polynomial in c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

Floats = NDArray[np.float64]
State = Literal["open", "preferred", "not_preferred", "undecided"]

NODES = 80
MOST_AGAINST = 0.99  # of the money staked against the candidate: at margin .05 λ is in (0, 2.2)
BISECTIONS = 30  # a bound's error is then a billionth
LEAST_TO_FORESEE = 8  # observations; fewer say too little of how those to come will scatter
FUTURES = 200
SEED = 0


class DecisionSettings(BaseModel):
    """When a candidate is promoted or dropped."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """The chance at most that a candidate which members do not prefer is ever called preferred, and
    that one which they prefer by the margin is ever called not preferred."""
    margin: float = Field(default=0.05, gt=0, lt=0.5)
    """A candidate is dropped once its mean verdict is shown to be below one half and this."""
    max_rounds: int = Field(default=150, ge=1, le=1000)
    """After so many rounds without a decision it stays undecided."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """E-values after every observation, (..., N): against "not preferred", and against "preferred
    by the margin"."""

    preferred: Floats
    not_preferred: Floats


@dataclass(frozen=True, slots=True)
class Standing:
    """What a decision stands at; once it has fallen, later observations change nothing of it.

    `low` and `high` bound the mean: each holds after all rounds together with probability 1 - α.
    `low` reaches one half in the round in which the candidate is preferred, `high` falls to one
    half and the margin in the round in which it is not.
    """

    state: State
    rounds: int  # observations that count
    fell_at: int | None  # the last of them, from 1; None while open
    preferred: float  # the e-values
    not_preferred: float
    mean: float | None  # None without any
    low: float
    high: float
    likely_needed: int | None  # more observations until it falls; None: cannot be said, or will not
    operator_decides: bool = False


def evidence(observations: ArrayLike, settings: DecisionSettings | None = None) -> Evidence:
    """Both e-values after every observation, along the last axis.

    preferred = mean over λ in (0, 2) of ∏(1 + λ(Y - ½)), and at a margin of .05
    not_preferred = mean over λ in (0, 2.2) of ∏(1 + λ(.55 - Y)). Raises ValueError for an
    observation outside [0, 1], NaN among them.
    """
    settings = settings or DecisionSettings()
    seen = _checked(observations)
    return Evidence(*(np.exp(_log_wealth(side)) for side in _sides(seen, settings)))


def decide(
    observations: Sequence[float],
    settings: DecisionSettings | None = None,
    *,
    operator_decides: bool = False,
) -> Standing:
    """What these observations, in the order in which they were made, say of the candidate.

    The first crossing of 1/α counts. Where both e-values cross in one round, as when every round
    says .5262, both claims are shown: preferred, and by less than the margin. It is preferred then:
    which of them goes first changes neither error rate, since each bounds that its own value ever
    crosses. `operator_decides` is passed on. Raises ValueError as `evidence` does.
    """
    settings = settings or DecisionSettings()
    seen = _checked(observations)[: settings.max_rounds]
    found = evidence(seen, settings)
    won, lost = (
        np.flatnonzero(values >= 1 / settings.alpha)
        for values in (found.preferred, found.not_preferred)
    )
    first = min([*won[:1], *lost[:1]], default=None)
    state: State = "open"
    if first is not None:
        state = "preferred" if first in won else "not_preferred"
        seen = seen[: first + 1]
    elif len(seen) == settings.max_rounds:
        state = "undecided"
    count, (low, high) = len(seen), interval(seen, settings)
    return Standing(
        state=state,
        rounds=count,
        fell_at=None if state == "open" else count,
        preferred=float(found.preferred[count - 1]) if count else 1.0,
        not_preferred=float(found.not_preferred[count - 1]) if count else 1.0,
        mean=float(seen.mean()) if count else None,
        low=low,
        high=high,
        likely_needed=_likely_needed(seen, settings) if state == "open" else None,
        operator_decides=operator_decides,
    )


def interval(
    observations: ArrayLike, settings: DecisionSettings | None = None
) -> tuple[float, float]:
    """Where the mean lies, from and to: right at every look at once, each end with an error of
    alpha. Raises ValueError as `evidence` does."""
    alpha, seen = (settings or DecisionSettings()).alpha, _checked(observations)
    return _lower_bound(seen, alpha), 1 - _lower_bound(1 - seen, alpha, MOST_AGAINST)


@dataclass(frozen=True, slots=True)
class _Side:
    """Bets that the mean of the observations (..., N) is above `bound`."""

    observations: Floats
    bound: float
    most: float = 1.0  # the largest share staked

    def log_growth(self) -> Floats:
        """log(1 + c (Y / bound - 1)) for every stake, (..., N, NODES); every c is below 1, so that
        no factor is 0."""
        stakes, _ = _nodes()
        return np.log1p(self.most * stakes * (self.observations[..., None] / self.bound - 1))


def _sides(observations: Floats, settings: DecisionSettings) -> tuple[_Side, _Side]:
    """The bets on the candidate, and those against it: on what 1 - Y says, above ½ - margin."""
    against = _Side(1 - observations, 0.5 - settings.margin, MOST_AGAINST)
    return _Side(observations, 0.5), against


def _log_wealth(side: _Side) -> Floats:
    """log E after every observation, (..., N)."""
    return _log_mean(np.cumsum(side.log_growth(), axis=-2))


def _log_mean(logs: Floats) -> Floats:
    """The log of the mean over the stakes, (..., NODES) -> (...)."""
    _, weights = _nodes()
    top = logs.max(axis=-1)
    # Not a product of matrices, whose rounding would depend on how many observations there are.
    mean: Floats = np.log((np.exp(logs - top[..., None]) * weights).sum(axis=-1)) + top
    return mean


@cache
def _nodes() -> tuple[Floats, Floats]:
    """Gauss and Legendre's nodes in (0, 1), and their weights, which sum to one."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return (nodes + 1) / 2, weights / weights.sum()


def _lower_bound(observations: Floats, alpha: float, most: float = 1.0) -> float:
    """The largest bound that the mean was ever shown to be above: a confidence sequence's end.

    Every factor of E falls as the bound rises, so does its largest value over the rounds, and the
    bounds that were rejected in some round are all those below one: bisection finds it.
    """
    rejected, kept = 0.0, 1.0
    for _ in range(BISECTIONS if observations.any() else 0):
        middle = (rejected + kept) / 2
        if _log_wealth(_Side(observations, middle, most)).max() >= -log(alpha):
            rejected = middle
        else:
            kept = middle
    return rejected


def _likely_needed(observations: Floats, settings: DecisionSettings) -> int | None:
    """How many more until either value crosses, in the median of futures drawn from those seen."""
    if len(observations) < LEAST_TO_FORESEE:
        return None
    chance = np.random.default_rng(SEED)
    growths = [side.log_growth() for side in _sides(observations, settings)]
    wealths = [np.tile(growth.sum(axis=0), (FUTURES, 1)) for growth in growths]
    fallen = np.zeros(FUTURES, bool)
    for more in range(1, settings.max_rounds - len(observations) + 1):
        drawn = chance.integers(len(observations), size=FUTURES)
        for growth, wealth in zip(growths, wealths, strict=True):
            wealth += growth[drawn]
            fallen |= _log_mean(wealth) >= -log(settings.alpha)
        if 2 * fallen.sum() > FUTURES:
            return more
    return None


def _checked(observations: ArrayLike) -> Floats:
    seen = np.asarray(observations, dtype=np.float64)
    if not ((seen >= 0) & (seen <= 1)).all():
        raise ValueError("an observation is a mean of verdicts, from 0 to 1")
    return seen
