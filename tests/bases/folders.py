"""Bases as others leave them: a model and its tokenizer in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from network.tiny import llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from guildgpt.bases.config import BaseConfig
from guildgpt.bases.scratch import train_tokenizer
from guildgpt.chat import CHATML
from guildgpt.data.provenance import Provenance
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.model.folder import write_model_folder

TEXT = [
    "A guild keeps its own assistant; members ask it things, and rate what it says.",
    "def greet(name):\n    return f'hello, {name}'  # 1024 of them, or 65536\n",
]
MIXED = [*TEXT, "a  1", "in 2024,   12 and 3", " x\n\n\ty ", "naïve café 日本語 🎉", "<|im_end|>"]
IDS = torch.tensor([[5, 1, 40, 7, 30, 2]])
PAST = [
    Provenance("scratch", "base", "own", "made by this run", written_by="people"),
    Provenance("dolly", "data", "CC-BY-SA-3.0", "x/y", "abc", "0" * 64, 7, "people", "Databricks"),
]


def bare_tokenizer(size: int = 300, special: tuple[str, ...] = ()) -> str:
    """A byte-level tokenizer that never heard of chat."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return str(tokenizer.to_str())


def write_base(folder: Path, tokenizer: str, rows: int | None = None, kind: Any = llama) -> Any:
    """A folder as others leave it: a model and its tokenizer.json. Gives the model."""
    model = kind(vocab_size=rows or Tokenizer.from_str(tokenizer).get_vocab_size())
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return model


def chat_tokenizer() -> str:
    return str(train_tokenizer(TEXT * 3, 320).to_str())


def config(base: object, **changes: Any) -> BaseConfig:
    return BaseConfig(**{"base": str(base), "context": 64, **changes})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def own_folder(folder: Path, **changes: Any) -> Any:
    """A model folder of ours, as a stage leaves it. Gives the model."""
    chat = add_chat_tokens(chat_tokenizer(), CHATML)
    model = llama(vocab_size=len(chat.tokenizer), eos_token_id=2, pad_token_id=0, bos_token_id=None)
    settings = {"context": 64, "provenance": PAST, "recipe": {}, "card": "# x", "gguf": ()}
    write_model_folder(folder, model, chat, **{**settings, **changes})
    return model


def settings_are_true(base: Any) -> None:
    """The configuration names the ids that the tokenizer has, and pad is not the end of turn."""
    chat: ChatTokenizer = base.chat
    assert chat.pad_id != chat.eos_id
    assert chat.eos_id == chat.tokenizer.token_id("<|im_end|>")
    for settings in (base.model.config, base.model.generation_config):
        assert settings.eos_token_id == chat.eos_id
        assert settings.pad_token_id == chat.pad_id
        assert settings.bos_token_id is None
