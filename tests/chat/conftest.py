"""A tokenizer made on the spot, as the template and transformers each read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import ChatTemplate, FileTokenizer

TEXTS = [
    "user assistant system What is TLS? It encrypts what travels between two machines.",
    "Ownership in Rust: each value has one owner, and is dropped with it. 0 1 2 3 4 5 6 7 8 9",
    'def greet(name):\n    print(f"Hello, {name}!")\n\n\nEine Tür, ein Café, 東京, a story.',
] * 3


@pytest.fixture(scope="session")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json that has, besides the chat tokens, added tokens not marked as special."""
    backend = train_tokenizer(TEXTS, 500)
    backend.add_tokens([AddedToken(name, special=False) for name in ("<think>", "</think>")])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer(tokenizer_json: Path) -> FileTokenizer:
    """That file as our own tokenizer."""
    return FileTokenizer(tokenizer_json)


ApplyTemplate = Callable[..., list[int]]


@pytest.fixture(scope="session")
def apply_template() -> Callable[[Path, ChatTemplate], ApplyTemplate]:
    """transformers' `apply_chat_template` over a tokenizer.json and a template's Jinja text."""

    def make(path: Path, template: ChatTemplate) -> ApplyTemplate:
        peer: Any = PreTrainedTokenizerFast(
            tokenizer_file=str(path), chat_template=template.jinja, eos_token=template.end
        )

        def ids(messages: Any, *, ask: bool = False) -> list[int]:
            turns = [message.as_dict() for message in messages]
            return list(
                peer.apply_chat_template(
                    turns, tokenize=True, add_generation_prompt=ask, return_dict=False
                )
            )

        return ids

    return make
