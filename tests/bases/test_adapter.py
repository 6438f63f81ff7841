"""Adapters of peft's as people have them: alone, beside a base, merged, left aside, refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from network.tiny import gpt_neox, llama, with_lora
from peft import PeftModel, PromptTuningConfig, get_peft_model
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from guildgpt.bases.base import load_base, load_tokenizer
from guildgpt.bases.locate import locate_base
from guildgpt.errors import ModelError
from guildgpt.model.folder import write_model_folder

from .folders import bare_tokenizer, chat_tokenizer, config, logits, write_base


def write_adapter(folder: Path, base: Path, **changes: Any) -> None:
    """A drawn adapter of the base, as peft leaves it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with_lora(model, **changes).save_pretrained(folder)


def theirs(base: Path, adapter: Path) -> Any:
    """The two put together by peft itself."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()


def pair(folder: Path, kind: Any = llama, **changes: Any) -> tuple[Path, Path]:
    """A base and its adapter, each in a folder of its own."""
    base, adapter = folder / "base", folder / "adapter"
    write_base(base, chat_tokenizer(), kind=kind)
    write_adapter(adapter, base, **changes)
    return base, adapter


@pytest.mark.parametrize("kind", [llama, gpt_neox], ids=["tied", "untied"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True, "lora_dropout": 0.3},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2, "query_key_value": 2}},
        {"modules_to_save": ["embed_tokens", "lm_head", "embed_in"]},
    ],
    ids=["plain", "rslora", "dora", "pattern", "whole tables"],
)
def test_an_adapter_is_merged_as_peft_merges_it(
    tmp_path: Path, kind: Any, changes: dict[str, Any]
) -> None:
    base, adapter = pair(tmp_path, kind, **changes)
    loaded = load_base(config(adapter, adapter="merge"))
    together = logits(theirs(base, adapter))
    assert torch.allclose(logits(loaded.model), together, atol=1e-5)
    assert not torch.allclose(together, logits(AutoModelForCausalLM.from_pretrained(base)), atol=1)
    assert type(loaded.model).__name__ in ("LlamaForCausalLM", "GPTNeoXForCausalLM")
    assert loaded.adapter is None
    assert [item.name for item in loaded.provenance] == ["base", "adapter"]
    assert len({item.sha256 for item in loaded.provenance} | {""}) == 3
    out = tmp_path / "out"
    settings = {"context": 64, "provenance": [], "recipe": {}, "card": "# x", "gguf": ()}
    write_model_folder(out, loaded.model, loaded.chat, **settings)
    written = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert torch.allclose(logits(written), together, atol=1e-5)


def test_an_adapter_to_go_on_with_is_not_merged(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    loaded = load_base(config(adapter, adapter="continue"))
    assert loaded.adapter == adapter
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert torch.equal(logits(loaded.model), logits(plain))


def test_an_adapter_beside_its_base(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    expected, plain = logits(theirs(base, adapter)), logits(load_base(config(base)).model)
    shutil.copytree(adapter, base, dirs_exist_ok=True)
    assert torch.allclose(logits(load_base(config(base, adapter="merge")).model), expected)
    ignored = load_base(config(base, adapter="ignore"))
    assert torch.equal(logits(ignored.model), plain)
    assert [item.name for item in ignored.provenance] == ["base"]
    with pytest.raises(ModelError, match="nothing in this folder"):
        load_base(config(adapter, adapter="ignore"))


def test_a_pickled_adapter_of_a_base_that_moved(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    expected = logits(theirs(base, adapter))
    from safetensors.torch import load_file

    file = adapter / "adapter_model.safetensors"
    torch.save(load_file(file), adapter / "adapter_model.bin")
    file.unlink()
    moved = tmp_path / "elsewhere"
    base.rename(moved)
    with pytest.raises(ModelError, match=r"the base of this adapter, .* cannot be taken") as raised:
        load_base(config(adapter, adapter="merge"))
    assert "model.adapter_base" in str(raised.value.remedy)
    loaded = load_base(config(adapter, adapter="merge", adapter_base=str(moved)))
    assert torch.allclose(logits(loaded.model), expected, atol=1e-5)


def test_a_base_named_by_a_path_beside_the_adapter(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    base.rename(adapter / "base")
    record = json.loads((adapter / "adapter_config.json").read_text())
    record["base_model_name_or_path"] = "base"
    (adapter / "adapter_config.json").write_text(json.dumps(record))
    assert locate_base(config(adapter, adapter="merge")).folder == adapter / "base"


def test_tokens_that_came_with_the_adapter_are_trained_already(tmp_path: Path) -> None:
    """Its own tokenizer holds, and rows that the base lacks come from it."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    model = write_base(base, bare_tokenizer())
    backend = Tokenizer.from_str(bare_tokenizer())
    backend.add_special_tokens(["<|im_end|>", "<|im_start|>", "<|pad|>"])
    model.resize_token_embeddings(303, mean_resizing=False)
    torch.manual_seed(0)
    model.get_input_embeddings().weight.data[300:] = torch.randn(3, 64)
    with_lora(model, modules_to_save=["embed_tokens"]).save_pretrained(
        adapter, save_embedding_layers=False
    )
    record = json.loads((adapter / "adapter_config.json").read_text())
    record["base_model_name_or_path"] = str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(record))
    (adapter / "tokenizer.json").write_text(str(backend.to_str()))
    loaded = load_base(config(adapter, adapter="merge"))
    assert loaded.chat.new_tokens == []
    assert loaded.chat.eos_id == 300
    table = loaded.model.get_input_embeddings().weight
    assert torch.equal(table[300:], model.get_input_embeddings().weight[300:])
    assert load_tokenizer(config(adapter, adapter="merge"))[0].tokenizer.token_id("<|pad|>") == 302


def test_half_precision_stays(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(base)
    loaded = load_base(config(adapter, adapter="merge")).model
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert torch.allclose(logits(loaded.float()), logits(theirs(base, adapter)), atol=0.5)


# --- what cannot be ------------------------------------------------------------------------------


def test_no_adapter_where_one_was_to_be(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    with pytest.raises(ModelError, match="no adapter here to merge"):
        load_base(config(tmp_path, adapter="merge"))
    load_base(config(tmp_path, adapter="ignore"))


@pytest.mark.parametrize("how", ["merge", "continue"])
def test_a_learned_prompt_is_no_part_of_the_weights(tmp_path: Path, how: str) -> None:
    base, adapter = pair(tmp_path)
    shutil.rmtree(adapter)
    model = AutoModelForCausalLM.from_pretrained(base)
    settings = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(model, settings).save_pretrained(adapter)
    with pytest.raises(ModelError, match="a learned prompt"):
        load_base(config(adapter, adapter=how))


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}])
def test_only_plain_adapters_are_trained_further(tmp_path: Path, changes: dict[str, Any]) -> None:
    _, adapter = pair(tmp_path, **changes)
    with pytest.raises(ModelError, match="only plain low-rank adapters") as raised:
        load_base(config(adapter, adapter="continue"))
    assert 'model.adapter = "merge"' in str(raised.value.remedy)
    load_base(config(adapter, adapter="merge"))


def test_an_adapter_of_another_base(tmp_path: Path) -> None:
    base, adapter = pair(tmp_path)
    other = tmp_path / "other"
    write_base(other, chat_tokenizer(), kind=lambda **shape: llama(hidden_size=32, **shape))
    wrong = tmp_path / "wrong"
    write_base(wrong, chat_tokenizer(), kind=gpt_neox)
    for named in (other, wrong):
        with pytest.raises(ModelError, match="does not fit its base") as raised:
            load_base(config(adapter, adapter="merge", adapter_base=str(named)))
        assert str(base) in str(raised.value.remedy)


@pytest.mark.parametrize("lost", ["a layer", "a file", "the end", "settings", "kind"])
def test_a_broken_adapter(tmp_path: Path, lost: str) -> None:
    from safetensors.torch import load_file, save_file

    base, adapter = pair(tmp_path)
    file, settings = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    if lost == "a layer":  # peft would only warn
        tensors = load_file(file)
        del tensors[next(name for name in tensors if ".layers.1." in name)]
        save_file(tensors, file)
    elif lost == "a file":
        file.unlink()
    elif lost == "the end":
        file.write_bytes(file.read_bytes()[:-100])
    elif lost == "settings":
        settings.write_text("{")
    else:
        settings.write_text(settings.read_text().replace('"LORA"', '"NEWER"'))
    for how in ("merge", "continue"):
        if (lost, how) == ("a layer", "continue"):
            continue  # told when it is put on
        with pytest.raises(ModelError) as raised:
            load_base(config(adapter, adapter=how, adapter_base=str(base)))
        assert raised.value.remedy
        assert str(adapter) in str(raised.value.where)
