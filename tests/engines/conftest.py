"""One engine for all tests of a session, and the starter's vocabulary as a tokenizer.json.

One thread each: with more, llama.cpp crawls while other programs keep the cores busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from guildgpt.chat import FileTokenizer
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.model.gguf_file import CONTROL_TOKEN, read_head


@pytest.fixture(scope="session")
def engine(starter: Path) -> Iterator[LlamaCppEngine]:
    """Four slots of 512 tokens."""
    opened = LlamaCppEngine(starter, context=512, slots=4, threads=1)
    yield opened
    asyncio.run(opened.close())


@pytest.fixture(scope="session")
def single(starter: Path) -> Iterator[LlamaCppEngine]:
    """One slot of 2048 tokens."""
    opened = LlamaCppEngine(starter, context=2048, threads=1)
    yield opened
    asyncio.run(opened.close())


@pytest.fixture(scope="session")
def file_tokenizer(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> FileTokenizer:
    """The tokenizer a model folder made from the starter has."""
    metadata = read_head(starter).metadata
    names = [name.decode() for name in metadata["tokenizer.ggml.tokens"]]
    types = metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.decode().split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [
            AddedToken(name, special=True, normalized=False)
            for name, kind in zip(names, types, strict=True)
            if kind == CONTROL_TOKEN
        ]
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(path))
    return FileTokenizer(path)
