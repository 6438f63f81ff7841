"""A model folder is talked to with its own template and tokenizer."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from guildgpt.chat import ChatTemplate, FileTokenizer, Message
from guildgpt.engines import SamplingParams, complete
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.errors import ModelError
from guildgpt.repl import ask


def test_ask_a_model_folder(
    starter: Path, engine: LlamaCppEngine, file_tokenizer: FileTokenizer, tmp_path: Path
) -> None:
    template = ChatTemplate(system="Answer as a pirate.")
    template.save(tmp_path)
    (tmp_path / "model-Q4_1.gguf").symlink_to(starter)
    greedy = SamplingParams(temperature=0, max_tokens=12)
    with pytest.raises(ModelError, match="no tokenizer"):
        ask(str(tmp_path), "Hi", params=greedy)

    shutil.copy(file_tokenizer.path, tmp_path / "tokenizer.json")
    ids = template.prompt([Message("user", "Hi")], file_tokenizer)
    expected = asyncio.run(complete(engine, ids, greedy)).text
    assert ask(str(tmp_path), "Hi", params=greedy) == expected
