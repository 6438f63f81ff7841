"""Each guard fires on its own sign and names it; none fires on a run that goes well. The price of a
nat is fixed, or steered towards a target as Ziegler et al. steer it."""

from __future__ import annotations

import json

import pytest

from guildgpt.train.config import GuardConfig, KlConfig
from guildgpt.train.guards import GuardError, Guards, KlPenalty

HEALTHY = {"kl": 4.0, "entropy": 2.0, "length": 20.0, "cut": 0.1, "loops": 0.02, "reward": 1.0}


def lived(guards: Guards, *rows: dict[str, float]) -> Guards:
    for row in rows:
        guards.check({**HEALTHY, **row})
    return guards


@pytest.mark.parametrize(
    ("sign", "named"),
    [
        ({"kl": 31.0}, "KL runaway: the policy is 31.0 nats"),
        ({"entropy": 0.39}, "entropy collapse: 0.39 nats a token, 2.00 at the start"),
        ({"length": 4.9}, "length collapse: 5 tokens an answer, 20 at the start"),
        ({"length": 40.5}, "length explosion: 40 tokens an answer, 20 at the start; the reward"),
        ({"cut": 0.36}, "length explosion: 36% of the answers do not end, 10% at the start"),
        ({"loops": 0.18, "reward": 1.5}, "loops rise with the reward: 18% of the answers loop"),
    ],
)
def test_each_sign_has_a_name(sign: dict[str, float], named: str) -> None:
    guards = lived(Guards(GuardConfig()), *[{}] * 5)
    lived(guards, sign, sign)  # two of three: the mean is not there yet
    with pytest.raises(GuardError, match="stopped after 8 iterations") as caught:
        lived(guards, sign)
    assert named in str(caught.value)
    assert "learning_rate" in str(caught.value)


@pytest.mark.parametrize(
    "sign",
    [
        {"kl": 29.0},
        {"kl": -1.0},
        {"entropy": 0.41},
        {"length": 5.1},
        {"length": 39.5, "cut": 0.34},
        {"loops": 0.18, "reward": 1.0},  # loops that are not paid for are another matter
        {"loops": 0.16, "reward": 9.0},
        {"reward": -9.0},
    ],
    ids=str,
)
def test_a_run_that_stays_within_the_limits_goes_on(sign: dict[str, float]) -> None:
    lived(Guards(GuardConfig()), *[{}] * 5, *[sign] * 10)


def test_nothing_is_judged_before_there_is_a_window() -> None:
    guards = lived(Guards(GuardConfig()), {"kl": 99.0}, {"kl": 99.0})
    with pytest.raises(GuardError, match="KL runaway"):
        lived(guards, {"kl": 99.0})


def test_a_window_of_one_sees_every_iteration() -> None:
    with pytest.raises(GuardError, match="stopped after 1 iterations"):
        lived(Guards(GuardConfig(window=1)), {"kl": 99.0})


def test_limits_come_from_the_recipe() -> None:
    loose = GuardConfig(
        max_kl=1e9, min_entropy=0, min_length=0, max_length=1e9, max_cut=2, max_loops=2
    )
    wild = {"kl": 1e6, "entropy": 0.0, "length": 1.0, "cut": 1.0, "loops": 1.0, "reward": 5.0}
    lived(Guards(loose), *[{}] * 5, *[wild] * 5, *[{**wild, "length": 1e5}] * 5)


def test_a_policy_that_learns_to_be_long_is_stopped_before_half_its_answers_are_cut() -> None:
    """What a run of the demo did that left cut answers out of its loss (docs/log.md, 2026-11-30):
    in twelve iterations the share of cut answers rose from 12 to 41 %."""
    guards = Guards(GuardConfig())
    drift = [{"cut": 0.12 + 0.29 * step / 11, "length": 60.0 + 2 * step} for step in range(15)]
    with pytest.raises(GuardError, match=r"length explosion: .* do not end"):
        lived(guards, *drift)


def test_what_was_seen_goes_through_a_checkpoint() -> None:
    first = lived(Guards(GuardConfig()), *[{}] * 5, {"entropy": 0.1}, {"entropy": 0.1})
    second = Guards(GuardConfig())
    second.history = json.loads(json.dumps(first.history))
    for guards in (first, second):
        with pytest.raises(GuardError, match="stopped after 8 iterations: entropy collapse"):
            lived(guards, {"entropy": 0.1})


# --- the price of a nat --------------------------------------------------------------------------


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
    adaptive = KlPenalty(KlConfig(beta=0.15, adaptive=True, target=6.0, horizon=10_000))
    adaptive.update(kl, 256)
    assert adaptive.beta == pytest.approx(0.15 * factor, rel=1e-12)


def test_it_steers_towards_the_target() -> None:
    """A policy that drifts the further the cheaper it is: the divergence settles at the target."""
    adaptive = KlPenalty(KlConfig(beta=0.15, adaptive=True, target=6.0, horizon=1000))
    for _ in range(400):
        adaptive.update(0.3 / adaptive.beta, 64)
    assert 0.3 / adaptive.beta == pytest.approx(6.0, rel=0.01)


def test_a_fixed_price_stays_what_the_recipe_says() -> None:
    fixed = KlPenalty(KlConfig(beta=0.07))
    fixed.update(1e9, 1000)
    assert fixed.beta == 0.07
