"""What holds a policy near where it began: the price of KL, and guards that stop a run gone wrong.

A policy that is paid for a score finds what the score overlooks. Each guard watches a sign of that
which needs no judge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from guildgpt.errors import GuildError
from guildgpt.train.config import GuardConfig, KlConfig

WATCHED = ("kl", "entropy", "length", "cut", "loops", "reward")


class KlPenalty:
    """What a nat of KL costs, β: a fixed price, or one that is steered towards a target.

    Steered: β ← β (1 + e n / horizon), e = clip(KL / target - 1, ±0.2), n episodes. Ziegler et al.
    2019, arXiv 1909.08593, section 2.2.
    """

    def __init__(self, config: KlConfig):
        self.config = config
        self.beta = config.beta

    def update(self, kl: float, episodes: int) -> None:
        """After an iteration: the mean KL of its answers in nats, and how many they were."""
        if self.config.adaptive:
            error = min(max(kl / self.config.target - 1, -0.2), 0.2)
            self.beta *= 1 + error * episodes / self.config.horizon


class GuardError(GuildError):
    """Reinforcement learning went wrong in a way that has a name."""


class LossError(GuildError):
    """The loss, or the gradient, is no number at step `step` (from 1); no weight was changed."""

    def __init__(self, step: int, what: str, **more: Any):
        self.step = step
        super().__init__(what, **more)


@dataclass
class Guards:
    """The means of the first iterations, and of the latest, held against the limits.

    `kl` in nats an answer, `entropy` in nats a token, `length` in tokens, `cut` and `loops` as
    shares of answers, `reward` as the scorer gives it.
    """

    config: GuardConfig
    history: list[dict[str, float]] = field(default_factory=list)

    def check(self, figures: Mapping[str, float]) -> None:
        """Note an iteration's figures; GuardError, with the cause, where a limit is passed."""
        self.history.append({name: float(figures[name]) for name in WATCHED})
        if len(self.history) < self.config.window:
            return
        first = _means(self.history[: self.config.window])
        last = _means(self.history[-self.config.window :])
        if cause := self._cause(first, last):
            raise GuardError(
                f"stopped after {len(self.history)} iterations: {cause}",
                remedy="Lower learning_rate, raise kl.beta, or look at the samples in "
                "samples.jsonl for what the reward overlooks. The limits are `guards`.",
            )

    def _cause(self, first: Mapping[str, float], last: Mapping[str, float]) -> str | None:
        limits = self.config
        causes = [
            (
                last["kl"] > limits.max_kl,
                f"KL runaway: the policy is {last['kl']:.1f} nats an answer away from where it "
                f"began (limit {limits.max_kl:g})",
            ),
            (
                last["entropy"] < limits.min_entropy * first["entropy"],
                f"entropy collapse: {last['entropy']:.2f} nats a token, {first['entropy']:.2f} at "
                "the start; it says the same thing every time",
            ),
            (
                last["length"] < limits.min_length * first["length"],
                f"length collapse: {last['length']:.0f} tokens an answer, {first['length']:.0f} "
                "at the start",
            ),
            (
                last["length"] > limits.max_length * first["length"],
                f"length explosion: {last['length']:.0f} tokens an answer, {first['length']:.0f} "
                "at the start; the reward likes long answers",
            ),
            (
                last["cut"] > first["cut"] + limits.max_cut,
                f"length explosion: {last['cut']:.0%} of the answers do not end, "
                f"{first['cut']:.0%} at the start",
            ),
            (
                last["reward"] > first["reward"]
                and last["loops"] > first["loops"] + limits.max_loops,
                f"loops rise with the reward: {last['loops']:.0%} of the answers loop, "
                f"{first['loops']:.0%} at the start; the reward likes repetition",
            ),
        ]
        return next((cause for happened, cause in causes if happened), None)


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in WATCHED}
