"""Win rates by hand, mirrored, at equal length, and with intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from guildgpt.evaluate.head_to_head import (
    RIDGE,
    Floats,
    WinRate,
    controlled_rate,
    length_gap,
    win_rate,
)


def rate(
    scores: Floats,
    others: Floats,
    lengths: Floats | None = None,
    other_lengths: Floats | None = None,
    prompts: np.ndarray | None = None,  # type: ignore[type-arg]
) -> WinRate:
    level = np.full(len(scores), 10.0)
    return win_rate(
        scores,
        others,
        level if lengths is None else lengths,
        level if other_lengths is None else other_lengths,
        np.arange(len(scores)) if prompts is None else prompts,
    )


def test_worked_out_by_hand() -> None:
    found = rate(np.array([3.0, 1.0, 2.0, 5.0]), np.array([1.0, 2.0, 2.0, 4.5]))
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    assert found.rate == pytest.approx(2.5 / 4)
    assert (found.comparisons, found.prompts) == (4, 4)


def drawn(count: int = 200, seed: int = 0) -> tuple[Floats, Floats, Floats, Floats]:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 60, size=(2, count)).astype(float)
    scores = np.round(generator.normal(size=(2, count)) + 0.02 * lengths, 1)  # with some ties
    return scores[0], scores[1], lengths[0], lengths[1]


def test_with_the_sides_exchanged_it_is_one_less_itself() -> None:
    a, b, long_a, long_b = drawn()
    one, other = rate(a + 0.3, b, long_a, long_b), rate(b, a + 0.3, long_b, long_a)
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    for first, second in (
        (one.rate, other.rate),
        (one.low, other.high),
        (one.high, other.low),
        (one.controlled, other.controlled),
        (one.controlled_low, other.controlled_high),
        (one.controlled_high, other.controlled_low),
    ):
        assert first == pytest.approx(1 - second, abs=1e-9)
    assert (one.tokens, one.other_tokens) == (other.other_tokens, other.tokens)


def test_a_judge_that_only_likes_length_prefers_nobody_at_equal_length() -> None:
    generator = np.random.default_rng(3)
    other = generator.integers(10, 60, size=300).astype(float)
    lengths = other + generator.integers(-4, 30, size=300)
    found = rate(lengths, other, lengths, other)
    assert found.rate > 0.8
    assert found.controlled == pytest.approx(0.5, abs=0.06)
    assert found.controlled_low < 0.5 < found.controlled_high


def test_a_better_model_stays_better_at_equal_length() -> None:
    """It is longer too, and the judge looks at both: between the raw rate and a half."""
    generator = np.random.default_rng(4)
    other = generator.integers(20, 60, size=600).astype(float)
    lengths = other + generator.integers(-15, 30, size=600)
    # P(win) = σ(1 + 1.5 gap), the model that is fitted: the rate at equal length is σ(1) = 0.73.
    odds = 1 + 1.5 * length_gap(lengths, other)
    wins = generator.random(600) < 1 / (1 + np.exp(-odds))
    found = rate(wins.astype(float), np.full(600, 0.5), lengths, other)
    assert found.controlled == pytest.approx(1 / (1 + np.exp(-1)), abs=0.06)
    assert found.controlled_low < 1 / (1 + np.exp(-1)) < found.controlled_high
    assert found.rate > found.controlled


def test_equal_lengths_leave_the_rate_as_it_is() -> None:
    a, b, _, _ = drawn()
    found = rate(a + 0.5, b)
    assert found.controlled == pytest.approx(found.rate, abs=2e-3)


@pytest.mark.parametrize("wins", [0.0, 1.0])
def test_a_rate_of_all_or_nothing_is_finite(wins: float) -> None:
    found = rate(np.full(40, wins), np.full(40, 0.5), np.full(40, 9.0), np.arange(40.0))
    assert found.rate == wins
    assert 0 < found.controlled < 1
    assert abs(found.controlled - wins) < 0.1


def test_ties_alone_are_a_half() -> None:
    found = rate(np.ones(9), np.ones(9), np.arange(9.0), np.arange(9.0)[::-1])
    assert (found.ties, found.rate, found.low, found.high) == (9, 0.5, 0.5, 0.5)
    assert found.controlled == pytest.approx(0.5)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(5)
    covered = []
    for _ in range(40):
        wins = generator.random(100) < 0.6
        found = rate(wins.astype(float), np.full(100, 0.5))
        covered.append(found.low <= 0.6 <= found.high)
    assert np.mean(covered) >= 0.87


def test_answers_to_one_prompt_are_no_independent_evidence() -> None:
    wins = np.repeat(np.random.default_rng(6).random(25) < 0.6, 8).astype(float)
    apart = rate(wins, np.full(200, 0.5))
    together = rate(wins, np.full(200, 0.5), prompts=np.repeat(np.arange(25), 8))
    assert (apart.rate, together.prompts) == (together.rate, 25)
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_gap_is_measured_in_its_own_spread() -> None:
    gap = length_gap(np.array([10.0, 30.0, 20.0]), np.array([20.0, 20.0, 20.0]))
    spread = np.std([-10, 10, 0])
    np.testing.assert_allclose(gap, np.tanh(np.array([-10, 10, 0]) / spread))
    assert not length_gap(np.full(4, 7.0), np.full(4, 5.0)).any()


def test_the_fit_is_the_maximum_of_its_likelihood() -> None:
    """Against a search over a grid."""
    a, b, long_a, long_b = drawn(80, 7)
    verdicts = np.where(a == b, 0.5, (a > b).astype(float))
    gap = length_gap(long_a, long_b)
    theta, phi = np.meshgrid(np.linspace(-1, 1, 401), np.linspace(-1, 9, 1001), indexing="ij")
    odds = theta[..., None] + phi[..., None] * gap
    likelihood = (verdicts * odds - np.logaddexp(0, odds)).mean(-1)
    likelihood -= 0.5 * (1e-3 * theta**2 + RIDGE * phi**2)
    best = theta.ravel()[likelihood.argmax()]
    assert controlled_rate(verdicts, gap) == pytest.approx(1 / (1 + np.exp(-best)), abs=2e-3)
