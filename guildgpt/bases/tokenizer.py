"""A base's tokenizer, read from whatever form its folder has it in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from guildgpt.errors import ModelError
from guildgpt.model.json_file import json_if_any
from guildgpt.model.quiet import first_line, quiet

FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def read_tokenizer(folder: Path) -> str:
    """The text of the folder's tokenizer.json, made from whatever form it has."""
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            text = file.read_text(encoding="utf-8")
            Backend.from_str(text)
        except Exception as error:  # tokenizers raises a bare Exception
            raise ModelError(
                f"this is not a tokenizer.json ({first_line(error)})",
                where=file,
                remedy="Was it copied whole?",
            ) from error
        return with_declared_tokens(text, folder)
    if (folder / "spiece.model").is_file():
        from guildgpt.bases.spiece import convert

        return with_declared_tokens(str(convert(folder / "spiece.model").to_str()), folder)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as error:
        raise ModelError(
            "this base has no tokenizer that can be read "
            f"(tokenizer.json, spiece.model; {first_line(error)})",
            where=folder,
            remedy="Copy them into its folder from where the base came from.",
        ) from error


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
    for token, number in json_if_any(folder / "added_tokens.json").items():
        if isinstance(number, int):
            found[token] = {"id": number, "content": token, "special": True, **FLAGS}
    decoder = json_if_any(folder / "tokenizer_config.json").get("added_tokens_decoder")
    for number, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if number.isdecimal() and isinstance(entry, dict) and isinstance(entry.get("content"), str):
            said = {key: bool(entry.get(key, False)) for key in (*FLAGS, "special")}
            found[entry["content"]] = {"id": int(number), "content": entry["content"], **said}
    return dict(sorted(found.items(), key=lambda item: item[1]["id"]))
