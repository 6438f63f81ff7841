"""Advantages against closed forms, against NumPy, and against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.train.advantages import (
    Floats,
    Mask,
    gae,
    group_relative,
    leave_one_out,
    token_rewards,
    whiten,
)

LENGTHS = [1, 7, 3, 12, 12, 5]
LONGEST = max(LENGTHS)


def ragged(lengths: list[int] = LENGTHS) -> Mask:
    mask: Mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return mask


def drawn(seed: int) -> tuple[Floats, Floats, Mask]:
    """Rewards and values, with numbers outside the mask that must not matter."""
    generator = np.random.default_rng(seed)
    mask = ragged()
    rewards = np.where(mask, generator.normal(size=mask.shape), 0.0)
    return rewards, generator.normal(size=mask.shape), mask


# --- rewards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(1, LONGEST + 1))
def test_the_score_lands_on_the_last_token_of_every_length(length: int) -> None:
    mask = ragged([length, LONGEST])
    rewards = token_rewards(np.array([2.5, -1.0]), np.zeros(mask.shape), 0.05, mask)
    expected = np.zeros(mask.shape)
    expected[0, length - 1], expected[1, LONGEST - 1] = 2.5, -1.0
    np.testing.assert_array_equal(rewards, expected)


def test_each_token_pays_for_its_own_divergence_and_padding_for_none() -> None:
    mask = ragged([2, 3])
    kl = np.array([[0.5, -0.25, 99.0], [1.0, 0.0, 2.0]])
    rewards = token_rewards(np.array([3.0, 4.0]), kl, 0.1, mask)
    np.testing.assert_allclose(rewards, [[-0.05, 3.025, 0.0], [-0.1, 0.0, 3.8]])


# --- generalised advantage estimation ------------------------------------------------------------


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_one_is_the_discounted_return_less_the_value(gamma: float) -> None:
    rewards, values, mask = drawn(1)
    advantages, returns = gae(rewards, values, mask, gamma, 1.0)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            discounted = sum(gamma ** (k - t) * rewards[row, k] for k in range(t, length))
            assert returns[row, t] == pytest.approx(discounted)
            assert advantages[row, t] == pytest.approx(discounted - values[row, t])


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_lambda_zero_is_the_error_of_one_step(gamma: float) -> None:
    rewards, values, mask = drawn(2)
    advantages, _ = gae(rewards, values, mask, gamma, 0.0)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            following = values[row, t + 1] if t + 1 < length else 0.0
            expected = rewards[row, t] + gamma * following - values[row, t]
            assert advantages[row, t] == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.5, 1))
def test_the_closed_form(seed: int, lam: float, gamma: float) -> None:
    """A_t = Σ_l (γ λ)^l δ_{t+l}, equation 16 of the paper, within each answer."""
    rewards, values, mask = drawn(seed)
    advantages, returns = gae(rewards, values, mask, gamma, lam)
    for row, length in enumerate(LENGTHS):
        v = [*values[row, :length], 0.0]
        delta = [rewards[row, t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected = sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length))
            assert advantages[row, t] == pytest.approx(expected, abs=1e-9)
            assert returns[row, t] == pytest.approx(expected + v[t], abs=1e-9)


def test_an_example_worked_out_by_hand() -> None:
    # δ = (0 + ½·4 - 2, 0 + ½·2 - 4, 3 - 2) = (0, -3, 1); γλ = ¼.
    # A_3 = 1, A_2 = -3 + ¼ = -2.75, A_1 = 0 - 2.75/4 = -0.6875.
    rewards, values = np.array([[0.0, 0.0, 3.0]]), np.array([[2.0, 4.0, 2.0]])
    advantages, returns = gae(rewards, values, ragged([3]), gamma=0.5, lam=0.5)
    np.testing.assert_allclose(advantages, [[-0.6875, -2.75, 1.0]])
    np.testing.assert_allclose(returns, [[1.3125, 1.25, 3.0]])


def test_padding_is_zero_and_changes_nothing() -> None:
    rewards, values, mask = drawn(3)
    together = gae(rewards, values, mask)
    for found in together:
        assert not found[~mask].any()
    for row, length in enumerate(LENGTHS):
        alone = gae(
            rewards[row : row + 1, :length], values[row : row + 1, :length], ragged([length])
        )
        for found, one in zip(together, alone, strict=True):
            np.testing.assert_array_equal(found[row, :length], one[0])


# --- whitening -----------------------------------------------------------------------------------


def test_whitening_is_numpys_over_the_mask_alone() -> None:
    values, _, mask = drawn(4)
    values = values * 3 + 2
    masked = np.ma.array(values, mask=~mask)
    expected = (masked - masked.mean()) / np.sqrt(masked.var() + 1e-8)
    np.testing.assert_allclose(whiten(values, mask), expected.filled(0.0), rtol=1e-12)
    kept = (expected + masked.mean()).filled(0.0)
    np.testing.assert_allclose(whiten(values, mask, keep_mean=True), kept, rtol=1e-12)


def test_what_lies_outside_the_mask_does_not_move_the_mean() -> None:
    values, _, mask = drawn(5)
    shifted = np.where(mask, values, 1e6)
    np.testing.assert_array_equal(whiten(shifted, mask), whiten(values, mask))
    inside = whiten(values, mask)[mask]
    assert inside.mean() == pytest.approx(0, abs=1e-12)
    assert inside.std() == pytest.approx(1, abs=1e-6)


def test_equal_values_are_whitened_to_nothing() -> None:
    mask = ragged([1, 3])
    np.testing.assert_array_equal(whiten(np.full(mask.shape, 4.0), mask), np.zeros(mask.shape))


# --- groups --------------------------------------------------------------------------------------


def test_leave_one_out_by_hand() -> None:
    # 1 - (2+6)/2, 2 - (1+6)/2, 6 - (1+2)/2, and a pair.
    np.testing.assert_allclose(leave_one_out(np.array([[1.0, 2.0, 6.0]])), [[-3.0, -1.5, 4.5]])
    np.testing.assert_allclose(leave_one_out(np.array([[1.0, 4.0]])), [[-3.0, 3.0]])


def test_relative_to_the_group_by_hand() -> None:
    # Mean 3, squared distances 4, 1, 9: variance 14/3.
    scores = np.array([[1.0, 2.0, 6.0]])
    spread = np.sqrt(14 / 3) + 1e-4
    np.testing.assert_allclose(group_relative(scores), [[-2 / spread, -1 / spread, 3 / spread]])
    np.testing.assert_allclose(group_relative(scores, by_spread=False), [[-2.0, -1.0, 3.0]])


@pytest.mark.parametrize("relative", [leave_one_out, group_relative])
def test_groups_do_not_see_each_other_and_equal_scores_say_nothing(relative: object) -> None:
    assert callable(relative)
    scores = np.array([[5.0, 5.0, 5.0, 5.0], [0.0, 1.0, 2.0, 3.0]])
    found = relative(scores)
    np.testing.assert_array_equal(found[0], np.zeros(4))
    np.testing.assert_allclose(found[1], relative(scores[1:])[0])
    np.testing.assert_allclose(found.sum(1), 0, atol=1e-12)
