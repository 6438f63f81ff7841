"""What a stage tells the loop: how many steps, the passes of each, and the loss of each pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor


class Objective:
    """What a stage trains. Stages define `batches`, `weight`, `tokens`, `flops` and `loss`."""

    steps: int

    def batches(self, step: int) -> Sequence[Any]:
        """The forward and backward passes of one optimizer step."""
        raise LookupError(f"{type(self).__name__} has no passes of its own")

    def updates(self, step: int) -> Iterable[Sequence[Any]]:
        """The optimizer steps that step `step` takes, each as its passes; most stages take one.

        Reinforcement learning writes its answers first, then goes over them several times.
        """
        yield self.batches(step)

    def weight(self, batch: Any) -> float:
        """How many terms (trained tokens, prompts) the batch's summed loss has."""
        raise NotImplementedError

    def tokens(self, batch: Any) -> int:
        """How many tokens the model reads in this batch."""
        raise NotImplementedError

    def flops(self, batch: Any) -> float:
        """Floating-point operations that the batch's products take, forward and backward."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        """The summed loss of the batch, a scalar."""
        raise NotImplementedError

    def figures(self) -> Mapping[str, float]:
        """What else is to be logged of the step that was just taken."""
        return {}

    def check(self) -> None:
        """Raise a GuildError if what was just logged should end the run."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides weights and optimizer, as plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
