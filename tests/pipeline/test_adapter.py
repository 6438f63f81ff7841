"""A run that begins with another's adapter: made one with its base, or trained further."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from network.tiny import with_lora
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from guildgpt.errors import ModelError, RecipeError
from guildgpt.evaluate.samples import Measured
from guildgpt.pipeline.folder import kept
from guildgpt.train import loop

from .road import Road, alone, train
from .test_kept import nothing, stopped, tuned


def adapted(recipe: Path, folder: Path, how: str, **changes: Any) -> Path:
    """The recipe starts from its base with a drawn adapter on it, which lies in `folder`."""
    text = recipe.read_text()
    found = re.search(r'base = "(.*)"', text)
    assert found
    model = AutoModelForCausalLM.from_pretrained(found[1], dtype=torch.float32)
    settings = {"target_modules": ["q_proj", "down_proj"], **changes}
    with_lora(model, **settings).save_pretrained(folder)
    told = f'base = "{folder}"\nadapter = "{how}"\nlicence = "own"\nwritten_by = "people"'
    recipe.write_text(text.replace(found[0], told))
    return folder


def drawn(road: Road, folder: Path, how: str, stage: str = "sft") -> Path:
    recipe = tuned(road, folder) if stage == "sft" else alone(road, folder, stage)
    adapted(recipe, folder / "adapter", how)
    return recipe


def test_it_is_merged_or_trained_further_from_the_same_start(road: Road, tmp_path: Path) -> None:
    before, after = {}, {}
    for how in ("merge", "continue"):
        (tmp_path / how).mkdir()
        recipe = drawn(road, tmp_path / how, how)
        report, printed = train(recipe, tmp_path / how / "run", overrides=["sft.steps=8"])
        assert ("is trained further" in printed) == (how == "continue")
        measured = kept(tmp_path / how / "run" / "sft" / "before.json", Measured)
        assert measured
        (before[how],) = (one.nats for one in measured.bits.values())
        (after[how],) = (one.bits_after - one.bits_before for one in report.held_out)
        place = tmp_path / how / "run" / "sft" / "model"
        AutoModelForCausalLM.from_pretrained(place)
        sources = json.loads((place / "provenance.json").read_text())["sources"]
        assert [one["kind"] for one in sources].count("base") >= 2
        assert sum(one["note"] == "a peft adapter" for one in sources) == 1
    assert before["merge"] == pytest.approx(before["continue"], rel=1e-6)
    assert all(change < 0 for change in after.values())  # both learned


def test_what_is_trained_is_the_adapter_that_came(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own layers and rank; and it is begun on, not drawn anew: a resumed run equals a whole."""
    recipe = drawn(road, tmp_path, "continue")
    whole, _ = train(recipe, tmp_path / "whole")
    stopped(recipe, tmp_path / "run", monkeypatch)
    (checkpoint,) = (tmp_path / "run" / "sft" / "checkpoints").glob("step-*")
    trained = {}
    for file in checkpoint.glob("*.safetensors"):
        trained |= load_file(file)
    shapes = {name: tuple(one.shape) for name, one in trained.items() if "lora_" in name}
    assert all(re.search(r"q_proj|down_proj", name) for name in shapes)
    assert {min(shape) for shape in shapes.values()} == {4}
    report, _ = train(recipe, tmp_path / "run")
    losses, expected = ([row["loss"] for row in one.stages[0].metrics] for one in (report, whole))
    assert losses == expected


@pytest.mark.parametrize(
    ("stage", "override"), [("dpo", ""), ("reward", ""), ("sft", 'sft.adapter="none"')]
)
def test_only_fine_tuning_with_adapters_goes_on_with_one(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, override: str
) -> None:
    recipe = drawn(road, tmp_path, "continue", stage)
    monkeypatch.setattr(loop._Stage, "take", nothing)
    with pytest.raises(RecipeError, match=f"the first stage here is `{stage}`") as raised:
        train(recipe, tmp_path / "run", overrides=[override] if override else [])
    assert raised.value.where == "model.adapter"


@pytest.mark.parametrize("stage", ["dpo", "reward"])
def test_other_stages_begin_with_the_two_made_one(road: Road, tmp_path: Path, stage: str) -> None:
    recipe = drawn(road, tmp_path, "merge", stage)
    report, _ = train(recipe, tmp_path / "run")
    assert report.stages[0].outcome.steps == 2
    train(recipe, tmp_path / "run")


def test_an_adapter_that_changed_before_a_resume_is_refused(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = drawn(road, tmp_path, "continue")
    stopped(recipe, tmp_path / "run", monkeypatch)
    settings = tmp_path / "adapter" / "adapter_config.json"
    whole = settings.read_text()
    settings.write_text(whole.replace('"lora_alpha": 6.0', '"lora_alpha": 9.0'))
    assert settings.read_text() != whole
    with pytest.raises(ModelError, match=r"the adapter changed .*: adapter_config\.json"):
        train(recipe, tmp_path / "run")
    settings.write_text(whole)
    train(recipe, tmp_path / "run")
