"""Whole runs on a base with a chat template of its own: it is kept to the last stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bases.families import BY_NAME, published_base
from rich.console import Console
from tiny import write_feedback_run, write_run
from transformers import AutoTokenizer

from guildgpt.chat import ChatTemplate, FileTokenizer
from guildgpt.pipeline.plan import dry_run
from guildgpt.recipe import load_recipe

from .road import SHORT
from .runs import QUESTION, TUNE, greedy_llama, greedy_torch, prompt_ids, train

OPEN = ["model.context=128", "policy=open"]


@pytest.mark.slow
def test_the_road_from_fine_tuning_to_a_policy(tmp_path: Path) -> None:
    """Reward model, judge and policy read and write what the base was tuned on."""
    base = published_base(tmp_path / "base", BY_NAME["llama-3.2"])
    recipe = write_feedback_run(tmp_path, SHORT)
    stages = ['stages=["sft", "reward", "judge", "ppo"]', f"model.base={base}", *OPEN]
    gguf = 'export.gguf=["F16"]'
    report, printed = train(recipe, tmp_path / "run", [*stages, gguf, "sft.steps=2"])
    assert "chat template" not in printed
    assert not any("template" in warning for warning in report.warnings)
    template = ChatTemplate.load(tmp_path / "run" / "sft" / "model")
    assert template.end == "<|eot_id|>"
    for stage in ("sft", "reward", "judge", "ppo"):
        folder = tmp_path / "run" / stage / "model"
        assert ChatTemplate.load(folder) == template
        tokenizer = FileTokenizer(folder / "tokenizer.json")
        assert tokenizer.token_id("<|im_end|>") is None
        peer = AutoTokenizer.from_pretrained(folder)
        ids = peer.apply_chat_template(
            [message.as_dict() for message in QUESTION],
            add_generation_prompt=True,
            return_dict=False,
        )
        assert ids == template.prompt(QUESTION, tokenizer)
    card = (tmp_path / "run" / "ppo" / "model" / "README.md").read_text(encoding="utf-8")
    assert "It keeps its base's chat template; every answer ends with `<|eot_id|>`." in card
    folder = tmp_path / "run" / "ppo" / "model"
    ids = prompt_ids(folder)
    assert greedy_llama(folder / "model-F16.gguf", ids, 6) == greedy_torch(folder, ids, 6)


def test_a_template_that_is_not_kept_is_said_before_and_after(tmp_path: Path) -> None:
    base = published_base(tmp_path / "base", replace(BY_NAME["qwen-3"], name="qwq"))
    recipe = write_run(tmp_path, TUNE.replace("BASE", str(base)))
    (said,) = dry_run(load_recipe(recipe, OPEN), Console(quiet=True))["warnings"]
    assert said.startswith("the base's own chat template is not kept (")
    report, printed = train(recipe, tmp_path / "run", OPEN)
    assert said in printed
    assert said in report.warnings
    assert ChatTemplate.load(tmp_path / "run" / "sft" / "model").name == "chatml"
