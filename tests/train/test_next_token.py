"""Next-token prediction: which rows come when, and what counts as one term of the loss."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from guildgpt.data.examples import Example
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import trunk_for
from guildgpt.train.config import RowsConfig
from guildgpt.train.next_token import NextToken
from guildgpt.train.objective import Shape
from guildgpt.train.schedule import schedule

from .conftest import example
from .conftest import order as schedule_of

ROWS = [[example(4 + index % 5, seed=index)] for index in range(10)]


def objective(model: Any, rows: Any = ROWS, seed: int = 0, **settings: Any) -> NextToken:
    config = RowsConfig(**{"batch_size": 4, **settings})
    which = schedule_of(rows, config, seed)
    return NextToken(trunk_for(model, torch.float32), rows, config, which)


def order(stage: NextToken) -> list[int]:
    """The rows' numbers in the order in which they are trained on."""
    numbers = {id(row[0]): number for number, row in enumerate(ROWS)}
    return [
        numbers[id(one)]
        for step in range(stage.steps)
        for one in sorted(
            (e for batch in stage.batches(step) for e in batch), key=lambda e: numbers[id(e)]
        )
    ]


def steps_of(stage: NextToken) -> list[set[int]]:
    numbers = {id(row[0]): number for number, row in enumerate(ROWS)}
    return [
        {numbers[id(one)] for batch in stage.batches(step) for one in batch}
        for step in range(stage.steps)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 16])
@pytest.mark.parametrize("epochs", [1, 3])
def test_every_row_once_an_epoch(model: Any, batch_size: int, epochs: int) -> None:
    stage = objective(model, batch_size=batch_size, epochs=epochs)
    assert stage.steps == -(-10 * epochs // batch_size)
    assert Counter(order(stage)) == dict.fromkeys(range(10), epochs)


def test_each_epoch_is_whole_before_the_next_begins(model: Any) -> None:
    stage = objective(model, batch_size=5, epochs=2)
    first, second, third, fourth = steps_of(stage)
    assert first | second == third | fourth == set(range(10))
    assert first != third  # in another order


def test_the_order_depends_on_the_seed_alone(model: Any) -> None:
    one = objective(model, seed=1, batch_size=2, epochs=2)
    assert steps_of(one) == steps_of(objective(model, seed=1, batch_size=2, epochs=2))
    assert steps_of(one) != steps_of(objective(model, seed=2, batch_size=2, epochs=2))


def test_any_step_can_be_asked_for_alone(model: Any) -> None:
    """A resumed run begins anywhere, also in an epoch's middle."""
    stage = objective(model, batch_size=3, epochs=4)
    expected = steps_of(stage)
    for step in (9, 2, 13, 0):
        fresh = objective(model, batch_size=3, epochs=4)
        ids = {id(e) for batch in fresh.batches(step) for e in batch}
        assert ids == {id(ROWS[number][0]) for number in expected[step]}


@pytest.mark.parametrize(
    ("epochs", "seen"), [(0.5, 5), (0.25, 3), (1.1, 11), (1.5, 15), (0.01, 1), (2.0, 20)]
)
def test_a_fraction_of_an_epoch(model: Any, epochs: float, seen: int) -> None:
    stage = objective(model, batch_size=2, epochs=epochs)
    trained = order(stage)
    assert len(trained) == seen
    assert max(Counter(trained).values()) - min(Counter(trained).values()) <= 1
    assert len(set(trained)) == min(seen, 10)
    assert stage.steps == -(-seen // 2)


def test_a_share_is_not_rounded_up_by_the_arithmetic() -> None:
    assert 0.07 * 100 > 7
    assert schedule(100, RowsConfig(batch_size=1, epochs=0.07)) == (7, 7)


def test_steps_go_before_epochs(model: Any) -> None:
    stage = objective(model, batch_size=4, epochs=50, steps=3)
    assert stage.steps == 3
    assert [sum(map(len, stage.batches(step))) for step in range(3)] == [4, 4, 4]
    assert schedule(10, RowsConfig(batch_size=4, steps=3)) == (3, 12)
    # More than there are: the rows come round again.
    assert Counter(order(objective(model, batch_size=5, steps=4))) == dict.fromkeys(range(10), 2)


def test_a_step_s_passes_hold_its_rows_within_the_limit(model: Any) -> None:
    stage = objective(model, batch_size=10, micro_tokens=12)
    passes = stage.batches(0)
    assert len(passes) > 1
    assert all(stage.counts(batch).tokens <= 12 for batch in passes)
    assert sum(stage.counts(batch).tokens for batch in passes) == sum(len(row[0]) for row in ROWS)


def test_the_weight_is_the_number_of_predicted_tokens(model: Any) -> None:
    stage = objective(model)
    batch = [example(9, untrained=4), example(6, seed=1, untrained=1)]
    assert stage.counts(batch).terms == 5 + 5
    assert stage.counts(batch).tokens == 15
    # The first token is predicted by nothing, whatever the mask says.
    assert stage.counts([example(5, untrained=0)]).terms == 4


def test_the_loss_is_summed_over_them(model: Any) -> None:
    stage = objective(model)
    one, other = example(9, untrained=4), example(6, seed=1)
    expected = 0.0
    for item in (one, other):
        ids = torch.from_numpy(item.ids).long()
        logprobs = model(ids[None]).logits[0].log_softmax(-1)
        for place in item.mask.nonzero()[0]:
            expected -= float(logprobs[place - 1, ids[place]].detach())
    assert float(stage.loss([one, other]).detach()) == pytest.approx(expected, rel=1e-5)


def test_packed_rows_are_taken_whole(model: Any) -> None:
    rows = [[example(5, seed=2 * n), example(7, seed=2 * n + 1)] for n in range(3)]
    stage = objective(model, rows, batch_size=1)
    taken: list[Example] = []
    for step in range(stage.steps):
        batch = [e for part in stage.batches(step) for e in part]
        assert sorted(map(len, batch)) == [5, 7]
        taken += batch
    assert Counter(map(id, taken)) == dict.fromkeys((id(e) for row in rows for e in row), 1)


def test_operations_are_counted(model: Any) -> None:
    """Six per weight and token where all are trained: 2 forward, 4 backward (and attention's)."""
    stage = objective(model)
    batch = [example(20)]
    table = model.get_input_embeddings().weight.numel()
    weights = sum(p.numel() for p in model.parameters()) - table
    products = 6 * (weights * 20 + table * 19)
    attention = 3 * 4 * 2 * 32 * 20**2
    assert stage.counts(batch).flops == products + attention
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert objective(model).counts(batch).flops == products * 4 / 6 + attention


def test_operations_are_counted_where_new_tokens_are_trained(model: Any) -> None:
    """peft then gives a tied head a weight of its own making, which is not counted twice."""
    weights = sum(p.numel() for p in model.parameters())
    table = model.get_input_embeddings().weight.numel()
    hats = Hats(model, torch.float32, torch.device("cpu"))
    hats.add("sft", AdapterConfig(rank=2), seed=0, new_tokens=[3, 5])
    shape = Shape(hats.trunk("sft"))
    adapters = sum(p.numel() for name, p in hats.parameters("sft").items() if "lora_" in name)
    assert shape.body == weights - table + adapters
    assert shape.head == table
