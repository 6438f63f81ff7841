"""What took training is never lost: not to a measurement that fails, not to files that change on
the way, not to what could have been told before."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from network.tiny import granite
from rich.console import Console
from tiny import write_feedback_run
from transformers import AutoModelForCausalLM, GenerationConfig

from guildgpt.errors import DataError, GuildError, ModelError, RecipeError
from guildgpt.model import folder as model_folder
from guildgpt.pipeline import measuring
from guildgpt.pipeline import run as pipeline
from guildgpt.pipeline.folder import finished, is_disk_full
from guildgpt.pipeline.plan import dry_run
from guildgpt.pipeline.stages import STAGES
from guildgpt.recipe import load_recipe
from guildgpt.report.report import read_report
from guildgpt.train import loop

from .road import SHORT, Road, alone, train

STAGES_BEFORE = ["pretrain", "sft", "reward", "judge"]


def nothing(*_: object, **__: object) -> None:
    raise AssertionError("it is trained already, or must not be")


def breaks(*_: object, **__: object) -> None:
    raise ZeroDivisionError("division by zero")


LENGTH = "[ppo.terms]\nlength = {weight = 1.0, shortest = 2, longest = 4, slack = 4}\n"


def tuned(road: Road, folder: Path, more: str = "") -> Path:
    """A recipe that fine-tunes the road's pretrained model for a few steps."""
    recipe = alone(road, folder, "sft", more)
    base = road.folder / "pretrain" / "model"
    text = recipe.read_text().replace(str(road.folder / "sft" / "model"), str(base))
    lines = [line for line in text.splitlines() if "pairs.jsonl" not in line]
    recipe.write_text("\n".join(lines))
    return recipe


def own_base(recipe: Path, folder: Path) -> Path:
    """The recipe starts from a copy of its base, which may be changed."""
    text = recipe.read_text()
    found = re.search(r'base = "(.*)"', text)
    assert found
    shutil.copytree(found[1], folder)
    recipe.write_text(text.replace(found[1], str(folder)))
    return folder


def stopped(recipe: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is stopped once it has a checkpoint."""
    step = loop._Stage.take

    def stop(*arguments: Any) -> Any:
        if any(folder.glob("*/checkpoints/step-*")):
            raise KeyboardInterrupt
        return step(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop._Stage, "take", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, folder)


# --- measurements that fail ----------------------------------------------------------------------


def test_a_policy_that_cannot_be_compared_is_kept(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = alone(road, tmp_path, "ppo", LENGTH)
    monkeypatch.setattr(measuring, "divergence", breaks)
    report, printed = train(recipe, tmp_path / "run")
    told = "could not be measured (ZeroDivisionError: division by zero)"
    assert f"the policy beside what it came from {told}; it is saved all the same" in printed
    assert any(told in line for line in report.warnings)
    assert report.head_to_head is None
    assert report.held_out
    place = tmp_path / "run" / "ppo"
    AutoModelForCausalLM.from_pretrained(place / "model")
    assert not (place / "policy.safetensors").exists()
    monkeypatch.setattr(loop._Stage, "take", nothing)
    assert "ppo is finished already" in train(recipe, tmp_path / "run")[1]


def test_no_prompt_that_leaves_room_for_an_answer(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy was trained and then lost to a division by zero; a dry run finds it, too."""
    monkeypatch.setattr(loop._Stage, "take", nothing)
    recipe = alone(road, tmp_path, "dpo")
    override = ["evaluate.max_tokens=511"]
    said = "leaves room for an answer of 511 tokens in a context of 512"
    with pytest.raises(RecipeError, match=said) as raised:
        train(recipe, tmp_path / "run", overrides=override)
    assert raised.value.where == "evaluate.max_tokens"
    assert "Lower it, to 128 for example" in str(raised.value.remedy)
    with pytest.raises(RecipeError, match=said):
        dry_run(load_recipe(recipe, override), Console(file=StringIO()))
    whole = write_feedback_run(tmp_path, SHORT)  # the stages before it included
    with pytest.raises(RecipeError, match=said):
        train(whole, tmp_path / "whole", overrides=override)


def test_a_comparison_that_is_stopped_goes_on_without_training(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = alone(road, tmp_path, "ppo", LENGTH)
    whole, _ = train(recipe, tmp_path / "whole")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(measuring, "divergence", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run")
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "ppo" / "model")  # saved before it
    monkeypatch.setattr(loop._Stage, "take", nothing)
    report, _ = train(recipe, tmp_path / "run")
    assert report.head_to_head == whole.head_to_head


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_a_model_that_cannot_be_measured_is_kept(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    recipe = tuned(road, tmp_path) if stage == "sft" else alone(road, tmp_path, stage)
    module, name = {
        "sft": (pipeline, "measure_after"),
        "dpo": (pipeline, "measure_after"),
        "reward": (measuring, "measure_preferences"),
    }[stage]
    monkeypatch.setattr(module, name, breaks)
    report, printed = train(recipe, tmp_path / "run")
    assert "could not be measured (ZeroDivisionError: division by zero)" in printed
    assert any("could not be measured" in line for line in report.warnings)
    assert finished(tmp_path / "run" / stage) == report
    assert (tmp_path / "run" / stage / "model" / "model.safetensors").is_file()


def test_a_reward_model_that_cannot_be_shifted_is_kept(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guildgpt.train.reward._shift", breaks)
    _, printed = train(alone(road, tmp_path, "reward"), tmp_path / "run")
    assert "does not score 0 (ZeroDivisionError" in printed
    assert (tmp_path / "run" / "reward" / "model" / "reward.json").is_file()


def test_a_gguf_that_fails_in_any_way_costs_no_weights(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tuned(road, tmp_path)
    recipe.write_text(recipe.read_text().replace("gguf = []", 'gguf = ["Q8_0"]'))
    write, calls = model_folder.write_gguf, []

    def second_breaks(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:  # the first is the base's
            raise KeyError("tokenizer.ggml.merges")
        return write(*arguments)

    monkeypatch.setattr(model_folder, "write_gguf", second_breaks)
    _, printed = train(recipe, tmp_path / "run")
    assert "There is no GGUF: KeyError: 'tokenizer.ggml.merges'" in printed
    folder = tmp_path / "run" / "sft" / "model"
    assert not list(folder.glob("*.gguf"))
    AutoModelForCausalLM.from_pretrained(folder)


def test_what_says_that_a_disk_is_full() -> None:
    told = RuntimeError("Error while serializing: I/O error: No space left (os error 28)")
    for cause in (OSError(28, "No space left on device"), OSError(27, "File too large"), told):
        error = GuildError("the model folder could not be written")
        error.__cause__ = cause
        assert is_disk_full(error)
        assert is_disk_full(cause)
    assert not is_disk_full(OSError(2, "No such file"))
    assert not is_disk_full(ZeroDivisionError())


def test_a_base_that_says_how_it_was_sampled_is_trained(road: Road, tmp_path: Path) -> None:
    """transformers refuses to write a temperature without `do_sample`, which it reads."""
    recipe = tuned(road, tmp_path)
    base = own_base(recipe, tmp_path / "base")
    (base / "generation_config.json").write_text('{"temperature": 0.9, "eos_token_id": 2}')
    train(recipe, tmp_path / "run")
    written = GenerationConfig.from_pretrained(tmp_path / "run" / "sft" / "model")
    written.validate(strict=True)
    assert written.do_sample


def test_a_policy_whose_base_never_saw_a_chat_is_warned_of(road: Road, tmp_path: Path) -> None:
    recipe = alone(road, tmp_path, "dpo")
    base = own_base(recipe, tmp_path / "base")
    text = (base / "tokenizer.json").read_text()
    (base / "tokenizer.json").write_text(text.replace("<|im_end|>", "<|other|>"))
    report, printed = train(recipe, tmp_path / "run")
    told = "the base never saw <|im_end|>, and `dpo` does not train them"
    assert told in printed
    assert any(told in line for line in report.warnings)
    assert not train(alone(road, tmp_path, "dpo"), tmp_path / "other")[0].warnings


# --- told before anything is trained -------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["model.context=128", "evaluate.max_tokens=160"], "evaluate.max_tokens"),
        (["ppo.max_new_tokens=512"], "ppo.max_new_tokens"),
    ],
)
def test_a_context_with_no_room_for_answers_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], key: str
) -> None:
    """The earlier stages included: once they are trained the recipe is fixed."""
    recipe = write_feedback_run(tmp_path, SHORT)
    monkeypatch.setattr(loop._Stage, "take", nothing)
    with pytest.raises(RecipeError, match="leave no room for a question") as raised:
        train(recipe, tmp_path / "run", overrides=overrides)
    assert raised.value.where == key
    assert "Lower it, to " in str(raised.value.remedy)


def test_comparisons_that_are_missing_are_missed_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_feedback_run(tmp_path, SHORT)
    lines = [line for line in recipe.read_text().splitlines() if "pairs.jsonl" not in line]
    recipe.write_text("\n".join(lines))
    monkeypatch.setattr(loop._Stage, "take", nothing)
    with pytest.raises(DataError, match="no comparisons to train `reward` on"):
        train(recipe, tmp_path / "run")


def test_comparisons_are_nothing_to_fine_tune_on(road: Road, tmp_path: Path) -> None:
    recipe = only_comparisons(alone(road, tmp_path, "sft"))
    with pytest.raises(DataError, match=r"no conversations to fine-tune on, only \d+ comp") as told:
        train(recipe, tmp_path / "run")
    assert "leave `sft` out" in str(told.value.remedy)


def granite_base(recipe: Path, folder: Path) -> None:
    """The recipe starts from a Granite with its base's tokenizer."""
    base = own_base(recipe, folder)
    size = json.loads((base / "config.json").read_text())["vocab_size"]
    granite(vocab_size=size, max_position_embeddings=512).save_pretrained(base)


def test_a_base_without_a_class_for_scores_has_a_reward_model_all_the_same(
    road: Road, tmp_path: Path
) -> None:
    """transformers has none for Granite: its reward model is the causal model and a head beside
    it, and a policy on the same base wears it as any other."""
    recipe = alone(road, tmp_path, "reward")
    granite_base(recipe, tmp_path / "base")
    report, _ = train(recipe, tmp_path / "run")
    assert report.preferences
    folder = tmp_path / "run" / "reward" / "model"
    AutoModelForCausalLM.from_pretrained(folder)
    (tmp_path / "policy").mkdir()
    policy = alone(road, tmp_path / "policy", "ppo", f'reward_model = "{folder}"\n')
    granite_base(policy, tmp_path / "policy" / "base")
    report, _ = train(policy, tmp_path / "policy" / "run")
    assert report.head_to_head
    assert report.head_to_head.reward_after is not None


# --- comparisons alone ---------------------------------------------------------------------------


def only_comparisons(recipe: Path) -> Path:
    lines = [line for line in recipe.read_text().splitlines() if "rows.jsonl" not in line]
    recipe.write_text("\n".join(lines))
    return recipe


@pytest.mark.parametrize("stage", ["dpo", "reward", "ppo"])
def test_comparisons_alone_are_enough_for_feedback(road: Road, tmp_path: Path, stage: str) -> None:
    """No conversation fits into the context where there is none; that is no reason to stop."""
    recipe = only_comparisons(alone(road, tmp_path, stage, LENGTH if stage == "ppo" else ""))
    report, printed = train(recipe, tmp_path / "run")
    assert report.stages[0].outcome.steps == 2
    assert ("no conversation is there to score 0" in printed) == (stage == "reward")
    assert (tmp_path / "run" / stage / "model" / "model.safetensors").is_file()
    assert read_report(tmp_path / "run" / stage / "model") == report


# --- prompts alone -------------------------------------------------------------------------------


def only_prompts(recipe: Path) -> Path:
    rows = recipe.parent / "prompts.jsonl"
    rows.write_text(
        "".join(json.dumps({"prompt": f"Where is house {n}?"}) + "\n" for n in range(20))
    )
    only_comparisons(recipe)
    recipe.write_text(recipe.read_text().replace(str(recipe.parent / "pairs.jsonl"), str(rows)))
    return recipe


@pytest.mark.parametrize("stage", ["grpo", "ppo"])
def test_prompts_alone_are_enough_for_a_policy(road: Road, tmp_path: Path, stage: str) -> None:
    by = LENGTH.replace("ppo", stage)
    if stage == "ppo":
        by = f'reward_model = "{road.folder / "reward" / "model"}"\n'
    report, printed = train(only_prompts(alone(road, tmp_path, stage, by)), tmp_path / "run")
    assert re.search(r"\d\d prompts to answer", printed)
    assert report.stages[0].outcome.steps == 2
    assert report.head_to_head


@pytest.mark.parametrize("stage", ["sft", "dpo", "reward"])
def test_prompts_alone_are_no_answers(road: Road, tmp_path: Path, stage: str) -> None:
    with pytest.raises(DataError, match=r"there are no (conversations|comparisons) to"):
        train(only_prompts(alone(road, tmp_path, stage)), tmp_path / "run")


# --- what a stage starts from --------------------------------------------------------------------


def change(file: Path) -> None:
    """Other content of the same size, at another time."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_base_that_changed_before_a_resume_is_refused(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe = alone(road, tmp_path, "dpo")
    recipe.write_text(recipe.read_text().replace("steps = 2", "steps = 4"))
    base = own_base(recipe, tmp_path / "base")
    whole = (base / name).read_bytes()
    stopped(recipe, tmp_path / "run", monkeypatch)
    if name == "tokenizer.json":  # still one that can be read
        (base / name).write_bytes(whole + b"\n")
    else:
        change(base / name)
    with monkeypatch.context() as patched:
        patched.setattr(loop._Stage, "take", nothing)
        with pytest.raises(ModelError, match="the base changed since this stage began") as raised:
            train(recipe, tmp_path / "run")
    assert name in raised.value.what
    assert raised.value.where == str(base)
    assert "Put the old files back" in str(raised.value.remedy)

    (base / name).write_bytes(whole)
    (base / "README.md").write_text("another card, which decides nothing")
    report, _ = train(recipe, tmp_path / "run")
    assert report.stages[0].outcome.steps == 4


def test_a_base_may_change_until_something_is_trained(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tuned(road, tmp_path)
    base = own_base(recipe, tmp_path / "base")
    with monkeypatch.context() as patched:
        patched.setitem(STAGES, "sft", replace(STAGES["sft"], train=breaks))
        with pytest.raises(GuildError, match="ZeroDivisionError"):
            train(recipe, tmp_path / "run")
    before = tmp_path / "run" / "sft" / "before.json"
    measured = json.loads(before.read_text())
    weights = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.mul_(0.5)
    weights.save_pretrained(base)
    train(recipe, tmp_path / "run")
    assert json.loads(before.read_text())["bits"] != measured["bits"]  # measured anew


def test_a_reward_model_that_changed_before_a_resume_is_refused(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reward"
    shutil.copytree(road.folder / "reward" / "model", folder)
    recipe = alone(road, tmp_path, "ppo", f'reward_model = "{folder}"\n')
    recipe.write_text(recipe.read_text().replace("steps = 2", "steps = 4"))
    stopped(recipe, tmp_path / "run", monkeypatch)
    change(folder / "adapter.safetensors")
    with pytest.raises(ModelError, match=r"the reward model changed .*: adapter\.safetensors"):
        train(recipe, tmp_path / "run")


def test_a_word_list_that_changed_before_a_resume_is_refused(
    road: Road, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tmp_path / "words.txt"
    words.write_text("bell\n")
    recipe = alone(road, tmp_path, "ppo", f'[ppo.terms]\nwords = {{file = "{words}"}}\n')
    recipe.write_text(recipe.read_text().replace("steps = 2", "steps = 4"))
    stopped(recipe, tmp_path / "run", monkeypatch)
    words.write_text("gate\n")
    with pytest.raises(ModelError, match="the word list changed since this stage began"):
        train(recipe, tmp_path / "run")


def test_a_gguf_base_that_changed_before_a_resume_is_refused(tmp_path: Path) -> None:
    from guildgpt.pipeline.inputs import claim_inputs

    file = tmp_path / "base.gguf"
    file.write_bytes(b"GGUF one")
    place = tmp_path / "run" / "sft"
    claim_inputs(place, {"base": [file]})
    (place / "checkpoints" / "step-0000001").mkdir(parents=True)
    os.utime(file, ns=(1, 1))  # touched, and the same
    claim_inputs(place, {"base": [file]})
    file.write_bytes(b"GGUF two")
    with pytest.raises(ModelError, match=r"the base changed .*: base\.gguf"):
        claim_inputs(place, {"base": [file]})


# --- a recipe may still change where nothing is trained by it ------------------------------------


def test_a_stage_that_was_not_begun_may_be_told_otherwise(tmp_path: Path) -> None:
    """Else an error in the last stage would cost all of those before it."""
    recipe = write_feedback_run(tmp_path, SHORT)
    with pytest.raises(RecipeError, match="no prompt fits"):
        train(recipe, tmp_path / "run", overrides=["ppo.max_prompt_tokens=1"])
    assert not (tmp_path / "run" / "pretrain" / "model").exists()
    train(recipe, tmp_path / "run", STAGES_BEFORE, overrides=["ppo.max_prompt_tokens=1"])
    weights = (tmp_path / "run" / "sft" / "model" / "model.safetensors").stat().st_mtime_ns
    report, printed = train(recipe, tmp_path / "run")
    assert printed.count("is finished already") == 4
    assert report.stages[-1].name == "ppo"
    kept = (tmp_path / "run" / "sft" / "model" / "model.safetensors").stat().st_mtime_ns
    assert kept == weights
    with pytest.raises(RecipeError, match=r"`ppo\.steps` was 3 and is 4"):
        train(recipe, tmp_path / "run", overrides=["ppo.steps=4"])
