"""Tokens that a folder declares beside its tokenizer.json; transformers takes them from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from guildgpt.errors import ModelError

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def with_declared_tokens(tokenizer_json: str, folder: Path) -> str:
    """The text of a tokenizer.json with the tokens that its neighbours add to it, at their ids.

    A tokenizer.json may be older than the model: chat tokens that were trained then stand in
    tokenizer_config.json alone (`added_tokens_decoder`) or in added_tokens.json. ModelError where
    the ids do not fit.
    """
    backend = Backend.from_str(tokenizer_json)
    missing = {
        token: flags
        for token, flags in _declared(folder).items()
        if backend.token_to_id(token) is None
    }
    if not missing:
        return tokenizer_json
    spec = json.loads(tokenizer_json)
    spec["added_tokens"] = [*spec.get("added_tokens", ()), *missing.values()]
    spec["added_tokens"].sort(key=lambda one: one["id"])
    whole = Backend.from_str(json.dumps(spec, ensure_ascii=False))
    for token, flags in missing.items():
        if whole.token_to_id(token) != flags["id"]:
            raise ModelError(
                f"the tokenizer's files disagree: {token} is to be {flags['id']}, and becomes "
                f"{whole.token_to_id(token)} in tokenizer.json",
                where=folder / "tokenizer_config.json",
                remedy="Were the files copied from one and the same model?",
            )
    return str(whole.to_str())


def _declared(folder: Path) -> dict[str, dict[str, Any]]:
    """Every token that the folder declares, as an entry of a tokenizer.json's `added_tokens`."""
    found: dict[str, dict[str, Any]] = {}
    for token, number in _object(folder / "added_tokens.json").items():
        if isinstance(number, int):
            found[token] = {"id": number, "content": token, "special": True, **FLAGS}
    decoder = _object(folder / "tokenizer_config.json").get("added_tokens_decoder")
    for number, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if number.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str):
            said = {key: bool(entry.get(key, False)) for key in (*FLAGS, "special")}
            found[entry["content"]] = {"id": int(number), "content": entry["content"], **said}
    return dict(sorted(found.items(), key=lambda item: item[1]["id"]))


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
