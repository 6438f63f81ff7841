"""A GGUF file as a base: converted to transformers' form, once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from guildgpt.errors import EngineError, ModelError
from guildgpt.model.gguf_file import check_whole, read_head
from guildgpt.model.quiet import first_line, quiet
from guildgpt.paths import cache_dir

CONVERSION = 2  # raised when GGUF files are converted otherwise than before


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
        _mend_pre_tokenizer(gguf, work / "tokenizer.json")
        if not folder.exists():
            work.rename(folder)
    return folder


def _mend_pre_tokenizer(gguf: Path, tokenizer_json: Path) -> None:
    """Split texts as the GGUF says: transformers takes every byte-level tokenizer for GPT-2's,
    which gives other ids where several spaces stand before a digit."""
    if read_head(gguf).metadata.get("tokenizer.ggml.pre") != "smollm":
        return
    digits = {"type": "Digits", "individual_digits": True}
    spec = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, spec["pre_tokenizer"]]}
    tokenizer_json.write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")
