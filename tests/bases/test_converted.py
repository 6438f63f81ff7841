"""Bases from a GGUF file: converted once, or named with what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from guildgpt.bases.base import load_base
from guildgpt.chat import CHATML, FileTokenizer
from guildgpt.errors import ModelError
from guildgpt.model import gguf_vocabulary
from guildgpt.model.chat_tokenizer import add_chat_tokens
from guildgpt.model.gguf import write_gguf
from guildgpt.model.gguf_pretokenizers import pre_tokenizer_of

from .folders import (
    MIXED,
    chat_tokenizer,
    config,
    logits,
    own_folder,
    settings_are_true,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GUILDGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("kind", "error"), [("F32", 1e-5), ("F16", 2e-3), ("Q8_0", 2e-2)])
def test_a_gguf_file(tmp_path: Path, cache: Path, kind: str, error: float) -> None:
    model = own_folder(tmp_path / "model")
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", kind)
    base = load_base(config(path, licence="mit"))
    settings_are_true(base)
    mine, theirs = base.model.state_dict(), model.state_dict()
    assert mine.keys() == theirs.keys()
    for name, expected in theirs.items():
        worst = (mine[name] - expected).abs().max() / expected.abs().max()
        assert worst < error, name
    if kind == "F32":
        torch.testing.assert_close(logits(base.model), logits(model), rtol=1e-4, atol=1e-4)
    (item,) = base.provenance
    assert (item.name, item.origin, item.licence) == ("small", "small.gguf", "MIT")
    assert item.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    expected = add_chat_tokens(chat_tokenizer(), CHATML).tokenizer
    for text in MIXED:
        assert base.chat.tokenizer.encode(text) == expected.encode(text), text
    assert base.chat.new_tokens == []


def test_a_gguf_is_converted_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_folder(tmp_path / "model")
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", "F16")
    first = load_base(config(path))
    monkeypatch.setattr("guildgpt.bases.converted.AutoTokenizer", None)  # the converter needs it
    second = load_base(config(path))
    assert torch.equal(logits(first.model), logits(second.model))
    (folder,) = (cache / "converted").iterdir()
    assert folder.name.startswith(hashlib.sha256(path.read_bytes()).hexdigest()[:16])


@pytest.mark.parametrize("name", ["gpt-2", "qwen2", "llama-bpe", "refact"])
def test_texts_are_split_as_the_file_says(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    own_folder(tmp_path / "model")
    spec = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    spec["pre_tokenizer"], spec["model"]["ignore_merges"] = pre_tokenizer_of(name)
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(spec))
    expected = FileTokenizer(tmp_path / "model" / "tokenizer.json")
    monkeypatch.setattr(gguf_vocabulary, "pre_tokenizer_name", lambda spec: name)
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", "F16")
    found = load_base(config(path)).chat.tokenizer
    for text in MIXED:
        assert found.encode(text) == expected.encode(text), text


@pytest.mark.parametrize(
    ("name", "said"),
    [("deepseek-llm", r"not known here \(deepseek-llm\)"), ("", "does not say how")],
)
def test_a_split_that_is_not_known_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    own_folder(tmp_path / "model")
    monkeypatch.setattr(gguf_vocabulary, "pre_tokenizer_name", lambda spec: name)
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", "F16")
    with pytest.raises(ModelError, match=said) as raised:
        load_base(config(path))
    assert raised.value.where == str(path)
    assert "model.base" in str(raised.value.remedy)
    assert list(cache.glob("converted/*")) == []


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (0.0, "this file is empty"),
        (0.001, "the file ends within its own description"),
        (0.3, "the file is cut off: it has "),
        (0.999, "the file is cut off: it has "),
    ],
)
def test_a_damaged_gguf_is_named_and_nothing_of_it_is_kept(
    tmp_path: Path, cache: Path, kept: float, said: str
) -> None:
    own_folder(tmp_path / "model")
    path = write_gguf(tmp_path / "model", tmp_path / "small.gguf", "F16")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ModelError, match=rf"small\.gguf: {said}"):
        load_base(config(path))
    assert list(cache.glob("converted/*")) == []


def test_no_such_gguf(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such GGUF"):
        load_base(config(tmp_path / "missing.gguf"))
