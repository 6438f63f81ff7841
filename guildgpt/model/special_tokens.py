"""What a folder in transformers' form says of its special tokens: which of the vocabulary's begin a
text, end one, fill it up or stand for what is unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from guildgpt.model.json_file import json_if_any

NAMES = ("bos_token", "eos_token", "unk_token")
TOKENIZERS_FILES = ("special_tokens_map.json", "tokenizer_config.json")  # the second goes before
MODELS_FILES = ("config.json", "generation_config.json")


def special_tokens(
    folder: Path,
    token_to_id: Callable[[str], int | None],
    names: Sequence[str] = NAMES,
) -> dict[str, str]:
    """The texts of those tokens that the files beside a tokenizer name, and that it has."""
    found = {}
    for file in TOKENIZERS_FILES:
        settings = json_if_any(folder / file)
        for name in names:
            given = settings.get(name)
            token = given.get("content") if isinstance(given, dict) else given
            if isinstance(token, str) and token_to_id(token) is not None:
                found[name] = token
    return found


def special_ids(
    folder: Path, name: str, token_to_id: Callable[[str], int | None], rows: int
) -> list[int]:
    """All ids below `rows` that a folder's files call so (`bos`, `eos` …): the tokenizer's own
    first, with which its chat goes, then those of the model."""
    token = special_tokens(folder, token_to_id, [f"{name}_token"]).get(f"{name}_token")
    ids: list[Any] = [] if token is None else [token_to_id(token)]
    for file in MODELS_FILES:
        given = json_if_any(folder / file).get(f"{name}_token_id")
        ids += given if isinstance(given, list) else [given]
    return [one for one in dict.fromkeys(ids) if type(one) is int and 0 <= one < rows]
