"""Which rows a step reads: an endless stream of shuffled epochs, cut into steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from guildgpt.train.config import TrainConfig


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
