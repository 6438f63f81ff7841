"""How much a nat of KL costs: a fixed price, or one that is steered towards a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from guildgpt.train.config import KlConfig


class KlController(Protocol):
    """The coefficient β of the KL penalty."""

    beta: float

    def update(self, kl: float, episodes: int) -> None:
        """After an iteration: the mean KL of its answers in nats, and how many they were."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""


class FixedKl:
    """The same β for the whole run."""

    def __init__(self, beta: float):
        self.beta = beta

    def update(self, kl: float, episodes: int) -> None:
        """Nothing changes."""

    def state(self) -> dict[str, Any]:
        """See `KlController.state`."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `KlController.restore`."""


class AdaptiveKl:
    """β ← β (1 + e n / horizon), e = clip(KL / target - 1, ±0.2), n episodes.

    Ziegler et al. 2019, arXiv 1909.08593, section 2.2.
    """

    def __init__(self, beta: float, target: float, horizon: int):
        self.beta = beta
        self.target = target
        self.horizon = horizon

    def update(self, kl: float, episodes: int) -> None:
        """See `KlController.update`."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.beta *= 1 + error * episodes / self.horizon

    def state(self) -> dict[str, Any]:
        """See `KlController.state`."""
        return {"beta": self.beta}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `KlController.restore`."""
        self.beta = float(state["beta"])


def controller(config: KlConfig) -> KlController:
    """The controller a recipe asks for."""
    if config.adaptive:
        return AdaptiveKl(config.beta, config.target, config.horizon)
    return FixedKl(config.beta)
