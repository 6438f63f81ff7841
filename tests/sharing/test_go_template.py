"""Templates in Go's language, as Go itself renders them: the same text as ours.

Go is not needed here: what it said is in go_said.json, with the templates that it said it of.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from guildgpt.chat import ChatTemplate, Message
from guildgpt.sharing.go_template import in_go

from .go_said import FILE, conversations, templates

SAID: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
TEMPLATES = templates()
known = pytest.mark.parametrize("name", TEMPLATES)


class Letters:
    """A tokenizer whose ids are letters, and control tokens' names, so that ids are text again."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def encode(self, text: str, after: str = "nothing", /) -> list[int]:
        return [ord(letter) for letter in text]

    def token_id(self, token: str) -> int:
        self.names += [token] * (token not in self.names)
        return 0x110000 + self.names.index(token)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(one) if one < 0x110000 else self.names[one - 0x110000] for one in ids)


def prompt(template: ChatTemplate, messages: Sequence[Message]) -> str:
    """The text that asks for an answer to a conversation, or for the rest of its last one."""
    letters = Letters()
    begun = messages[-1].role == "assistant"
    asked = letters.decode(template.prompt(messages[:-1] if begun else messages, letters))
    return asked + (template.lead + messages[-1].content) * begun


@known
def test_go_renders_what_our_template_renders(name: str) -> None:
    template = TEMPLATES[name]
    assert len(SAID[name]["said"]) == len(conversations())
    for messages, said in zip(conversations(), SAID[name]["said"], strict=True):
        assert said == prompt(template, messages)


@known
def test_what_go_was_asked_is_what_is_written_today(name: str) -> None:
    """Where this fails, a template came out otherwise: see go_said.py for how to ask Go again."""
    assert in_go(TEMPLATES[name]) == SAID[name]["template"]


def test_nobody_is_left_out() -> None:
    assert SAID.keys() == TEMPLATES.keys()


@pytest.mark.parametrize("name", ["llama-3", "gemma-3", "mistral-v1"])
def test_a_beginning_that_is_put_there_by_others(name: str) -> None:
    """llama.cpp does where a GGUF says so: it stands in no template then, and else once."""
    template = TEMPLATES[name]
    whole = in_go(template)
    assert whole.count(template.begin) == 1
    assert in_go(template, begins=True) == whole.replace(template.begin, "")
