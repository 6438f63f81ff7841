"""KTO on a model of two layers: its loss by hand, and what it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from network.tiny import gpt_neox

from guildgpt.data.examples import Example
from guildgpt.data.rated import RatedExample, of_rankings, with_others_answers
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.train.config import KtoConfig
from guildgpt.train.kto import Kto, train_kto, weights

from .comparisons import planted
from .conftest import Remembering, job, order
from .policies import hats_of, outspoken

LORA = AdapterConfig(rank=4, alpha=8)


def rated(count: int, seed: int) -> list[RatedExample]:
    return of_rankings(planted(count, seed))


def only(rows: list[RatedExample], good: bool) -> list[RatedExample]:
    return [row for row in rows if row.good == good]


def objective_of(hats: Hats, rows: list[RatedExample], config: KtoConfig) -> Kto:
    trunk, reference = hats.trunk("policy"), hats.trunk(None)
    return Kto(trunk, rows, config, order(rows, config), reference=reference, shared=hats.shared)


def rightly_ordered(hats: Hats) -> float:
    """Of pairs never trained on, those whose good answer has gained more than the bad one."""
    pairs = [of_rankings([row]) for row in planted(64, seed=1)]
    objective = objective_of(hats, pairs[0], KtoConfig(lora=LORA))
    examples = [row.example for pair in pairs for row in sorted(pair, key=lambda row: -row.good)]
    good, bad = objective.ratios(examples).detach().view(-1, 2).unbind(1)
    return float((good > bad).float().mean())


def trained(
    folder: Path, watcher: Remembering, hats: Hats, rows: list[RatedExample], **changes: Any
) -> Hats:
    settings = {
        "steps": 40,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "lora": LORA,
        "evaluations": 2,
        "checkpoint_minutes": 0,
        "dtype": "float32",
        **changes,
    }
    held_out = {"planted": rated(32, seed=1)}
    train_kto(hats, rows, held_out, KtoConfig(**settings), job(folder, watcher))
    return hats


@pytest.mark.parametrize("model", [outspoken, gpt_neox])
def test_it_learns_which_answers_are_good(tmp_path: Path, watcher: Remembering, model: Any) -> None:
    hats = trained(tmp_path, watcher, hats_of(model()), rated(96, seed=0), beta=0.5)
    assert rightly_ordered(hats) > 0.75
    first, *_, last = watcher.evaluations
    assert first[1]["planted"] == {"accuracy": 0.5, "loss": pytest.approx(0.5)}
    assert last[1]["planted"]["loss"] < 0.45
    assert last[1]["planted"]["accuracy"] > 0.6
    assert watcher.steps[0]["loss"] == pytest.approx(0.5)
    assert watcher.steps[0]["reference_point"] == 0
    assert all(step["reference_point"] >= 0 for step in watcher.steps)


@pytest.mark.parametrize("good", [True, False])
def test_verdicts_of_one_kind_teach_too(tmp_path: Path, watcher: Remembering, good: bool) -> None:
    trained(tmp_path, watcher, hats_of(outspoken()), only(rated(96, seed=0), good))
    assert watcher.steps[0]["loss"] == pytest.approx(0.5)
    assert sum(step["loss"] for step in watcher.steps[-10:]) / 10 < 0.5


def summed(model: Any, one: Example) -> float:
    ids = torch.from_numpy(one.ids).long()
    with torch.no_grad():
        logits = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1].double(), -1)
    return float(logits.gather(1, ids[1:, None])[-one.trained :].sum())


def moved_hats() -> Hats:
    hats = hats_of(outspoken())
    hats.add("policy", LORA, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in hats.parameters("policy").values():
            parameter.normal_(std=0.05, generator=generator)
    return hats


def test_the_loss_by_hand() -> None:
    """As the paper has it, and TRL's KTOTrainer: answers to other prompts give the reference point,
    once for all passes of the step."""
    hats, rows = moved_hats(), rated(6, seed=2)[:9]  # five good, four bad
    config = KtoConfig(lora=LORA, beta=0.3, good_weight=1.5, micro_tokens=24, balance=False)
    assert config.batch_size > len(rows)
    objective = objective_of(hats, rows, config)
    passes = objective.batches(0)
    assert len(passes) > 1
    loss = sum(float(objective.loss(one).detach()) for one in passes)

    reference = outspoken().eval()
    hats.model.set_adapter("policy")

    def ratio(one: Example) -> float:
        return summed(hats.model, one) - summed(reference, one)

    chosen = [rows[index] for index in objective.schedule.rows(0)]
    apart = [ratio(one) for one in with_others_answers(chosen, rows)]
    z = max(0.0, sum(apart) / len(apart))
    total = 0.0
    for row in chosen:
        above = 0.3 * (ratio(row.example) - z)
        weight, exponent = (1.5, above) if row.good else (1.0, -above)
        total += weight * (1 - 1 / (1 + math.exp(-exponent)))
    assert loss == pytest.approx(total, rel=1e-4)
    assert objective.figures()["reference_point"] == pytest.approx(z, rel=1e-4)


def test_no_gradient_flows_through_the_reference_point() -> None:
    hats, rows = moved_hats(), rated(4, seed=2)
    objective = objective_of(hats, rows, KtoConfig(lora=LORA))
    objective.batches(0)
    assert not objective.moved.requires_grad


def test_what_there_is_less_of_counts_more() -> None:
    rows = rated(8, seed=0)
    some = [*only(rows, True), *only(rows, False)[:2]]
    assert weights(some, KtoConfig()) == (4.0, 1.0)
    assert weights(some, KtoConfig(bad_weight=0.5)) == (2.0, 1.0)
    assert weights(some, KtoConfig(balance=False, good_weight=3)) == (1.0, 3.0)
    assert weights(only(rows, True), KtoConfig()) == (1.0, 1.0)
