"""A decision is held against exact integrals, the game that it stands for, and simulated guilds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import comb, factorial, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from guildgpt.feedback.versions.betting import DecisionSettings, decide, evidence

HALF, RAISED = Fraction(1, 2), Fraction(55, 100)
means = st.lists(st.integers(0, 20).map(lambda twentieths: twentieths / 20), min_size=1)


def exact(steps: Sequence[Fraction], reach: Fraction) -> float:
    """The mean over λ in (0, reach) of ∏(1 + λ step): a polynomial's coefficients, integrated."""
    terms = [Fraction(1)]
    for step in steps:
        raised = [Fraction(0), *(term * step for term in terms)]
        terms = [a + b for a, b in zip([*terms, Fraction(0)], raised, strict=True)]
    return float(sum(term * reach**power / (power + 1) for power, term in enumerate(terms)))


def e_values(observations: Sequence[float]) -> tuple[float, float]:
    found = evidence(observations)
    return float(found.preferred[-1]), float(found.not_preferred[-1])


def test_one_round_by_hand() -> None:
    """∫ (1 + λ/2) dλ / 2 over (0, 2) = 1 + 1/2, and ∫ (1 - .45 λ) dλ / 2.2 over (0, 2.2)."""
    assert e_values([1.0]) == pytest.approx((1.5, 1 - 0.45 * 1.1))
    assert e_values([0.0]) == pytest.approx((0.5, 1 + 0.55 * 1.1))
    assert e_values([0.5]) == pytest.approx((1.0, 1 + 0.05 * 1.1))


def test_two_rounds_by_hand() -> None:
    """∫ (1 + λ/2)(1 - λ/2) dλ / 2 = 1 - 4/12."""
    assert evidence([1.0, 0.0]).preferred == pytest.approx([1.5, 2 / 3])


def test_seven_wins_in_a_row_decide() -> None:
    """(2^(n+1) - 1) / (n + 1) is 18.1 after six and 31.9 after seven."""
    won = decide([1.0] * 40)
    assert (won.state, won.fell_at, won.preferred) == ("preferred", 7, pytest.approx(255 / 8))
    assert decide([1.0] * 6).state == "open"
    assert decide([0.0] * 40).state == "not_preferred"


@pytest.mark.parametrize("count", [1, 10, 150])
def test_it_is_the_integral(count: int) -> None:
    tenths = np.random.default_rng(count).binomial(10, 0.55, count)
    rounds = [Fraction(int(tenth), 10) for tenth in tenths]
    assert e_values([float(one) for one in rounds]) == pytest.approx(
        (
            exact([one - HALF for one in rounds], Fraction(2)),
            exact([RAISED - one for one in rounds], Fraction(22, 10)),
        ),
        rel=1e-9,
    )


@pytest.mark.parametrize(("wins", "of"), [(3, 4), (12, 20), (90, 150)])
def test_of_whole_verdicts_it_is_the_beta_binomials(wins: int, of: int) -> None:
    """2^(n+1) B(S+1, n-S+1) (1 - I_½(S+1, n-S+1)); the last factor is a binomial's sum."""
    beta = Fraction(factorial(wins) * factorial(of - wins), factorial(of + 1))
    below = sum(comb(of + 1, k) for k in range(wins + 1))  # 2^(n+1) cancels
    assert e_values([1.0] * wins + [0.0] * (of - wins))[0] == pytest.approx(float(beta * below))


@given(means, st.integers(1, 9))
def test_a_fair_next_round_is_expected_to_change_nothing(rounds: list[float], tenth: int) -> None:
    before = e_values(rounds)
    for side, middle in enumerate((0.5, 0.55)):
        off = tenth / 10 * (1 - middle)
        up, down = e_values([*rounds, middle + off]), e_values([*rounds, middle - off])
        assert (up[side] + down[side]) / 2 == pytest.approx(before[side])


@given(means, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_count_in_the_end(rounds: list[float], chance) -> None:
    mixed = rounds[:]
    chance.shuffle(mixed)
    assert e_values(mixed) == pytest.approx(e_values(rounds))


@given(means)
def test_a_better_round_never_speaks_against_the_candidate(rounds: list[float]) -> None:
    better = [min(1.0, rounds[0] + 0.05), *rounds[1:]]
    (won, lost), (won_before, lost_before) = e_values(better), e_values(rounds)
    assert won >= won_before * (1 - 1e-9)
    assert lost <= lost_before * (1 + 1e-9)


@given(means, means)
@settings(max_examples=40, deadline=None)
def test_later_rounds_do_not_change_a_decision(rounds: list[float], later: list[float]) -> None:
    found = decide(rounds * 4)
    if found.state != "open":
        assert decide(rounds * 4 + later) == found
        assert found.fell_at == found.rounds
        assert decide((rounds * 4)[: found.rounds]) == found
        assert decide((rounds * 4)[: found.rounds - 1]).state == "open"


@given(means)
@settings(max_examples=40, deadline=None)
def test_the_interval_says_what_the_state_says(rounds: list[float]) -> None:
    """`low` reaches ½ with the candidate's promotion, `high` falls to .55 with its dropping."""
    found = decide(rounds * 3)
    assert 0 <= found.low <= found.high <= 1
    assert (found.low >= 0.5) == (found.preferred >= 20)
    assert (found.high <= 0.55 + 1e-8) == (found.not_preferred >= 20)


def test_the_interval_never_widens_and_keeps_the_mean() -> None:
    rounds = np.random.default_rng(5).binomial(10, 0.53, 60) / 10
    seen = [decide(list(rounds[:count])) for count in range(1, 61)]
    assert {one.state for one in seen} == {"open"}
    assert all(a.low <= b.low and a.high >= b.high for a, b in pairwise(seen))
    assert all(one.low < 0.53 < one.high for one in seen)


def test_both_claims_may_be_shown_in_one_round() -> None:
    """Rounds that hardly scatter show a mean above ½ and below .55 at once: it is preferred."""
    both = decide([0.5262] * 150)
    assert both.state == "preferred"
    assert both.preferred >= 20
    assert both.not_preferred >= 20
    assert decide([0.5255] * 150).state == "not_preferred"  # shown four rounds sooner


def test_ties_only_are_no_preference() -> None:
    found = decide([0.5] * 150)
    assert (found.state, found.preferred) == ("not_preferred", pytest.approx(1.0))


def test_without_rounds_nothing_is_said() -> None:
    found = decide([])
    assert (found.state, found.fell_at, found.mean) == ("open", None, None)
    assert (found.preferred, found.not_preferred, found.low, found.high) == (1, 1, 0, 1)
    assert found.likely_needed is None


def test_after_the_last_round_it_stays_undecided() -> None:
    torn = [1.0, 0.0, 1.0, 0.0, 1.0] * 4
    end = DecisionSettings(max_rounds=20)
    assert decide(torn[:-1], end).state == "open"
    found = decide([*torn, *[1.0] * 40], end)
    assert (found.state, found.fell_at, found.rounds) == ("undecided", 20, 20)
    assert found.likely_needed is None


@pytest.mark.parametrize("bad", [nan, -0.1, 1.1])
def test_what_is_no_mean_of_verdicts_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        decide([0.5, bad])


@pytest.mark.parametrize("bad", [{"alpha": 0}, {"alpha": 1}, {"margin": 0.5}, {"max_rounds": 0}])
def test_settings_that_decide_nothing_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DecisionSettings.model_validate(bad)


def test_a_stricter_rule_asks_for_more() -> None:
    rounds = [0.8, 0.6] * 75
    strict, usual = decide(rounds, DecisionSettings(alpha=0.001)), decide(rounds)
    assert strict.fell_at is not None
    assert usual.fell_at is not None
    assert strict.fell_at > usual.fell_at
    assert strict.preferred >= 1000


def test_how_many_more_are_likely_needed() -> None:
    assert decide([0.7] * 7).likely_needed is None  # too few to say
    steady = decide([0.7] * 8)  # the future is known: as many as are really needed
    needed = decide([0.7] * 150).fell_at
    assert steady.likely_needed is not None
    assert needed == 8 + steady.likely_needed
    good, better = ([0.8, 0.4, high, 0.6] * 3 for high in (0.6, 0.8))
    more, less = decide(good).likely_needed, decide(better).likely_needed
    assert more is not None
    assert less is not None
    assert less < more
    assert decide(good) == decide(good)  # seeded
    assert decide([1.0, 0.05, 1.0, 0.1] * 3, DecisionSettings(max_rounds=20)).likely_needed is None


def guild_rounds(true: float, canaries: int, seed: int) -> np.ndarray:
    """150 rounds each: ten of twenty members, whose leanings scatter by .15 around the guild's own
    share, on prompts that move all of them by .15."""
    chance = np.random.default_rng(seed)
    own = chance.normal(0, 0.15, (canaries, 1, 20))
    own += true - own.mean(axis=-1, keepdims=True)
    share = np.clip(own + chance.normal(0, 0.15, (canaries, 150, 1)), 0, 1)
    verdicts = chance.random(share.shape) < share
    present = chance.random(share.shape).argsort(axis=-1)[..., :10]
    rounds: np.ndarray = np.take_along_axis(verdicts, present, axis=-1).mean(axis=-1)
    return rounds


@pytest.mark.parametrize(
    ("true", "promoted", "dropped"),
    [(0.5, (0, 0.05), (0.5, 1)), (0.6, (0.95, 1), (0, 0.05)), (0.45, (0, 0.01), (0.97, 1))],
)
def test_a_guild_decides_within_its_error_rate(
    true: float, promoted: tuple[float, float], dropped: tuple[float, float]
) -> None:
    """Looked at after every round, 300 canaries, seed 12; the whole table: `bench/canaries.py`."""
    found = evidence(guild_rounds(true, 300, seed=12))
    won, lost = (
        np.where((side >= 20).any(axis=1), (side >= 20).argmax(axis=1), 150)
        for side in (found.preferred, found.not_preferred)
    )
    assert promoted[0] <= ((won <= lost) & (won < 150)).mean() <= promoted[1]
    assert dropped[0] <= (lost < won).mean() <= dropped[1]
