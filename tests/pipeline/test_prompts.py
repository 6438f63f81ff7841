"""What a policy is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import write_run

from guildgpt.bases.base import load_tokenizer
from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import ChatTemplate, Comparison, Message
from guildgpt.errors import DataError, RecipeError
from guildgpt.model.chat_tokenizer import add_chat_tokens
from guildgpt.pipeline.prepare import gather, prepare
from guildgpt.pipeline.prompts import prepare_prompts, prompts_of
from guildgpt.recipe import load_recipe
from guildgpt.rewards.wanted import Wanted
from guildgpt.train.config import GrpoConfig


def test_prompts_that_are_too_long_are_counted_and_equal_ones_asked_once() -> None:
    backend = train_tokenizer(["What is it? Who was that?"], 300)
    template = ChatTemplate()
    chat = add_chat_tokens(backend.to_str(), template)
    tokenizer = chat.tokenizer

    def ask(text: str) -> tuple[Message, ...]:
        return (Message("user", text),)

    exact = len(template.prompt(ask("What is it?"), tokenizer))
    texts = ["What is it?", "what  is IT?", "What is it? " * 9, "Who was that? " * 9, "Who?"]
    prompts, too_long = prompts_of(list(map(ask, texts)), [Wanted()] * len(texts), chat, exact)
    assert [prompt.messages[0].content for prompt in prompts] == ["What is it?", "Who?"]
    assert too_long == 2
    assert list(prompts[0].ids) == template.prompt(ask("What is it?"), tokenizer)


def test_a_share_of_the_prompts_has_drawn_constraints(tmp_path: Path) -> None:
    """One for each place, where the recipe says how many steps there are."""
    recipe = load_recipe(write_run(tmp_path), [
        'stages=["grpo"]', "grpo.steps=5", "grpo.batch_size=8", "grpo.group=2",
        "grpo.constrained_share=0.75", "grpo.max_prompt_tokens=400",
        "grpo.terms.constraints.weight=1",
    ])  # fmt: skip
    data = gather(recipe, ["grpo"], recipe.model)
    chat, _ = load_tokenizer(recipe.model, documents=[d.text for d in data.documents])
    prompts, _ = prepare_prompts("grpo", recipe, data.dataset, chat)
    constrained = [one for one in prompts if one.wanted.constraints]
    assert (len(prompts), len(constrained)) == (20, 15)
    assert len({one.messages for one in constrained}) == 15
    again, _ = prepare_prompts("grpo", recipe, data.dataset, chat)
    assert again == prompts
    only = load_recipe(tmp_path / "tiny.toml", [
        'stages=["ppo"]', "ppo.steps=2", "ppo.batch_size=4", "ppo.constrained_share=1",
        "ppo.max_prompt_tokens=400",
        "ppo.terms.constraints.weight=1",
    ])  # fmt: skip
    prompts, _ = prepare_prompts("ppo", only, data.dataset, chat)
    assert [bool(one.wanted.constraints) for one in prompts] == [True] * 8
    by_epochs = load_recipe(tmp_path / "tiny.toml", [
        'stages=["ppo"]', "ppo.constrained_share=0.5", "ppo.max_prompt_tokens=400",
        "ppo.terms.constraints.weight=1",
    ])  # fmt: skip
    prompts, _ = prepare_prompts("ppo", by_epochs, data.dataset, chat)
    rows = {one.messages for one in prompts if not one.wanted}
    assert len(rows) * 2 == len(prompts)


@pytest.mark.parametrize("weight", [0, 0.3])
def test_fine_tuning_s_rows_are_learned_from_where_they_weigh_something(
    tmp_path: Path, weight: float
) -> None:
    recipe = load_recipe(write_run(tmp_path), [
        'stages=["grpo"]', "grpo.max_prompt_tokens=400", "grpo.terms.repetition.weight=1",
        f"grpo.demonstrations.weight={weight}",
    ])  # fmt: skip
    data = gather(recipe, ["grpo"], recipe.model)
    chat, _ = load_tokenizer(recipe.model, documents=[d.text for d in data.documents])
    rows = prepare("grpo", recipe, data, chat)
    assert rows.train
    assert rows.demonstrations == (rows.train if weight else [])
    assert rows.trained_on == [*rows.prompts, *rows.demonstrations]


def test_demonstrations_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    recipe = load_recipe(write_run(tmp_path), [
        'stages=["grpo"]', "grpo.max_prompt_tokens=400", "grpo.terms.repetition.weight=1",
        "grpo.demonstrations.weight=0.3",
    ])  # fmt: skip
    data = gather(recipe, ["grpo"], recipe.model)
    chat, _ = load_tokenizer(recipe.model, documents=[d.text for d in data.documents])
    answers = (Message("assistant", "Yes."), Message("assistant", "No."))
    asked = [Comparison(row.prompt, answers) for row in data.dataset.train]
    compared = replace(data.dataset, train=[], train_comparisons=asked)
    with pytest.raises(RecipeError, match="no conversation that could be shown") as error:
        prepare("grpo", recipe, replace(data, dataset=compared), chat)
    assert error.value.where == "grpo.demonstrations.weight"


def test_a_row_whose_answer_breaks_its_constraint_stops_the_run(tmp_path: Path) -> None:
    recipe = load_recipe(write_run(tmp_path), [
        'stages=["grpo"]', "data.held_out=0", "grpo.terms.constraints.weight=1",
    ])  # fmt: skip
    row = {"prompt": "Who?", "completion": "Me", "constraints": [{"kind": "lower_case"}]}
    with (tmp_path / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:61: .* breaks its constraint `lower_case`"):
        gather(recipe, ["grpo"], recipe.model)
    ignoring = recipe.model_copy(update={"grpo": GrpoConfig.model_validate(
        {"terms": {"length": {"weight": 1}}}
    )})  # fmt: skip
    warnings = gather(ignoring, ["grpo"], recipe.model).warnings
    assert any("1 row with `constraints`, which counts for nothing" in one for one in warnings)
