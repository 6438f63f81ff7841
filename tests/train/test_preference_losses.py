"""Losses over comparisons, against values and gradients worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from guildgpt.train.preference_losses import bradley_terry, centring, dpo


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def one(value: float) -> Tensor:
    return torch.tensor([value], requires_grad=True)


@pytest.mark.parametrize("margin", [0.0, 0.75])
def test_bradley_terry_by_hand(margin: float) -> None:
    better, worse = one(1.5), one(0.5)
    loss = bradley_terry(better, worse, margin)
    assert float(loss.detach()) == pytest.approx(-math.log(sigmoid(1.0 - margin)))
    loss.sum().backward()
    slope = -sigmoid(margin - 1.0)
    assert better.grad is not None
    assert worse.grad is not None
    assert float(better.grad) == pytest.approx(slope)
    assert float(worse.grad) == pytest.approx(-slope)


def test_a_margin_for_each_pair() -> None:
    scores, zeros = torch.tensor([2.0, 2.0]), torch.zeros(2)
    loss = bradley_terry(scores, zeros, torch.tensor([0.0, 2.0]))
    assert loss.tolist() == pytest.approx([-math.log(sigmoid(2.0)), math.log(2)])


def test_scores_far_apart_do_not_overflow() -> None:
    loss = bradley_terry(torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4]))
    assert loss.tolist() == pytest.approx([2e4, 0.0])


def test_centring_by_hand() -> None:
    assert centring(torch.tensor([2.0, 2.0]), torch.tensor([-2.0, 1.0])).tolist() == [0.0, 9.0]


def test_dpo_by_hand() -> None:
    # h = 0.1 ((-10 + 12) - (-8 + 7)) = 0.3.
    better, worse = one(-10.0), one(-8.0)
    loss = dpo(better, worse, torch.tensor([-12.0]), torch.tensor([-7.0]), 0.1)
    assert float(loss.detach()) == pytest.approx(-math.log(sigmoid(0.3)), rel=1e-5)
    loss.sum().backward()
    slope = 0.1 * sigmoid(-0.3)
    assert better.grad is not None
    assert worse.grad is not None
    assert float(better.grad) == pytest.approx(-slope, rel=1e-5)
    assert float(worse.grad) == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_begins_at_the_logarithm_of_two(smoothing: float) -> None:
    better, worse = torch.tensor([-30.0, -4.0]), torch.tensor([-2.0, -90.0])
    loss = dpo(better, worse, better, worse, 0.1, smoothing)
    assert loss.tolist() == pytest.approx([math.log(2)] * 2)


def test_smoothing_by_hand() -> None:
    loss = dpo(torch.tensor([0.0]), torch.tensor([0.0]), one(-5.0), one(5.0), 0.1, 0.2)
    assert float(loss.detach()) == pytest.approx(
        -0.8 * math.log(sigmoid(1.0)) - 0.2 * math.log(sigmoid(-1.0))
    )


def test_smoothed_dpo_is_least_where_the_odds_are_those_of_the_labels() -> None:
    h = torch.linspace(-40, 40, 8001)
    zeros = torch.zeros_like(h)
    loss = dpo(h, zeros, zeros, zeros, 0.1, 0.1)
    assert float(0.1 * h[loss.argmin()]) == pytest.approx(math.log(0.9 / 0.1), abs=2e-3)
