"""Weights as others store them: in shards, pickled, in half precision, incomplete, quantized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from network.tiny import gpt_neox, llama
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from guildgpt.bases.base import load_base, load_tokenizer
from guildgpt.bases.stored import shards, stored_dtype, weight_files
from guildgpt.errors import ModelError
from guildgpt.model.folder import write_model_folder

from .folders import PAST, bare_tokenizer, chat_tokenizer, config, logits, write_base

FORMATS = [torch.float32, torch.bfloat16, torch.float16]


def write(folder: Path, form: str, dtype: torch.dtype) -> None:
    """A base whose weights lie in one of the five forms."""
    tokenizer = chat_tokenizer()
    model = llama(vocab_size=Tokenizer.from_str(tokenizer).get_vocab_size()).to(dtype)
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    if "safetensors" in form:
        model.save_pretrained(folder, max_shard_size="100KB" if "shards" in form else "1GB")
    else:
        model.config.save_pretrained(folder)
        state = {name: one for name, one in model.state_dict().items() if name != "lm_head.weight"}
        names = list(state)
        parts = [names[::2], names[1::2]] if "shards" in form else [names]
        for number, part in enumerate(parts):
            file = f"pytorch_model-{number}.bin" if "shards" in form else "pytorch_model.bin"
            old = "old" in form
            torch.save(
                {name: state[name] for name in part},
                folder / file,
                _use_new_zipfile_serialization=not old,
            )
        if "shards" in form:
            where = {n: f"pytorch_model-{k}.bin" for k, part in enumerate(parts) for n in part}
            index = {"metadata": {}, "weight_map": where}
            (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("dtype", FORMATS, ids=["f32", "bf16", "f16"])
@pytest.mark.parametrize("form", ["safetensors", "safetensors shards", "bin", "bin shards", "old"])
def test_weights_are_read_in_the_format_that_they_have(
    tmp_path: Path, form: str, dtype: torch.dtype
) -> None:
    write(tmp_path, form, dtype)
    assert (len(shards(tmp_path)) > 1) == ("shards" in form)
    assert len(weight_files(tmp_path)) == max(len(shards(tmp_path)), 1)
    base = load_base(config(tmp_path))
    assert {p.dtype for p in base.model.parameters()} == {dtype}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(logits(base.model.float()), logits(theirs))
    assert len(base.provenance[0].sha256) == 64


def test_no_weight_is_narrowed(tmp_path: Path) -> None:
    """A few tensors in float32 among many in bfloat16; and a config.json that says otherwise."""
    write(tmp_path, "safetensors", torch.bfloat16)
    tensors = load_file(tmp_path / "model.safetensors")
    precise = torch.full_like(tensors["model.norm.weight"].float(), 1 / 3)
    tensors["model.norm.weight"] = precise
    tensors["counter"] = torch.zeros(3, dtype=torch.int64)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert stored_dtype(tmp_path) == torch.float32
    loaded = load_base(config(tmp_path)).model
    assert loaded.model.norm.weight.dtype == torch.float32
    assert torch.equal(loaded.model.norm.weight, precise)


@pytest.mark.parametrize("kind", [llama, gpt_neox], ids=["tied", "untied"])
def test_rows_of_new_tokens_in_half_precision(tmp_path: Path, kind: Any) -> None:
    model = write_base(tmp_path, bare_tokenizer(), kind=kind)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    base = load_base(config(tmp_path))
    table = base.model.get_output_embeddings().weight
    assert table.dtype == torch.bfloat16
    assert base.chat.new_tokens == [300, 301, 302]
    mean = table[:300].float().mean(0)
    apart = (table[:300].float() - mean).norm(dim=1).min()
    assert (table[300:].float() - mean).norm(dim=1).max() < 0.2 * apart
    write_model_folder(
        tmp_path / "out", base.model, base.chat,
        context=64, provenance=PAST, recipe={}, card="# x", gguf=(),
    )  # fmt: skip
    assert stored_dtype(tmp_path / "out") == torch.float32  # as small models are always saved


@pytest.mark.parametrize("row", ["zero", "equal"])
def test_rows_that_are_there_and_were_never_trained_are_new(tmp_path: Path, row: str) -> None:
    """Llama 3's bases reserve rows for chat tokens, next to nothing beside the others."""
    model = write_base(tmp_path, chat_tokenizer())
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[1:3] = table[1:3] * 1e-12 if row == "zero" else table[7]
    model.save_pretrained(tmp_path)
    base = load_base(config(tmp_path))
    assert base.chat.new_tokens == [1, 2]
    ours = base.model.get_input_embeddings().weight
    assert ours[1:3].norm(dim=1).min() > 0.01
    assert not torch.equal(ours[1], ours[2])


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path, "safetensors shards", torch.float32)
    lost = tmp_path / shards(tmp_path)[1]
    lost.unlink()
    with pytest.raises(ModelError, match="is not here") as raised:
        load_base(config(tmp_path))
    assert raised.value.where == str(lost)
    load_tokenizer(config(tmp_path))  # which needs no weights
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(ModelError, match="names no file of weights"):
        load_base(config(tmp_path))


@pytest.mark.parametrize("form", ["safetensors", "bin", "old"])
def test_weights_that_end_early(tmp_path: Path, form: str) -> None:
    write(tmp_path, form, torch.float32)
    (file,) = weight_files(tmp_path)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(ModelError, match=r"cannot be read|cannot load") as raised:
        load_base(config(tmp_path))
    assert raised.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "",
        '{"temperature": "hot", "max_length": -5}',
        '{"cache_implementation": "nope"}',
        '{"early_stopping": "x"}',
        '{"num_beams": 0, "num_return_sequences": 5}',
        '{"watermarking_config": 3, "compile_config": 4}',
        '{"temperature": 0.9, "top_p": 0.6, "do_sample": false}',
    ],
)
def test_a_wrong_generation_config_is_no_hindrance(tmp_path: Path, text: str) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "generation_config.json").write_text(text)
    base = load_base(config(tmp_path))
    out = tmp_path / "out"
    settings = {"context": 64, "provenance": PAST, "recipe": {}, "card": "# x", "gguf": ()}
    write_model_folder(out, base.model, base.chat, **settings)
    written = json.loads((out / "generation_config.json").read_text())
    assert written["eos_token_id"] == base.chat.eos_id
    assert load_base(config(out)).model.config.eos_token_id == base.chat.eos_id


@pytest.mark.parametrize("said", [{"quant_method": "gptq", "bits": 4}, {"load_in_4bit": True}])
def test_a_quantized_base_is_refused_before_its_weights_are_read(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    write_base(tmp_path, chat_tokenizer())
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "quantization_config": said}))
    (tmp_path / "model.safetensors").unlink()
    for load in (load_base, load_tokenizer):
        with pytest.raises(ModelError, match="this base is quantized") as raised:
            load(config(tmp_path))
        assert "Name the model that it was made from" in str(raised.value.remedy)
