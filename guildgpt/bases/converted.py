"""A GGUF file as a base: converted to transformers' form, once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from guildgpt.errors import EngineError, ModelError
from guildgpt.model.gguf_file import check_whole, read_head
from guildgpt.model.gguf_pretokenizers import pre_tokenizer_of
from guildgpt.model.quiet import first_line, quiet
from guildgpt.paths import cache_dir

CONVERSION = 3  # raised when GGUF files are converted otherwise than before


def converted(gguf: Path, sha256: str) -> Path:
    """The GGUF as a folder of safetensors in the cache, converted at the first call.

    Reading a GGUF takes transformers many seconds, reading the converted folder less than one.
    """
    folder = cache_dir() / "converted" / f"{sha256[:16]}-v{CONVERSION}"
    if (folder / "config.json").is_file():
        return folder
    try:
        check_whole(gguf)  # of a file that ends early transformers says something about shapes
    except EngineError as error:
        raise ModelError(error.what, where=error.where, remedy=error.remedy) from error
    splits = _splits(gguf)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch, quiet():
        work = Path(scratch) / "model"
        try:
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        except Exception as error:
            raise ModelError(
                f"transformers cannot read this GGUF ({first_line(error)})", where=gguf
            ) from error
        # transformers refuses to save what it still takes for a quantized model.
        del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(work)
        tokenizer.save_pretrained(work)
        if splits:
            _split_so(*splits, work / "tokenizer.json")
        if not folder.exists():
            work.rename(folder)
    return folder


def _splits(gguf: Path) -> tuple[dict[str, Any], bool] | None:
    """How the file's byte-level tokenizer splits a text before it merges; None for one of another
    kind. transformers takes those that it does not know for GPT-2's, which gives other ids than the
    model was trained on: ModelError for what is not known here."""
    metadata = read_head(gguf).metadata
    if metadata.get("tokenizer.ggml.model") != "gpt2":
        return None
    name = metadata.get("tokenizer.ggml.pre")
    found = pre_tokenizer_of(name) if isinstance(name, str) else None
    if found is None:
        raise ModelError(
            f"its tokenizer splits texts in a way that is not known here ({name})"
            if name
            else "it does not say how its tokenizer splits texts (tokenizer.ggml.pre)",
            where=gguf,
            remedy="Name the model that the file was made from in model.base: its folder in "
            "transformers' form, or its id on the Hub, has the tokenizer itself.",
        )
    return found


def _split_so(splits: dict[str, Any], whole_words: bool, tokenizer_json: Path) -> None:
    spec = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    spec["pre_tokenizer"] = splits
    spec["model"]["ignore_merges"] = whole_words
    tokenizer_json.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
