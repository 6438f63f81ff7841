"""Which rows a step reads: an endless stream of shuffled epochs, cut into steps; and which of them
are this process's, where several train together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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
        return shuffled(self.count, step_places(step, self.size, self.places), self.seed)

    def own_rows(self, step: int) -> Sequence[int]:
        """The numbers of the rows that this process reads in a step."""
        return share(self.rows(step), self.world)


def share(rows: Sequence[T], world: World) -> Sequence[T]:
    """This process's part of some rows: neighbours, as many as any other's, or one more."""
    first, end = (len(rows) * rank // world.size for rank in (world.rank, world.rank + 1))
    return rows[first:end]


def shuffled(count: int, places: range, seed: int) -> list[int]:
    """Which of `count` rows stand at these places of an endless stream of shuffled epochs."""
    orders: dict[int, Any] = {}
    rows = []
    for place in places:
        epoch, index = divmod(place, count)
        if epoch not in orders:
            orders[epoch] = np.random.default_rng([seed, epoch]).permutation(count)
        rows.append(int(orders[epoch][index]))
    return rows


def step_places(step: int, size: int, places: int) -> range:
    """The places that step `step` takes, `size` of them, fewer at the end of the stage."""
    return range(step * size, min((step + 1) * size, places))


def schedule(rows: int, config: TrainConfig) -> tuple[int, int]:
    """How many optimizer steps a stage takes, and how many rows they see in all."""
    if config.steps:
        return config.steps, config.steps * config.batch_size
    places = math.ceil(round(config.epochs * rows, 6))  # 0.07 of 100 rows are 7, not 8
    return max(math.ceil(places / config.batch_size), 1), places


def iterations(prompts: int, config: TrainConfig, group: int = 1) -> int:
    """How many iterations of reinforcement learning a stage takes, `group` answers a prompt."""
    places = round(config.epochs * prompts, 6)
    return config.steps or max(math.ceil(places / max(config.batch_size // group, 1)), 1)
