"""The price of a nat: fixed, or steered towards a target as Ziegler et al. steer it."""

from __future__ import annotations

import json

import pytest

from guildgpt.train.config import KlConfig
from guildgpt.train.kl import AdaptiveKl, FixedKl, controller


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (6.0, 1.0),  # on target
        (6.6, 1 + 0.1 * 256 / 10_000),  # a tenth above it
        (5.4, 1 - 0.1 * 256 / 10_000),
        (60.0, 1 + 0.2 * 256 / 10_000),  # the error is clipped to a fifth
        (0.0, 1 - 0.2 * 256 / 10_000),
        (-3.0, 1 - 0.2 * 256 / 10_000),  # an estimate may be negative
    ],
)
def test_the_formula(kl: float, factor: float) -> None:
    adaptive = AdaptiveKl(0.15, target=6.0, horizon=10_000)
    adaptive.update(kl, 256)
    assert adaptive.beta == pytest.approx(0.15 * factor, rel=1e-12)


def test_it_steers_towards_the_target() -> None:
    """A policy that drifts the further the cheaper it is: the divergence settles at the target."""
    adaptive = AdaptiveKl(0.15, target=6.0, horizon=1000)
    for _ in range(400):
        adaptive.update(0.3 / adaptive.beta, 64)
    assert 0.3 / adaptive.beta == pytest.approx(6.0, rel=0.01)


def test_what_it_has_learned_goes_through_a_checkpoint() -> None:
    config = KlConfig(beta=0.15, adaptive=True)
    first = controller(config)
    for kl in (3.0, 20.0, 7.1):
        first.update(kl, 32)
    second = controller(config)
    assert second.beta == 0.15
    second.restore(json.loads(json.dumps(first.state())))
    assert second.beta == first.beta != 0.15
    for one in (first, second):
        one.update(4.4, 32)
    assert second.beta == first.beta


def test_a_fixed_price_stays_what_the_recipe_says() -> None:
    fixed = controller(KlConfig(beta=0.07))
    assert isinstance(fixed, FixedKl)
    fixed.update(1e9, 1000)
    fixed.restore(fixed.state())
    assert fixed.beta == 0.07
