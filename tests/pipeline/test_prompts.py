"""What a policy is asked."""

from __future__ import annotations

from pathlib import Path

from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import ChatTemplate, FileTokenizer, Message
from guildgpt.pipeline.prompts import prompts_of


def test_prompts_that_are_too_long_are_counted_and_equal_ones_asked_once(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    train_tokenizer(["What is it? Who was that?"], 300).save(str(path))
    tokenizer, template = FileTokenizer(path), ChatTemplate()

    def ask(text: str) -> tuple[Message, ...]:
        return (Message("user", text),)

    exact = len(template.prompt(ask("What is it?"), tokenizer))
    texts = ["What is it?", "what  is IT?", "What is it? " * 9, "Who was that? " * 9, "Who?"]
    prompts, too_long = prompts_of(list(map(ask, texts)), tokenizer, template, limit=exact)
    assert [prompt.messages[0].content for prompt in prompts] == ["What is it?", "Who?"]
    assert too_long == 2
    assert list(prompts[0].ids) == template.prompt(ask("What is it?"), tokenizer)
