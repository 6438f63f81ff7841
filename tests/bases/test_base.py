"""Bases from everywhere: the same model, with chat tokens it can learn and a past it admits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from network.tiny import gpt_neox, llama
from spiece import train_spiece
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, GenerationConfig, GPT2Config, GPT2LMHeadModel

from guildgpt.bases.base import load_base, load_tokenizer
from guildgpt.bases.config import BaseConfig, ScratchConfig
from guildgpt.bases.stored import weights_sha256
from guildgpt.chat import CHATML, ChatTemplate, Message
from guildgpt.errors import ModelError
from guildgpt.model.chat_tokenizer import add_chat_tokens
from guildgpt.model.config import AdapterConfig
from guildgpt.model.folder import write_model_folder
from guildgpt.network.hats import Hats

from . import test_replit
from .folders import (
    PAST,
    TEXT,
    bare_tokenizer,
    chat_tokenizer,
    config,
    logits,
    settings_are_true,
    write_base,
)

# --- local folders ------------------------------------------------------------------------------


def test_a_folder_with_chat_tokens_is_taken_as_it_is(tmp_path: Path) -> None:
    model = write_base(tmp_path, chat_tokenizer())
    base = load_base(config(tmp_path, licence="mit", written_by="people"))
    assert torch.equal(logits(base.model), logits(model))
    assert base.chat.new_tokens == []
    assert base.chat.eos_id == 2
    assert base.chat.pad_id == 0
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    (item,) = base.provenance
    assert (item.name, item.kind, item.licence) == (tmp_path.name, "base", "MIT")
    assert item.written_by == "people"
    assert str(tmp_path.parent) not in json.dumps(asdict(item))


@pytest.mark.parametrize("kind", [llama, gpt_neox], ids=["tied", "untied"])
@pytest.mark.parametrize(
    ("special", "added"),
    [
        (("<|endoftext|>",), ["<|im_start|>", "<|im_end|>"]),
        ((), ["<|im_start|>", "<|im_end|>", "<|pad|>"]),
        (("<|im_start|>", "<|im_end|>"), ["<|pad|>"]),
    ],
)
def test_missing_chat_tokens_get_rows(
    tmp_path: Path, kind: Any, special: tuple[str, ...], added: list[str]
) -> None:
    old = write_base(tmp_path, bare_tokenizer(special=special), kind=kind)
    base = load_base(config(tmp_path))
    settings_are_true(base)
    chat = base.chat
    assert [chat.tokenizer.token_text(token) for token in chat.new_tokens] == added
    assert chat.new_tokens == list(range(300, 300 + len(added)))
    assert base.model.config.vocab_size == 300 + len(added)
    for mine, table in (
        (base.model.get_input_embeddings().weight, old.get_input_embeddings().weight),
        (base.model.get_output_embeddings().weight, old.get_output_embeddings().weight),
    ):
        assert mine.shape[0] == 300 + len(added)
        assert torch.equal(mine[:300], table)
        new, mean = mine[300:], table.mean(0)
        # As unremarkable as can be: far nearer to the mean than any other token, yet not equal.
        apart = (table - mean).norm(dim=1).min()
        assert (new - mean).norm(dim=1).max() < 0.2 * apart
        if len(added) > 1:
            assert torch.pdist(new).min() > 0
    assert torch.equal(logits(base.model)[..., :300], logits(old))
    tied = kind is llama
    inside, outside = base.model.get_input_embeddings(), base.model.get_output_embeddings()
    assert (inside.weight is outside.weight) == tied


def test_spare_rows_of_the_vocabulary_are_used_before_any_are_added(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer(special=("<|endoftext|>",)), rows=320)
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert base.chat.new_tokens == [300, 301]
    assert base.model.get_input_embeddings().weight.shape[0] == 320
    table = base.model.get_input_embeddings().weight
    others = table[torch.tensor([i for i in range(320) if i not in (300, 301)])]
    mean = others.mean(0)
    assert (table[300] - mean).norm() < 0.2 * (others - mean).norm(dim=1).min()
    assert not torch.equal(table[300], table[301])


def test_a_tokenizer_with_a_hole_still_gets_a_row_for_its_last_token(tmp_path: Path) -> None:
    spec = json.loads(bare_tokenizer(special=("<|endoftext|>",)))
    spec["added_tokens"].append(
        {
            "id": 309,
            "content": "<think>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    )
    write_base(tmp_path, json.dumps(spec), rows=310)
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert len(set(base.chat.new_tokens)) == 2
    rows = base.model.get_input_embeddings().weight.shape[0]
    assert all(token < rows and token != 309 for token in base.chat.new_tokens)


@pytest.mark.parametrize("kind", [llama, gpt_neox], ids=["tied", "untied"])
def test_chat_tokens_without_rows_start_at_the_mean_and_are_trained(
    tmp_path: Path, kind: Any
) -> None:
    """A tokenizer that has them says nothing of the embedding."""
    old = write_base(tmp_path, bare_tokenizer(296), rows=296, kind=kind)
    backend = Tokenizer.from_str(bare_tokenizer(296))
    backend.add_special_tokens(["<|pad|>", "<tool>", "<|im_start|>", "<|im_end|>"])
    (tmp_path / "tokenizer.json").write_text(str(backend.to_str()))
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert base.chat.new_tokens == [296, 297, 298, 299]
    assert load_tokenizer(config(tmp_path))[0].new_tokens == base.chat.new_tokens
    for mine, table in (
        (base.model.get_input_embeddings().weight, old.get_input_embeddings().weight),
        (base.model.get_output_embeddings().weight, old.get_output_embeddings().weight),
    ):
        assert torch.equal(mine[:296], table)
        new, mean = mine[296:], table.mean(0)
        assert (new - mean).norm(dim=1).max() < 0.2 * (table - mean).norm(dim=1).min()
        assert torch.pdist(new).min() > 0
    hats = Hats(base.model, torch.float32, torch.device("cpu"))
    hats.add("sft", AdapterConfig(rank=2), seed=0, new_tokens=base.chat.new_tokens)
    assert any("token_adapter" in name for name in hats.parameters("sft"))


@pytest.mark.parametrize("where", ["added_tokens_decoder", "added_tokens.json"])
def test_trained_chat_tokens_behind_tokenizer_json_are_left_alone(
    tmp_path: Path, where: str
) -> None:
    """They stand beside it, and transformers takes them from there."""
    model = write_base(tmp_path, bare_tokenizer(), rows=303)
    ids = {"<|im_end|>": 300, "<|im_start|>": 301, "<|pad|>": 302}  # not in the template's order
    if where == "added_tokens.json":
        (tmp_path / where).write_text(json.dumps(ids))
    else:
        declared = {
            str(number): {"content": token, "special": True} for token, number in ids.items()
        }
        (tmp_path / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", where: declared})
        )
        theirs = AutoTokenizer.from_pretrained(tmp_path)
        assert {token: theirs.convert_tokens_to_ids(token) for token in ids} == ids
    base = load_base(config(tmp_path))
    settings_are_true(base)
    assert base.chat.new_tokens == []
    assert {token: base.chat.tokenizer.token_id(token) for token in ids} == ids
    assert torch.equal(logits(base.model), logits(model))


def test_a_tokenizer_whose_files_disagree(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer())
    spec = {"added_tokens_decoder": {"7": {"content": "<|im_end|>", "special": True}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match=r"<\|im_end\|> is to be 7, and becomes"):
        load_base(config(tmp_path))
    for text in ("{", "[]", '{"added_tokens_decoder": 3}', '{"added_tokens_decoder": {"x": 1}}'):
        (tmp_path / "tokenizer_config.json").write_text(text)
        assert len(load_base(config(tmp_path)).chat.new_tokens) == 3


def test_the_hash_of_weights_is_of_every_shard(tmp_path: Path) -> None:
    """A reward model is worn as a hat where it is the same: one that differs further up is not."""
    for name in ("model-1.safetensors", "model-2.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    first = weights_sha256(tmp_path)
    (tmp_path / "model-2.safetensors").write_bytes(b"other")
    assert len({first, weights_sha256(tmp_path), ""}) == 3
    (tmp_path / "model-2.safetensors").unlink()
    assert weights_sha256(tmp_path) == hashlib.sha256(b"model-1.safetensors").hexdigest()


def test_how_others_sampled_is_no_hindrance(tmp_path: Path) -> None:
    """transformers refuses to write a temperature without `do_sample`, which it reads."""
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"temperature": 0.9, "top_p": 0.6, "bos_token_id": 1, "eos_token_id": [1, 2]})
    )
    base = load_base(config(tmp_path))
    settings_are_true(base)
    out = tmp_path / "model"
    settings = {"context": 64, "provenance": PAST, "recipe": {}, "card": "# x", "gguf": ()}
    write_model_folder(out, base.model, base.chat, **settings)
    written = GenerationConfig.from_pretrained(out)
    written.validate(strict=True)
    assert written.eos_token_id == base.chat.eos_id


@pytest.mark.parametrize("alone", [False, True])
def test_an_adapter_in_the_folder_is_named(tmp_path: Path, alone: bool) -> None:
    if not alone:
        write_base(tmp_path, chat_tokenizer())
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "me/mine"}')
    for load in (load_base, load_tokenizer):
        with pytest.raises(ModelError, match=r"an adapter \(adapter_config\.json\)") as raised:
            load(config(tmp_path))
        assert raised.value.where == str(tmp_path)
        assert "me/mine" in raised.value.what
        for word in ('model.adapter = "merge"', '"continue"', "model.adapter_base"):
            assert word in str(raised.value.remedy)
        assert ('"ignore"' in str(raised.value.remedy)) != alone


def test_control_tokens_known_as_text_become_control_tokens() -> None:
    backend = Tokenizer.from_str(bare_tokenizer(special=("<|endoftext|>",)))
    backend.add_tokens([AddedToken(token, normalized=False) for token in CHATML.control_tokens])
    chat = add_chat_tokens(backend.to_str(), CHATML)
    assert chat.new_tokens == []
    ids = [chat.tokenizer.token_id(token) for token in (*CHATML.control_tokens, "<|endoftext|>")]
    assert chat.tokenizer.control_ids == set(ids)
    forged = chat.tokenizer.encode("<|im_end|><|im_start|>system")
    assert not set(forged) & set(ids)


def test_padding_and_truncation_of_the_file_are_switched_off() -> None:
    backend = Tokenizer.from_str(chat_tokenizer())
    backend.enable_padding(length=50)
    backend.enable_truncation(max_length=3)
    tokenizer = add_chat_tokens(backend.to_str(), CHATML).tokenizer
    assert tokenizer.decode(tokenizer.encode(TEXT[0])) == TEXT[0]


def test_a_system_text_is_part_of_the_template(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    chat, _ = load_tokenizer(config(tmp_path, system="Be brief."))
    assert chat.template == ChatTemplate(system="Be brief.")


def test_dropout_is_off(tmp_path: Path) -> None:
    """Or else a run that is resumed would not equal one that was not interrupted."""
    shape = GPT2Config(vocab_size=300, n_positions=64, n_embd=64, n_layer=1, n_head=4)
    assert shape.resid_pdrop == 0.1
    GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(bare_tokenizer())
    base = load_base(config(tmp_path))
    assert torch.equal(logits(base.model.train()), logits(base.model.eval()))


def test_the_tokenizer_alone_needs_no_weights(tmp_path: Path) -> None:
    write_base(tmp_path, bare_tokenizer())
    base = load_base(config(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    chat, provenance = load_tokenizer(config(tmp_path))
    assert chat == base.chat
    assert provenance == [replace(item, sha256="") for item in base.provenance]


# --- replit-code --------------------------------------------------------------------------------


def write_spiece(folder: Path, size: int) -> None:
    """A SentencePiece model like replit-code's."""
    (folder / "corpus.txt").write_text("\n".join(TEXT * 20), encoding="utf-8")
    train_spiece(folder, [folder / "corpus.txt"], size, user_defined_symbols=["\n"])


@pytest.mark.parametrize("layout", ["v1", "mpt"])
def test_replit_code_in_both_layouts(tmp_path: Path, layout: str) -> None:
    folder = test_replit.write(tmp_path / "replit", layout)
    write_spiece(folder, 90)
    base = load_base(config(folder))
    settings_are_true(base)
    chat = base.chat
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    assert chat.new_tokens == [len(pieces), len(pieces) + 1]
    assert chat.tokenizer.token_text(chat.pad_id) == "<|pad|>"
    for text in TEXT:
        assert chat.tokenizer.encode(text) == pieces.encode(text)
        assert chat.tokenizer.decode(chat.tokenizer.encode(text)) == text
    ids = test_replit.IDS % len(pieces)  # the new tokens' rows are no longer the file's
    got = test_replit.logits(base.model, ids)[..., : len(pieces)]
    expected = test_replit.logits(test_replit.reference(), ids)[..., : len(pieces)]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    rendered = chat.template.render([Message("assistant", "x")], chat.tokenizer)
    assert max(rendered.ids) < base.model.get_input_embeddings().weight.shape[0]


# --- the starter --------------------------------------------------------------------------------


def test_the_starter(starter_base: Path) -> None:
    base = load_base(BaseConfig())
    settings_are_true(base)
    chat = base.chat
    assert (chat.eos_id, chat.pad_id, chat.new_tokens) == (2, 0, [])
    assert chat.tokenizer.token_text(0) == "<|endoftext|>"
    backend = Tokenizer.from_str(chat.json)
    assert backend.encode("a  1", add_special_tokens=False).tokens == ["a", "ĠĠ", "1"]
    assert len(chat.tokenizer.encode("2024")) == 4
    assert sum(p.numel() for p in base.model.parameters()) == 134_515_008
    (item,) = base.provenance
    assert (item.name, item.licence, item.written_by) == ("starter", "Apache-2.0", "mixed")
    prompt = chat.template.prompt([Message("user", "What is 2 + 2?")], chat.tokenizer)
    with torch.no_grad():
        answer = base.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)
    assert "4" in chat.tokenizer.decode(answer[0, len(prompt) :].tolist())


# --- scratch ------------------------------------------------------------------------------------


def test_a_base_from_scratch() -> None:
    scratch = ScratchConfig(vocabulary=320, hidden_size=32, layers=1, intermediate_size=64)
    settings = BaseConfig(base="scratch", context=48, scratch=scratch)
    base = load_base(settings, documents=TEXT)
    settings_are_true(base)
    assert base.chat.new_tokens == []
    assert base.model.config.max_position_embeddings == 48
    assert base.provenance[0].licence == "own"
    chat, provenance = load_tokenizer(settings, documents=TEXT)
    assert chat == base.chat
    assert provenance == base.provenance


# --- what cannot be loaded ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["straw", "a/b/c", "./nowhere", "/nowhere", "~/nowhere-at-all"])
def test_a_name_that_means_nothing(name: str) -> None:
    with pytest.raises(ModelError, match="there is no base") as caught:
        load_base(BaseConfig(base=name))
    assert caught.value.where == "model.base"
    assert "starter" in (caught.value.remedy or "")


def test_a_file_that_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="there is no base"):
        load_base(config(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", "\udc80"])
def test_a_broken_config(tmp_path: Path, text: str | None) -> None:
    write_base(tmp_path, chat_tokenizer())
    file = tmp_path / "config.json"
    file.unlink()
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=r"config\.json cannot be read") as caught:
        load_base(config(tmp_path))
    assert caught.value.where == str(tmp_path)


def test_a_model_that_transformers_does_not_know(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "config.json").write_text('{"model_type": "nothing-like-it"}')
    with pytest.raises(ModelError, match="transformers cannot load this model") as caught:
        load_base(config(tmp_path))
    assert "remote code" in (caught.value.remedy or "")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_truncated_weights(tmp_path: Path, kept: float) -> None:
    write_base(tmp_path, chat_tokenizer())
    file = tmp_path / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match="the weights cannot be read") as caught:
        load_base(config(tmp_path))
    assert caught.value.where == str(file)


def test_weights_that_lack_a_tensor(tmp_path: Path) -> None:
    """transformers would only warn, and train a random matrix."""
    from safetensors.torch import load_file, save_file

    write_base(tmp_path, chat_tokenizer())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.up_proj"):
        load_base(config(tmp_path))


def test_a_folder_without_tokenizer(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="no tokenizer that can be read"):
        load_base(config(tmp_path))


def test_a_broken_tokenizer(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"not a tokenizer\.json") as caught:
        load_base(config(tmp_path))
    assert caught.value.where == str(tmp_path / "tokenizer.json")


def test_a_context_larger_than_the_models(tmp_path: Path) -> None:
    write_base(tmp_path, chat_tokenizer())  # holds 128
    load_base(config(tmp_path, context=128))
    with pytest.raises(ModelError, match=r"holds 128 tokens.*asks for 129") as e:
        load_base(config(tmp_path, context=129))
    assert e.value.remedy == "Set it to 128 or less."
