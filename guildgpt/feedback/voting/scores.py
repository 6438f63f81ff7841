"""How good versions are by their duels: win rates and Bradley-Terry scores, both with intervals.

The unit is a comparison, not a vote: members who vote on the same two answers depend on each other,
so a comparison says one thing, the mean of its voters' verdicts, ties (and both bad) one half. What
one pair of answers says of two versions is a duel. Where several answers were ranked, each pair of
two versions is a duel of its own.

R. A. Bradley and M. E. Terry, "Rank analysis of incomplete block designs: I", Biometrika 39 (1952);
intervals from the observed information, as in D. R. Hunter, "MM algorithms for generalized
Bradley-Terry models", Annals of Statistics 32 (2004).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log
from statistics import fmean

import numpy as np

from guildgpt.feedback.records import StoredComparison, Vote
from guildgpt.feedback.voting.rankings import Share, ballot, latest, wilson

Z95 = 1.959963984540054  # of a 95 % interval
POINTS = 400 / log(10)  # of a unit of log odds: a lead of 400 points wins ten times of eleven
STEPS = 100  # of Newton's method; a handful are enough
SMALL = 1e-10


@dataclass(frozen=True, slots=True)
class Duel:
    """What a comparison says of `one` against `other`: from 0 to 1, in the mean of its votes."""

    one: str
    other: str
    said: float


@dataclass(frozen=True, slots=True)
class Score:
    """Points above the average of all, with a 95 % interval."""

    points: float
    low: float
    high: float


def duels(
    comparisons: Iterable[StoredComparison], votes: Iterable[Vote], versions: Mapping[str, str]
) -> list[Duel]:
    """The duels in members' newest votes; `versions` names the version of each answer. Pairs within
    one version, or with an answer of none, are none, and skipped votes say nothing."""
    shown = {item.id: item for item in comparisons}
    said: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for vote in latest(votes):
        there = shown.get(vote.comparison_id)
        tiers = ballot(there, vote) if there else None
        place = {answer: rank for rank, tier in enumerate(tiers or ()) for answer in tier}
        for first, second in combinations(sorted(place), 2):
            ahead = place[second] - place[first]
            said[vote.comparison_id, first, second].append(
                0.5 + 0.5 * (ahead > 0) - 0.5 * (ahead < 0)
            )
    found = [
        Duel(versions[first], versions[second], fmean(values))
        for (_, first, second), values in said.items()
        if first in versions and second in versions
    ]
    return [duel for duel in found if duel.one != duel.other]


def win_shares(duels: Iterable[Duel]) -> dict[str, Share]:
    """The share that each version won of its duels, with Wilson's 95 % interval. A duel may be won
    by half: what lies between 0 and 1 scatters less than what is either, so the interval holds."""
    won: defaultdict[str, list[float]] = defaultdict(list)
    for duel in duels:
        won[duel.one].append(duel.said)
        won[duel.other].append(1 - duel.said)
    return {version: wilson(sum(said), len(said)) for version, said in sorted(won.items())}


def bradley_terry(duels: Sequence[Duel]) -> dict[str, Score]:
    """Each version's score: P(i beats j) = 1 / (1 + exp(θ_j - θ_i)), the average of all θ is 0.

    θ maximises Σ y log P(i beats j) + (1 - y) log P(j beats i) over the duels, and over one more
    for each version: a draw against a player of strength 0. Without it nobody who won all of theirs
    had a score. The interval is ± 1.96 standard errors, from the inverse of the negative Hessian.
    """
    names = sorted({name for duel in duels for name in (duel.one, duel.other)})
    if not names:
        return {}
    place = {name: index for index, name in enumerate(names)}
    # A draw against strength 0: half a win and half a loss, P = 1 / (1 + exp(-θ_i)).
    one = np.array([place[duel.one] for duel in duels])
    other = np.array([place[duel.other] for duel in duels])
    said = np.array([duel.said for duel in duels])
    theta = np.zeros(len(names))
    for _ in range(STEPS):
        gradient, information = _slopes(theta, one, other, said)
        step = np.linalg.solve(information, gradient)
        theta = theta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), SMALL))
        if float(np.abs(step).max()) < SMALL:
            break
    covariance = np.linalg.inv(_slopes(theta, one, other, said)[1])
    centre = np.eye(len(names)) - 1 / len(names)  # what is above the average of all
    theta, covariance = centre @ theta, centre @ covariance @ centre.T
    errors = np.sqrt(np.clip(np.diag(covariance), 0, None))
    return {
        name: Score(
            *(POINTS * float(value) for value in (mean, mean - Z95 * error, mean + Z95 * error))
        )
        for name, mean, error in zip(names, theta, errors, strict=True)
    }


def _slopes(
    theta: np.ndarray, one: np.ndarray, other: np.ndarray, said: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient (V,) and negative Hessian (V, V) of the log-likelihood at θ (V,)."""
    beats = 1 / (1 + np.exp(theta[other] - theta[one]))
    alone = 1 / (1 + np.exp(-theta))
    gradient = 0.5 - alone
    np.add.at(gradient, one, said - beats)
    np.add.at(gradient, other, beats - said)
    information = np.diag(alone * (1 - alone))
    weight = beats * (1 - beats)
    for rows, columns, sign in (
        (one, one, 1),
        (other, other, 1),
        (one, other, -1),
        (other, one, -1),
    ):
        np.add.at(information, (rows, columns), sign * weight)
    return gradient, information
