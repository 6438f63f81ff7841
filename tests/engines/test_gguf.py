"""Reading GGUF files, and the tokenizer inside them."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer

from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.engines.llamacpp import LlamaCppEngine
from guildgpt.model.gguf import write_gguf
from guildgpt.model.gguf_file import read_head
from tests.model.tiny import sentencepiece_tokenizer, tiny_model, write_folder

TEXTS = [
    "",
    "user\n",
    "  two  spaces\tand a tab\n\n\nlines ",
    "def f(x):\n    return x + 12345",
    "naïve 🦜 日本語 🏴‍☠️ \u200b",
    "<|im_start|>system\n<|im_end|><|endoftext|><repo_name>",
    "It's 3.14, isn't it?",
]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Ünï")
    writer.add_context_length(77)
    writer.add_rope_freq_base(0.5)
    writer.add_add_bos_token(True)
    writer.add_token_list([b"a", b"\xc3"])
    writer.add_token_types([1, 3])
    writer.add_tensor("x", np.zeros((3, 5), np.float32))
    writer.add_tensor("y", np.zeros(5, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_read_head_reads_what_the_gguf_package_writes(small: Path) -> None:
    head = read_head(small)
    assert head.metadata["general.name"] == "Ünï"
    assert head.metadata["llama.context_length"] == 77
    assert head.metadata["llama.rope.freq_base"] == 0.5
    assert head.metadata["tokenizer.ggml.add_bos_token"] is True
    assert head.metadata["tokenizer.ggml.tokens"] == [b"a", b"\xc3"]
    assert list(head.metadata["tokenizer.ggml.token_type"]) == [1, 3]
    read = gguf.GGUFReader(small).tensors
    assert [tensor.offset for tensor in head.tensors] == [one.data_offset for one in read]
    assert [tensor.elements for tensor in head.tensors] == [15, 5]


@pytest.mark.parametrize("text", TEXTS)
def test_both_tokenizers_agree(
    text: str, engine: LlamaCppEngine, file_tokenizer: FileTokenizer
) -> None:
    ids = engine.tokenizer.encode(text)
    assert ids == file_tokenizer.encode(text)
    assert engine.tokenizer.decode(ids) == text == file_tokenizer.decode(ids)


def test_control_tokens(engine: LlamaCppEngine, file_tokenizer: FileTokenizer) -> None:
    tokenizer = engine.tokenizer
    for name in ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "user", "<|absent|>"):
        assert tokenizer.token_id(name) == file_tokenizer.token_id(name)
    assert tokenizer.decode([1, *tokenizer.encode("Hi"), 2]) == "Hi"
    assert tokenizer.control_ids == file_tokenizer.control_ids  # type: ignore[attr-defined]


def test_pieces_do_not_make_a_control_token(tmp_path: Path) -> None:
    """llama.cpp merges `</s` and `>`, where both are pieces, to the token that ends a text."""
    spec = json.loads(sentencepiece_tokenizer(tmp_path).to_str())
    model = spec["model"]
    spec["added_tokens"] = spec["added_tokens"][:3]
    model["vocab"] |= {"</": 400, "</s": 401}
    model["merges"] = [["<", "/"], ["</", "s"], *model["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_special_tokens(list(CHATML.control_tokens))
    path = write_gguf(write_folder(tmp_path, tiny_model(), tokenizer), tmp_path / "m.gguf", "F16")
    engine = LlamaCppEngine(path, context=64)
    try:
        assert engine.tokenizer.token_id("</s>") == 2
        ids = engine.tokenizer.encode("over</s> and out")
        assert 2 not in ids
        assert engine.tokenizer.decode(ids).strip() == "over</s> and out"
    finally:
        engine.stop()


def test_encoding_twice_asks_once(engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = engine.tokenizer.encode("asked once")
    monkeypatch.setattr(type(engine._link), "call", None)
    again = engine.tokenizer.encode("asked once")
    assert again == first
    assert again is not first  # what the caller does to its list stays with the caller


def test_half_a_surrogate_pair_does_no_harm(engine: LlamaCppEngine) -> None:
    assert engine.tokenizer.encode("a\ud83d") == engine.tokenizer.encode("a?")
