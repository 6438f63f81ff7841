"""Bases: a causal language model and its tokenizer from wherever a recipe finds them.

Whatever the origin, what comes back is the same: a transformers model in float32, a tokenizer.json
that holds the template's control tokens, and a provenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from guildgpt.bases import licences
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.bases.scratch import make_scratch, train_tokenizer
from guildgpt.bases.tokenizer import read_tokenizer
from guildgpt.bases.weights import read_model
from guildgpt.chat import ChatTemplate
from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.model.json_file import json_if_any
from guildgpt.model.quiet import quiet


@dataclass(frozen=True)
class Base:
    """A model ready to be trained, with its chat tokens and its past."""

    model: Any  # a transformers causal language model on the CPU, float32
    chat: ChatTokenizer
    provenance: list[Provenance]  # the base, then what it was trained on, as far as known


def load_base(config: BaseConfig, *, documents: Sequence[str] = ()) -> Base:
    """The base a recipe names, with chat tokens. `documents` are the texts a scratch base learns
    its tokenizer from."""
    if config.base == "scratch":
        model, tokenizer_json = make_scratch(config.scratch, documents, config.context)
        provenance = [licences.SCRATCH]
    else:
        folder, provenance = locate_base(config)
        model, tokenizer_json = read_model(folder), read_tokenizer(folder)
    rows = len(model.get_input_embeddings().weight)
    chat = add_chat_tokens(tokenizer_json, ChatTemplate(system=config.system), rows)
    _check_context(model.config, config)
    _make_room(model, chat, rows)
    return Base(model, chat, provenance)


def load_tokenizer(
    config: BaseConfig, *, documents: Sequence[str] = ()
) -> tuple[ChatTokenizer, list[Provenance]]:
    """The base's tokenizer and provenance alone, without fetching or reading its weights."""
    rows = None
    if config.base == "scratch":
        text = train_tokenizer(documents, config.scratch.vocabulary).to_str()
        provenance = [licences.SCRATCH]
    else:
        folder, provenance = locate_base(config, weights=False)
        text, rows = read_tokenizer(folder), _stated_rows(folder)
    return add_chat_tokens(text, ChatTemplate(system=config.system), rows), provenance


def context_limit(shape: Any) -> int | None:
    """The most tokens that a model's configuration says it holds, or None."""
    limit = getattr(shape, "max_position_embeddings", None) or getattr(shape, "max_seq_len", None)
    return int(limit) if limit else None


def _check_context(shape: Any, config: BaseConfig) -> None:
    limit = context_limit(shape)
    if limit and config.context > limit:
        raise ModelError(
            f"{config.base} holds {limit} tokens, and model.context asks for {config.context}",
            where="model.context",
            remedy=f"Set it to {limit} or less.",
        )


def _make_room(model: Any, chat: ChatTokenizer, rows: int) -> None:
    """Rows for new tokens, beyond the `rows` that there are, and the model's configuration true to
    its tokenizer."""
    if len(chat.tokenizer) > rows:
        with quiet():
            model.resize_token_embeddings(len(chat.tokenizer), mean_resizing=False)
    _start_rows(model, chat.new_tokens)
    # How others sampled is none of ours, and transformers refuses to write some of what it reads.
    model.generation_config = GenerationConfig()
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = None  # the template writes none
        settings.eos_token_id = chat.eos_id
        settings.pad_token_id = chat.pad_id


def _stated_rows(folder: Path) -> int | None:
    """How many rows a folder's config.json says that its embedding has."""
    config = json_if_any(folder / "config.json")
    inner = config.get("text_config")
    rows = config.get("vocab_size") or (inner.get("vocab_size") if isinstance(inner, dict) else 0)
    return rows if isinstance(rows, int) and rows else None


def _start_rows(model: Any, ids: list[int]) -> None:
    """Set untrained rows to the mean of the others: a token as unremarkable as can be, so that
    neither the first softmax nor the first gradient is dominated by it."""
    if not ids:
        return
    modules = (model.get_input_embeddings(), model.get_output_embeddings())
    tables = {id(module.weight): module.weight for module in modules}
    with torch.no_grad():
        for table in tables.values():
            old = torch.ones(len(table), dtype=torch.bool)
            old[ids] = False
            known = old.nonzero()[:, 0].tolist()
            mean = table[old].mean(0)
            for place, row in enumerate(ids):
                # A small fixed difference keeps two new tokens from being one.
                other = table[known[(place + 1) % len(known)]]
                table[row] = mean + 0.01 * (place % 3 + 1) * other
