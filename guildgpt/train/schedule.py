"""What happens at which step: the rows it reads, of an endless stream of shuffled epochs; which of
them are this process's, where several train together; the learning rate; when to measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from guildgpt.network.world import World
from guildgpt.train.config import TrainConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """The rows of each step of a stage: `size` of `count` a step, `places` in all."""

    count: int
    size: int
    steps: int
    places: int
    seed: int
    world: World

    @classmethod
    def of(cls, rows: int, config: TrainConfig, seed: int, world: World) -> Schedule:
        """That of a stage which reads `rows` rows as its configuration says."""
        return cls(rows, config.batch_size, *schedule(rows, config), seed, world)

    def rows(self, step: int) -> list[int]:
        """The numbers of a step's rows, those of all processes."""
        end = min((step + 1) * self.size, self.places)
        return shuffled(self.count, range(step * self.size, end), self.seed)

    def own_rows(self, step: int) -> Sequence[int]:
        """The numbers of the rows that this process reads in a step."""
        return share(self.rows(step), self.world)


def share(rows: Sequence[T], world: World) -> Sequence[T]:
    """This process's part of some rows: neighbours, as many as any other's, or one more."""
    first, end = (len(rows) * rank // world.size for rank in (world.rank, world.rank + 1))
    return rows[first:end]


def shuffled(count: int, places: range, seed: int) -> list[int]:
    """Which of `count` rows stand at these places of an endless stream of shuffled epochs."""
    epochs = {place // count for place in places}
    orders = {epoch: np.random.default_rng([seed, epoch]).permutation(count) for epoch in epochs}
    return [int(orders[place // count][place % count]) for place in places]


def schedule(rows: int, config: TrainConfig, group: int = 1) -> tuple[int, int]:
    """How many steps a stage takes, and how many rows they see in all.

    A row is read `group` times in its step: so many answers are written to each prompt.
    """
    size = config.batch_size // group
    if config.steps:
        return config.steps, config.steps * size
    places = math.ceil(round(config.epochs * rows, 6))  # 0.07 of 100 rows are 7, not 8
    return max(math.ceil(places / size), 1), places


def spread(steps: int, count: int) -> set[int]:
    """`count` steps (all, if there are no more), evenly over the run, the last one among them."""
    count = min(count, steps)
    return {round(steps * (i + 1) / count) for i in range(count)} - {0}


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """The rate of step `step` (from 0): a linear rise, then a fall to `final` times the top."""
    warmup = math.ceil(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
    }[config.decay]
    floor = 1.0 if config.decay == "constant" else config.final
    return config.learning_rate * (floor + (1 - floor) * shape)
