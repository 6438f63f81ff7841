"""Scores of versions: worked out here a second time, by other means."""

from __future__ import annotations

from datetime import UTC, datetime
from math import exp, log

import numpy as np
import pytest

from guildgpt.feedback.records import Ranking, StoredComparison, Verdict, Vote
from guildgpt.feedback.voting.rankings import ballot
from guildgpt.feedback.voting.scores import POINTS, Duel, bradley_terry, duels, win_shares

NOW = datetime(2026, 11, 30, tzinfo=UTC)
VERSIONS = {"a": "old", "b": "new", "c": "old", "d": "third"}


def vote(
    id: str, member: str, verdict: Verdict, ranking: Ranking = (), about: str = "round"
) -> Vote:
    return Vote(id, about, member, verdict, ranking, NOW)


def shown(*answers: str, id: str = "round") -> StoredComparison:
    return StoredComparison(id, "question", answers, None, NOW)


def test_a_comparison_is_one_duel_however_many_vote() -> None:
    cast = [
        vote("1", "anna", "ranked", (1, 0)),
        vote("2", "ben", "ranked", (1, 0)),
        vote("3", "cleo", "tie"),
        vote("4", "dora", "ranked", (0, 1)),
        vote("5", "emil", "skip"),
    ]
    (found,) = duels([shown("a", "b")], cast, VERSIONS)
    assert found == Duel("old", "new", (0 + 0 + 0.5 + 1) / 4)
    share = win_shares([found])["new"]
    assert (share.count, share.of) == (0.625, 1)


def test_of_ranked_answers_each_pair_of_two_versions_is_a_duel() -> None:
    cast = [vote("1", "anna", "ranked", (3, (0, 1), 2))]
    found = duels([shown("a", "b", "c", "d")], cast, VERSIONS)
    said = {(duel.one, duel.other, duel.said) for duel in found}
    # a = b, c is last, d first; a and c are of one version.
    assert said == {
        ("old", "new", 0.5),
        ("new", "old", 1.0),
        ("old", "third", 0.0),
        ("new", "third", 0.0),
    }
    assert len(found) == 5


def test_equals_share_their_place_on_a_ballot() -> None:
    tiers = ballot(shown("a", "b", "c", "d"), vote("1", "anna", "ranked", (3, (0, 1))))
    assert tiers == (frozenset("d"), frozenset("ab"), frozenset("c"))


def test_two_versions_score_as_the_formula_says() -> None:
    won = 30
    scores = bradley_terry([Duel("new", "old", 1.0)] * won + [Duel("new", "old", 0.0)] * 10)
    lead = (scores["new"].points - scores["old"].points) / POINTS

    def likelihood(half: float) -> float:
        """At θ = half and -half, with the two draws against strength 0."""
        wins, losses = log(1 + exp(-2 * half)), log(1 + exp(2 * half))
        draws = log(1 + exp(-half)) + log(1 + exp(half))
        return -won * wins - 10 * losses - draws

    grid = np.linspace(0, 2, 200_001)
    best = grid[np.argmax([likelihood(float(half)) for half in grid])]
    assert lead == pytest.approx(2 * best, abs=1e-4)
    assert 1 < lead < log(3)  # the odds are 3 to 1, drawn a little towards even


def test_scores_are_where_the_likelihood_is_highest_and_as_wide_as_it_is_flat() -> None:
    chance = np.random.default_rng(0)
    strength = {"a": 0.8, "b": 0.0, "c": -0.3, "d": -0.5}
    names = sorted(strength)
    met = []
    for _ in range(400):
        one, other = chance.choice(names, 2, replace=False)
        wins = chance.random() < 1 / (1 + exp(strength[other] - strength[one]))
        met.append(Duel(str(one), str(other), float(wins)))
    scores = bradley_terry(met)
    theta = np.array([scores[name].points / POINTS for name in names])
    assert theta.sum() == pytest.approx(0, abs=1e-9)

    def log_likelihood(at: np.ndarray) -> float:
        of = dict(zip(names, at, strict=True))
        total = 0.0
        for duel in met:
            wins = 1 / (1 + exp(of[duel.other] - of[duel.one]))
            total += duel.said * log(wins) + (1 - duel.said) * log(1 - wins)
        return total - sum(log(1 + exp(-x)) + log(1 + exp(x)) for x in at) / 2

    # The Hessian by differences, at its own maximum, which the average shifts by a constant.
    small = 1e-3
    eye = np.eye(len(names)) * small
    shift = min(np.linspace(-0.2, 0.2, 4001), key=lambda s: -log_likelihood(theta + float(s)))
    peak = theta + float(shift)
    for step in [*eye, *-eye]:
        assert log_likelihood(peak + step) < log_likelihood(peak)
    hessian = np.array(
        [
            [
                (
                    log_likelihood(peak + x + y)
                    - log_likelihood(peak + x - y)
                    - log_likelihood(peak - x + y)
                    + log_likelihood(peak - x - y)
                )
                / (4 * small**2)
                for y in eye
            ]
            for x in eye
        ]
    )
    centre = np.eye(4) - 0.25
    errors = np.sqrt(np.diag(centre @ np.linalg.inv(-hessian) @ centre))
    for name, error in zip(names, errors, strict=True):
        width = (scores[name].high - scores[name].low) / POINTS
        assert width == pytest.approx(2 * 1.959964 * error, rel=1e-3)


def test_who_won_everything_has_a_score_and_a_wide_interval() -> None:
    scores = bradley_terry([Duel("new", "old", 1.0)] * 3)
    assert 0 < scores["new"].points < 400
    assert scores["new"].low < 0 < scores["new"].high


def test_nothing_has_no_scores() -> None:
    assert bradley_terry([]) == {}
    assert win_shares([]) == {}
    assert bradley_terry([Duel("a", "b", 0.5)])["a"].points == pytest.approx(0)
