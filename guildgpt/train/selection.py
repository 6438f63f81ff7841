"""Early stopping: the weights that held-out rows liked best are the ones that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from guildgpt.network.world import World
from guildgpt.train.checkpoint import put_weights, write_weights

BEST = "best.safetensors"


@dataclass
class Selection:
    """Keeps the weights with the highest mean of one held-out figure over all sources; none without
    a figure.

    `patience` is how many measurements in a row may bring nothing better before training is over;
    0 never stops. What it knows is part of every checkpoint, so a resumed run decides alike.
    """

    figure: str | None = None
    patience: int = 0
    best: float | None = None
    step: int = 0  # after which the best was measured
    waited: int = 0  # measurements without a gain

    @property
    def over(self) -> bool:
        """Whether training has gone on for long enough without a gain."""
        return bool(self.patience) and self.waited >= self.patience

    def consider(
        self,
        step: int,
        held_out: Mapping[str, Mapping[str, float]],
        parameters: Mapping[str, nn.Parameter],
        folder: Path,
        world: World,
    ) -> None:
        """A measurement: the weights are kept in `folder` if it is the best so far."""
        if self.figure is None:
            return
        value = sum(row[self.figure] for row in held_out.values()) / len(held_out)
        if self.best is not None and not value > self.best:  # nor is what is not a number
            self.waited += 1
            return
        self.best, self.step, self.waited = value, step, 0
        if world.is_main:
            work = folder / f".{BEST}.writing"
            write_weights(parameters, work)
            work.replace(folder / BEST)

    def put_back(self, parameters: Mapping[str, nn.Parameter], folder: Path) -> None:
        """Give the parameters the best weights, if there were measurements."""
        if self.best is not None:
            put_weights(load_file(folder / BEST), parameters)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "step": self.step, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.step, self.waited = state["best"], state["step"], state["waited"]
