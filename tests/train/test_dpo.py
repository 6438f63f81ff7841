"""DPO on a model of two layers: its loss by hand, and what it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from network.tiny import gpt_neox, mpt

from guildgpt.data.examples import Ranking
from guildgpt.model.config import AdapterConfig
from guildgpt.network.hats import Hats
from guildgpt.network.trunk import summed_loss
from guildgpt.train.config import DpoConfig
from guildgpt.train.demonstrations import Demonstrations
from guildgpt.train.dpo import Dpo, train_dpo

from .comparisons import answered, planted, ranking
from .conftest import Remembering, example, job, order, tiny_llama
from .policies import hats_of, outspoken

LORA = AdapterConfig(rank=4, alpha=8)


def objective_of(hats: Hats, rows: list[Ranking], config: DpoConfig) -> Dpo:
    trunk, reference = hats.trunk("policy"), hats.trunk(None)
    return Dpo(trunk, rows, config, order(rows, config), reference=reference, shared=hats.shared)


def trained(folder: Path, watcher: Remembering, hats: Hats, **changes: Any) -> Hats:
    settings = {
        "steps": 40,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "lora": LORA,
        "evaluations": 2,
        "checkpoint_minutes": 0,
        "dtype": "float32",
        **changes,
    }
    held_out = {"planted": planted(32, seed=1)}
    config = DpoConfig(**settings)
    train_dpo(hats, planted(96, seed=0), held_out, config, job(folder, watcher))
    return hats


def test_it_learns_which_answers_are_better(tmp_path: Path, watcher: Remembering) -> None:
    hats = trained(tmp_path, watcher, hats_of(outspoken()))
    first, *_, last = watcher.evaluations
    assert first[1]["planted"] == {"accuracy": 0.5, "loss": pytest.approx(math.log(2))}
    assert last[1]["planted"]["accuracy"] > 0.8
    assert last[1]["planted"]["loss"] < 0.5
    assert watcher.steps[0]["loss"] == pytest.approx(math.log(2))
    assert watcher.steps[0]["accuracy"] == 0.5
    # And the reference is what it was.
    untouched = outspoken().state_dict()
    for name, tensor in hats.base.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(tensor, untouched[name.replace(".base_layer", "")])


@pytest.mark.parametrize("kind", [mpt, gpt_neox])
def test_models_of_other_shapes_learn_too(tmp_path: Path, watcher: Remembering, kind: Any) -> None:
    trained(tmp_path, watcher, hats_of(kind()), steps=15)
    assert watcher.evaluations[-1][1]["planted"]["accuracy"] > 0.7


def test_the_loss_by_hand_with_rankings_of_three_and_four(tmp_path: Path) -> None:
    """Against transformers' own logits: the mean of a prompt's pairs, then summed over prompts."""
    hats = hats_of(outspoken())
    hats.add("policy", LORA, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in hats.parameters("policy").values():
            parameter.normal_(std=0.05, generator=generator)
    rows = [*planted(1, 2, answers=3), *planted(1, 3, answers=4), *planted(1, 4)]
    assert [len(row.pairs) for row in rows] == [3, 6, 1]
    config = DpoConfig(lora=LORA, beta=0.3, smoothing=0.1)
    objective = objective_of(hats, rows, config)
    loss = float(objective.loss(rows).detach())

    def summed(model: Any, ids: torch.Tensor, answer: int) -> float:
        with torch.no_grad():
            logits = torch.log_softmax(model(input_ids=ids[None]).logits[0, :-1].double(), -1)
        return float(logits.gather(1, ids[1:, None])[-answer:].sum())

    reference = outspoken().eval()
    hats.model.set_adapter("policy")
    total = 0.0
    for row in rows:
        moved = []
        for one in row.answers:
            ids = torch.from_numpy(one.ids).long()
            moved.append(summed(hats.model, ids, one.trained) - summed(reference, ids, one.trained))
        losses = []
        for better, worse in row.pairs:
            h = 0.3 * (moved[better] - moved[worse])
            losses.append(0.9 * math.log1p(math.exp(-h)) + 0.1 * math.log1p(math.exp(h)))
        total += sum(losses) / len(losses)
    assert loss == pytest.approx(total, rel=1e-4)


def test_ties_and_identical_answers_pull_nowhere() -> None:
    """Two answers at one place make no pair, and are read all the same without harm."""
    hats = hats_of(tiny_llama())
    hats.add("policy", LORA, seed=0)
    good, bad = answered([1, 2], [3, 4]), answered([1, 2], [5, 6])
    row = ranking([good, good, bad], places=[0, 0, 1])
    assert row.pairs == ((0, 2), (1, 2))
    plain = ranking([good, bad])
    config = DpoConfig(lora=LORA)
    losses = [float(objective_of(hats, [one], config).loss([one]).detach()) for one in (row, plain)]
    assert losses[0] == pytest.approx(losses[1]) == pytest.approx(math.log(2))


def test_what_people_worded_is_imitated_beside_the_pairs() -> None:
    """Its mean over tokens counts by its weight beside the mean over prompts."""
    hats = hats_of(outspoken())
    hats.add("policy", LORA, seed=0)
    rows, shown = planted(6, 0), [example(6 + n, seed=n) for n in range(5)]
    demonstrations = {"weight": 0.5, "rows": 3}
    config = DpoConfig(lora=LORA, batch_size=4, micro_tokens=30, demonstrations=demonstrations)
    trunk, reference = hats.trunk("policy"), hats.trunk(None)
    objective = Dpo(
        trunk,
        rows,
        config,
        order(rows, config),
        reference=reference,
        shared=hats.shared,
        demonstrations=shown,
    )
    beside = [one for one in objective.batches(0) if isinstance(one, Demonstrations)]
    examples = [row for one in beside for row in one.examples]
    assert len(examples) == 3
    terms = sum(objective.counts(one).terms for one in objective.batches(0))
    assert terms == 4
    part = sum(float(objective.loss(one).detach()) for one in beside) / terms
    with torch.no_grad():
        mean = float(summed_loss(trunk, examples)) / sum(row.trained for row in examples)
    assert part == pytest.approx(0.5 * mean, rel=1e-5)


def test_without_demonstrations_it_learns_as_ever(tmp_path: Path) -> None:
    runs = []
    for name, weight in (("alone", 0.0), ("beside", 0.5)):
        watcher = Remembering()
        hats = hats_of(outspoken())
        config = DpoConfig(
            steps=8,
            learning_rate=1e-2,
            lora=LORA,
            evaluations=0,
            dtype="float32",
            demonstrations={"weight": weight, "rows": 4},
        )
        where = job(tmp_path / name, watcher)
        shown = [example(8, seed=n) for n in range(8)]
        train_dpo(hats, planted(32, seed=0), {}, config, where, shown)
        with torch.no_grad():
            runs.append((watcher, float(summed_loss(hats.trunk("policy"), shown))))
    (alone, before), (beside, after) = runs
    assert "demonstration_loss" not in alone.steps[0]
    assert beside.steps[-1]["demonstration_loss"] < beside.steps[0]["demonstration_loss"]
    assert after < before
