"""Early stopping: the weights that held-out rows liked best are the ones that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from guildgpt.network.world import World

BEST = "best.safetensors"


class Selection:
    """Keeps the weights with the highest mean of one held-out figure over all sources.

    `patience` is how many measurements in a row may bring nothing better before training is over;
    0 never stops. What it knows is part of every checkpoint, so a resumed run decides alike.
    """

    def __init__(self, figure: str, patience: int):
        self.figure = figure
        self.patience = patience
        self.best: float | None = None
        self.step = 0
        self.waited = 0

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
        value = sum(row[self.figure] for row in held_out.values()) / len(held_out)
        if self.best is not None and not value > self.best:  # nor is what is not a number
            self.waited += 1
            return
        self.best, self.step, self.waited = value, step, 0
        if not world.is_main:
            return
        weights = {name: p.detach().cpu().clone() for name, p in parameters.items()}
        work = folder / f".{BEST}.writing"
        work.write_bytes(to_bytes(weights))  # a full disk is an OSError then, told in words
        work.replace(folder / BEST)

    def put_back(self, parameters: Mapping[str, nn.Parameter], folder: Path) -> None:
        """Give the parameters the best weights, if there were measurements."""
        if self.best is None:
            return
        weights = load_file(folder / BEST)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(weights[name])

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"best": self.best, "step": self.step, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """From a checkpoint."""
        self.best, self.step, self.waited = state["best"], state["step"], state["waited"]
