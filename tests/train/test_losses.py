"""Losses, against values and gradients worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from guildgpt.train.losses import (
    bradley_terry,
    centring,
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    dpo,
    kl_k3,
    kto,
    kto_reference_point,
    unlikelihood,
)


def policy_loss(ratio: float, advantage: float) -> tuple[float, float]:
    """The loss of one token and its gradient with respect to the log-probability."""
    old = torch.tensor([-1.0])
    logprobs = (old + math.log(ratio)).requires_grad_()
    loss = clipped_policy_loss(logprobs, old, torch.tensor([advantage]), 0.2)
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    return float(loss.detach()), float(gradient)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.0, -2.0, 2.0, 2.0),
        (1.1, 2.0, -2.2, -2.2),  # inside the clip: -A ρ, whose derivative is itself
        (1.5, 2.0, -2.4, 0.0),  # likelier by more than a fifth already: no more to gain
        (0.5, 2.0, -1.0, -1.0),  # good, and less likely: pulled back with all its weight
        (0.5, -2.0, 1.6, 0.0),  # bad, and less likely by more than a fifth: enough
        (1.5, -2.0, 3.0, 3.0),  # bad, and likelier: pushed down with all its weight
    ],
)
def test_the_clip_by_hand(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    assert policy_loss(ratio, advantage) == pytest.approx((loss, gradient), rel=1e-5, abs=1e-6)


def test_the_unlikelihood_by_hand() -> None:
    logprobs = torch.tensor([0.5, 0.9, 1.0]).log().requires_grad_()
    loss = unlikelihood(logprobs)
    assert loss.tolist() == pytest.approx([math.log(2), math.log(10), math.log(1e4)], rel=1e-3)
    (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
    assert gradient.tolist() == pytest.approx([1, 9, 0], rel=1e-4)  # p / (1 - p)


@pytest.mark.parametrize(
    ("value", "old", "target", "loss", "gradient"),
    [
        (1.1, 1.0, 2.0, 0.405, -0.9),  # inside: ½ (1.1 - 2)²
        (1.5, 1.0, 2.0, 0.32, 0.0),  # moved far enough towards it: ½ (1.2 - 2)²
        (0.5, 1.0, 2.0, 1.125, -1.5),  # moved away: ½ (0.5 - 2)² is more than ½ (0.8 - 2)²
        (0.5, 1.0, 0.0, 0.32, 0.0),
        (1.5, 1.0, 0.0, 1.125, 1.5),
    ],
)
def test_the_value_clip_by_hand(
    value: float, old: float, target: float, loss: float, gradient: float
) -> None:
    values = torch.tensor([value], requires_grad=True)
    found = clipped_value_loss(values, torch.tensor([old]), torch.tensor([target]), 0.2)
    (slope,) = torch.autograd.grad(found.sum(), values)
    assert (float(found.detach()), float(slope)) == pytest.approx((loss, gradient), abs=1e-6)


# --- divergence ----------------------------------------------------------------------------------


def distributions(seed: int) -> tuple[Tensor, Tensor]:
    """log π and log π_ref of a vocabulary of 40."""
    logits = 2 * torch.randn(2, 40, generator=torch.Generator().manual_seed(seed)).double()
    ours, ref = torch.log_softmax(logits, -1)
    return ours, ref


@pytest.mark.parametrize("seed", range(5))
def test_k1_and_k3_have_the_mean_that_the_divergence_is(seed: int) -> None:
    """By exact expectation under π, no sampling."""
    ours, ref = distributions(seed)
    kl = torch.nn.functional.kl_div(ref, ours, log_target=True, reduction="sum")
    weights = ours.exp()
    assert float((weights * (ours - ref)).sum()) == pytest.approx(float(kl))
    assert float((weights * kl_k3(ours, ref)).sum()) == pytest.approx(float(kl))
    assert float(kl) > 0


@pytest.mark.parametrize("seed", range(5))
def test_k3_is_never_negative_and_varies_less(seed: int) -> None:
    ours, ref = distributions(seed)
    k1, k3 = (ours - ref), kl_k3(ours, ref)
    assert bool((k1 < 0).any())
    assert bool((k3 >= 0).all())
    assert float(kl_k3(ours, ours).abs().max()) == 0
    near = torch.log_softmax(ours + 0.1 * (ref - ours), -1)
    weights = ours.exp()
    spread = [float((weights * k(ours, near).square()).sum()) for k in (torch.sub, kl_k3)]
    assert spread[1] < spread[0]


def test_the_gradient_of_k3_pulls_towards_the_reference() -> None:
    logprobs = torch.tensor([-0.5, -2.0], requires_grad=True)
    kl_k3(logprobs, torch.tensor([-1.0, -1.0])).sum().backward()
    # 1 - e^{ref - log π}: the first token is likelier than it was, the second less likely.
    expected = [1 - math.exp(-0.5), 1 - math.exp(1.0)]
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx(expected)


def test_the_share_of_clipped_tokens() -> None:
    old = torch.zeros(5)
    ratios = torch.tensor([1.0, 1.19, 1.21, 0.79, 0.81])
    assert float(clip_fraction(ratios.log(), old, 0.2)) == pytest.approx(0.4)


# --- from comparisons ----------------------------------------------------------------------------


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


# --- from verdicts on single answers -------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "ratio", "loss"),
    [
        # β = 0.5, z = 2, a good answer counts 3: 3 (1 - σ(0.5 (r - 2))) and 1 - σ(0.5 (2 - r)).
        (True, 2.0, 3 * 0.5),
        (True, 2.0 + 2 * math.log(3), 3 * 0.25),
        (True, 2.0 - 2 * math.log(3), 3 * 0.75),
        (False, 2.0, 0.5),
        (False, 2.0 + 2 * math.log(3), 0.75),
        (False, 2.0 - 2 * math.log(3), 0.25),
    ],
)
def test_kto(good: bool, ratio: float, loss: float) -> None:
    r = torch.tensor([ratio], requires_grad=True)
    weight = torch.tensor([3.0 if good else 1.0])
    found = kto(r, torch.tensor([good]), torch.tensor(2.0), 0.5, weight)
    assert found.item() == pytest.approx(loss, rel=1e-5)
    (gradient,) = torch.autograd.grad(found.sum(), r)
    share = loss / weight.item()
    slope = weight.item() * 0.5 * share * (1 - share)
    assert gradient.item() == pytest.approx(-slope if good else slope, rel=1e-5)


def test_the_reference_point_of_kto_is_never_below_nothing() -> None:
    assert kto_reference_point(torch.tensor([3.0, -1.0])).item() == 1.0
    assert kto_reference_point(torch.tensor([-3.0, 1.0])).item() == 0.0
