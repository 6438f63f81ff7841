"""Bases: a causal language model and its tokenizer from wherever a recipe finds them.

Whatever the origin, what comes back is the same: a transformers model in the format that its files
have, a tokenizer.json that holds the template's control tokens, and a provenance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as Backend
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from guildgpt.bases import licences
from guildgpt.bases.chat_template import template_for
from guildgpt.bases.config import BaseConfig
from guildgpt.bases.locate import locate_base
from guildgpt.bases.misfits import misfit_of
from guildgpt.bases.replit import is_replit, load_replit
from guildgpt.bases.scratch import make_scratch, train_tokenizer
from guildgpt.bases.stored import refuse_quantized, stored_dtype
from guildgpt.bases.tokenizer import read_tokenizer
from guildgpt.chat import ChatTemplate
from guildgpt.data.provenance import Provenance
from guildgpt.errors import ModelError
from guildgpt.model.adapter import merge, plain_settings, without_adapter
from guildgpt.model.chat_tokenizer import ChatTokenizer, add_chat_tokens
from guildgpt.model.json_file import json_if_any
from guildgpt.model.quiet import first_line, quiet
from guildgpt.model.special_tokens import special_tokens


@dataclass(frozen=True)
class Base:
    """A model ready to be trained, with its chat tokens and its past."""

    model: Any  # a transformers causal language model on the CPU, in the format of its files
    chat: ChatTokenizer
    provenance: list[Provenance]  # the base, then what it was trained on, as far as known
    adapter: Path | None = None  # of peft's, to be put on the model and trained further


def load_base(config: BaseConfig, *, documents: Sequence[str] = ()) -> Base:
    """The base a recipe names, with chat tokens. `documents` are the texts a scratch base learns
    its tokenizer from."""
    adapter = None
    if config.base == "scratch":
        model, tokenizer_json = make_scratch(config.scratch, documents, config.context)
        provenance, told = [licences.SCRATCH], None
    else:
        place = locate_base(config)
        provenance, adapter, told = place.provenance, place.adapter, place.tokenizer
        model, tokenizer_json = read_model(place.folder), read_tokenizer(told)
        if adapter and config.adapter == "merge":
            model, adapter = merge(model, adapter), None
        elif adapter:
            plain_settings(adapter)  # or an error, before anything is made of it
    rows = len(model.get_input_embeddings().weight)
    chat = _chat(config, told, tokenizer_json, rows)
    chat = replace(chat, new_tokens=sorted({*chat.new_tokens, *_never_trained(model, chat)}))
    check_context(model.config, config)
    _make_room(model, chat, rows)
    return Base(model, chat, provenance, adapter)


def load_tokenizer(
    config: BaseConfig, *, documents: Sequence[str] = ()
) -> tuple[ChatTokenizer, list[Provenance]]:
    """The base's tokenizer and provenance alone, without fetching or reading its weights."""
    rows = None
    if config.base == "scratch":
        text = train_tokenizer(documents, config.scratch.vocabulary).to_str()
        provenance, told = [licences.SCRATCH], None
    else:
        place = locate_base(config, weights=False)
        provenance, told = place.provenance, place.tokenizer
        text, rows = read_tokenizer(told), _stated_rows(place.folder)
    return _chat(config, told, text, rows), provenance


def _chat(
    config: BaseConfig, folder: Path | None, tokenizer_json: str, rows: int | None
) -> ChatTokenizer:
    """The base's tokenizer with the template it is trained with; see `template_for`."""
    if folder is None:
        return add_chat_tokens(tokenizer_json, ChatTemplate(system=config.system), rows)
    template, notices = template_for(config, folder, tokenizer_json)
    special = special_tokens(folder, Backend.from_str(tokenizer_json).token_to_id)
    chat = add_chat_tokens(tokenizer_json, template, rows, bos=special.get("bos_token"))
    return replace(chat, notices=tuple(notices))


def read_model(folder: Path) -> Any:
    """A folder's causal language model, in the format that its files have."""
    config_file = folder / "config.json"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"this is not a model folder: config.json cannot be read ({error})", where=folder
        ) from error
    if is_replit(config):
        return load_replit(folder, stored_dtype(folder))
    refuse_quantized(folder, config)
    dtype = stored_dtype(folder)
    try:
        with quiet(), without_adapter(folder) as whole:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                whole,
                config=_without_dropout(folder),
                # How others sampled is none of ours, and what is wrong in it stops transformers.
                generation_config=GenerationConfig(),
                dtype=dtype,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:
        if misfit := misfit_of(folder):
            raise ModelError(
                f"the weights are not those of config.json: {misfit}",
                where=folder,
                remedy="Were the files copied from one and the same model?",
            ) from error
        raise ModelError(
            f"transformers cannot load this model ({first_line(error)})",
            where=folder,
            remedy="It takes causal language models that need no remote code.",
        ) from error
    if missing := sorted(loaded["missing_keys"]):  # transformers draws these at random
        raise ModelError(
            f"the tensor {missing[0]} is missing ({len(missing)} such)",
            where=folder,
            remedy="Were all the files downloaded, and is this a causal language model?",
        )
    return model


def context_limit(shape: Any) -> int | None:
    """The most tokens that a model's configuration says it holds, or None."""
    limit = getattr(shape, "max_position_embeddings", None) or getattr(shape, "max_seq_len", None)
    return int(limit) if limit else None


def check_context(shape: Any, config: BaseConfig) -> None:
    """ModelError where a recipe asks for rows longer than the model holds."""
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
    model.generation_config = GenerationConfig()
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = chat.bos_id
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
            mean = table[old].float().mean(0)
            for place, row in enumerate(ids):
                # A small fixed difference keeps two new tokens from being one.
                other = table[known[(place + 1) % len(known)]]
                table[row] = mean + 0.01 * (place % 3 + 1) * other


def _never_trained(model: Any, chat: ChatTokenizer) -> list[int]:
    """The template's tokens whose rows of the embedding nobody trained, though they are there: next
    to nothing beside the others (as in Llama 3's bases), or equal to the row after or before."""
    table = model.get_input_embeddings().weight.detach()
    ids = [token for token in chat.control_ids if token < len(table)]
    some = table[:: max(len(table) // 1024, 1)]  # enough to know what is usual
    usual = some.float().norm(dim=1).median() if ids else 0.0

    def untrained(token: int) -> bool:
        beside = [one for one in (token - 1, token + 1) if 0 <= one < len(table)]
        same = any(torch.equal(table[token], table[one]) for one in beside)
        return same or bool(table[token].float().norm() <= 1e-3 * usual)

    return [token for token in ids if untrained(token)]


def _without_dropout(folder: Path) -> Any:
    """The folder's configuration; nothing is dropped at random, so that a resumed run is equal."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    for key, value in config.to_dict().items():
        if "drop" in key and isinstance(value, float):
            setattr(config, key, 0.0)
    return config
