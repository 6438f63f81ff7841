"""A score that is length comes out at a half, one that knows better keeps what it knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from guildgpt.evaluate.equal_length import EqualLength, measure_equal_length
from guildgpt.evaluate.intervals import Floats, Share

PAIRS = 600


def pairs(seed: int = 0, taste: float = 1.5) -> tuple[Floats, Floats]:
    """Tokens of better and worse answers; people like longer ones with the strength `taste`."""
    generator = np.random.default_rng(seed)
    tokens = np.exp(generator.normal(4.5, 0.8, size=(PAIRS, 2))).round() + 1
    gap = np.log(tokens[:, 0] / tokens[:, 1])
    first = generator.random(PAIRS) < 1 / (1 + np.exp(-taste * gap))
    return np.where(first, *tokens.T), np.where(first, *tokens.T[::-1])


def measured(margins: Floats, better: Floats, worse: Floats) -> EqualLength:
    return measure_equal_length(margins, better, worse, [str(n) for n in range(len(margins))])


@pytest.mark.parametrize("score", [lambda n: 0.02 * n, np.sqrt, np.log, lambda n: -3 * np.log(n)])
def test_a_score_that_is_length_alone_is_a_coin(score: Callable[[Floats], Floats]) -> None:
    better, worse = pairs()
    assert (better > worse).mean() > 0.7
    # As a model would give it, in single precision.
    margins = (score(better).astype(np.float32) - score(worse).astype(np.float32)).astype(float)
    found = measured(margins, better, worse)
    assert found.regressed
    assert found.regressed.accuracy == pytest.approx(0.5, abs=0.01)
    assert found.regressed.low <= 0.5 <= found.regressed.high
    assert found.explained == pytest.approx(1)


def test_a_score_with_a_limit_to_length_is_close_to_a_coin() -> None:
    better, worse = pairs()
    margins = np.minimum(better, 150) - np.minimum(worse, 150)
    plain = (margins > 0).mean() + (margins == 0).mean() / 2
    found = measured(margins, better, worse)
    assert plain > 0.65
    assert found.regressed
    assert found.regressed.accuracy < 0.55


def test_a_score_that_knows_the_truth_beside_length_keeps_its_accuracy() -> None:
    better, worse = pairs(taste=0)
    margins = np.random.default_rng(3).normal(0.6, 1, size=PAIRS)
    plain = (margins > 0).mean()
    assert 0.65 < plain < 0.8
    for weight in (0.0, 5.0):  # and where length is mixed in
        found = measured(margins + weight * np.log(better / worse), better, worse)
        assert found.regressed
        assert found.regressed.accuracy == pytest.approx(plain, abs=0.02)
        assert found.regressed.low < plain < found.regressed.high


def test_which_answer_was_preferred_is_not_known_to_the_fit() -> None:
    """Turned round, all that was right is wrong: nothing was learned from the labels."""
    better, worse = pairs()
    margins = np.random.default_rng(4).normal(0.3, 1, size=PAIRS)
    one, other = measured(margins, better, worse), measured(-margins, worse, better)
    assert one.regressed
    assert other.regressed
    assert one.regressed.accuracy == pytest.approx(1 - other.regressed.accuracy)
    assert one.explained == pytest.approx(other.explained)


def test_matched_pairs_by_hand() -> None:
    better, worse = np.array([10.0, 10, 8, 100] * 10), np.array([8.0, 7, 10, 100] * 10)
    found = measured(np.array([1.0, 1, -1, 0] * 10), better, worse)
    assert found.matched
    assert found.matched.pairs == 30  # 7 of 10 tokens are not about as long
    assert found.matched.accuracy == pytest.approx((1 + 0 + 0.5) / 3)
    assert found.matched_by_length == 0.5


def test_pairs_that_are_all_equally_long_are_what_they_were() -> None:
    length = np.full(60, 30.0)
    margins = np.where(np.arange(60) < 45, 1.0, -1.0)
    found = measured(margins, length, length)
    assert found.matched
    assert found.regressed
    assert found.matched.accuracy == found.regressed.accuracy == 0.75
    assert (found.matched_by_length, found.explained) == (0.5, 0.0)


@pytest.mark.parametrize("pairs", [1, 29])
@pytest.mark.parametrize("tokens", [5.0, 50.0])
def test_of_a_few_pairs_nothing_is_said(pairs: int, tokens: float) -> None:
    found = measured(np.ones(pairs), np.full(pairs, 5.0), np.full(pairs, tokens))
    assert found == EqualLength(None, None, None, None)


def test_in_words() -> None:
    assert EqualLength(None, None, None, None).words.endswith("too few pairs")
    found = EqualLength(Share(1, 1.0, 1.0, 1.0), 1.0, Share(90, 0.6, 0.55, 0.65), 0.5)
    assert found.words == (
        "at equal length 60.0% (55.0% to 65.0%) of pairs with length regressed out and "
        "100.0% (100.0% to 100.0%) of the 1 pair of about equal length"
    )


def test_a_score_that_ties_everything_is_a_coin() -> None:
    better, worse = pairs()
    found = measured(np.zeros(PAIRS), better, worse)
    assert found.matched
    assert found.regressed
    assert found.matched.accuracy == found.regressed.accuracy == 0.5
    assert found.explained == 0.0


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = []
    for seed in range(30):
        better, worse = pairs(seed, taste=0)
        margins = np.random.default_rng(100 + seed).normal(0.5, 1, size=PAIRS)
        found = measured(margins[:120], better[:120], worse[:120])
        assert found.regressed
        covered.append(found.regressed.low <= 0.6915 <= found.regressed.high)  # Φ(0.5)
    assert np.mean(covered) >= 0.85


def test_pairs_of_one_tree_are_no_independent_evidence() -> None:
    better, worse = pairs()
    right = np.repeat(np.random.default_rng(2).random(PAIRS // 20) < 0.7, 20)
    margins = np.where(right, 1.0, -1.0)
    trees = [str(n // 20) for n in range(PAIRS)]
    together = measure_equal_length(margins, better, worse, trees).regressed
    apart = measured(margins, better, worse).regressed
    assert together
    assert apart
    assert together.accuracy == apart.accuracy
    assert together.high - together.low > 2 * (apart.high - apart.low)
