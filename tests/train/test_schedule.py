"""Which rows a step reads: every row once an epoch, and the same ones after a resume."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guildgpt.network.world import World
from guildgpt.train.config import TrainConfig
from guildgpt.train.schedule import Schedule, schedule, shuffled


@given(st.integers(1, 40), st.integers(1, 13), st.integers(0, 9))
def test_every_epoch_reads_every_row_once(count: int, size: int, seed: int) -> None:
    steps = -(-3 * count // size)
    order = Schedule(count, size, steps, 3 * count, seed, World(torch.device("cpu")))
    rows = [row for step in range(steps) for row in order.rows(step)]
    assert len(rows) == 3 * count
    for epoch in range(3):
        assert sorted(rows[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    first, second = shuffled(50, range(50), 0), shuffled(50, range(50, 100), 0)
    assert first != second != list(range(50))
    assert shuffled(50, range(50), 1) != first
    assert shuffled(50, range(10, 20), 0) == first[10:20]


@pytest.mark.parametrize(
    ("rows", "settings", "expected"),
    [
        (100, {"epochs": 1.0, "batch_size": 8}, (13, 100)),
        (100, {"epochs": 0.07, "batch_size": 1}, (7, 7)),  # 7.000000000000001 in binary
        (3, {"epochs": 0.1, "batch_size": 8}, (1, 1)),
        (100, {"steps": 5, "batch_size": 8}, (5, 40)),
    ],
)
def test_steps_and_places(rows: int, settings: dict[str, float], expected: tuple[int, int]) -> None:
    assert schedule(rows, TrainConfig.model_validate(settings)) == expected
