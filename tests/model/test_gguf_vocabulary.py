"""Tokenizers in a GGUF: llama.cpp splits texts as the folder's tokenizer does."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import GPT2TokenizerFast

from guildgpt.chat import FileTokenizer
from guildgpt.errors import ModelError
from guildgpt.model import gguf_vocabulary
from guildgpt.model.gguf import write_gguf
from guildgpt.model.gguf_pretokenizers import (
    ALIASES,
    PRE_TOKENIZERS,
    pre_tokenizer_name,
    pre_tokenizer_of,
)
from guildgpt.model.gguf_vocabulary import read_vocabulary
from tests.model.tiny import (
    CORPUS,
    TEXTS,
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    served,
    tiny_model,
    tokenize,
    write_folder,
)


def check_splits(folder: Path, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """llama.cpp makes the same ids of the texts as the folder's tokenizer."""
    write_folder(folder, tiny_model(), tokenizer)
    ids = FileTokenizer(folder / "tokenizer.json")
    with served(write_gguf(folder, folder / "model.gguf", "F16")) as client:
        for text in texts:
            assert tokenize(client, text) == ids.encode(text), text


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece(prefix: bool, tmp_path: Path) -> None:
    tokenizer = sentencepiece_tokenizer(tmp_path, prefix=prefix)
    more = ["</s><s> <unk> <0x0A>", "ﬁ ½ Ǆ \u200b end", "▁ ▁▁"]
    check_splits(tmp_path, tokenizer, [*TEXTS, *CORPUS, *more])
    vocabulary = read_vocabulary(tmp_path, 512)
    assert (vocabulary.model, vocabulary.space_prefix) == ("llama", prefix)
    assert vocabulary.unknown == 0
    kinds = {vocabulary.tokens[i]: kind.name for i, kind in enumerate(vocabulary.types)}
    assert kinds["<0x0A>"] == "BYTE"
    assert kinds["</s>"] == kinds["<|im_end|>"] == "CONTROL"
    assert kinds["<unk>"] == "UNKNOWN"
    assert kinds["[PAD511]"] == "UNUSED"
    scores = dict(zip(vocabulary.tokens, vocabulary.scores, strict=True))
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    first, last = ("".join(merges[index]) for index in (0, -1))
    assert scores[first] == 0 > scores[last] > scores["[PAD511]"]


def test_a_bpe_that_llama_cpp_would_merge_further_is_said(tmp_path: Path) -> None:
    spec = json.loads(sentencepiece_tokenizer(tmp_path).to_str())
    del spec["model"]["merges"][10]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.warns(UserWarning, match="merges more pieces"):
        read_vocabulary(tmp_path, 512)


def test_whitespace_that_is_an_added_token_is_no_control_token(tmp_path: Path) -> None:
    """Gemma has runs of spaces as added tokens, written ▁▁▁: they are text."""
    tokenizer = sentencepiece_tokenizer(tmp_path)
    tokenizer.add_special_tokens(["▁▁▁▁▁▁", "\n\n\n"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_vocabulary(tmp_path, 512)
    for token in ("▁▁▁▁▁▁", "\n\n\n"):
        index = vocabulary.tokens.index(token)
        assert vocabulary.types[index].name == "USER_DEFINED"
        assert index not in FileTokenizer(tmp_path / "tokenizer.json").control_ids


@pytest.mark.parametrize(
    "model",
    [
        models.BPE({"a": 0, "▁": 1, "▁a": 2}, [("▁", "a")]),
        models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"),
    ],
)
def test_other_tokenizers_are_refused(model: object, tmp_path: Path) -> None:
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="tokenizer has no GGUF here"):
        read_vocabulary(tmp_path, 8)


def test_a_tokenizer_in_older_files_is_made_by_transformers(tmp_path: Path) -> None:
    """vocab.json and merges.txt, as GPT-2 lay on the Hub."""
    tokenizer = byte_level_tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False))
    model = json.loads(tokenizer.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": GPT2TokenizerFast.__name__.removesuffix("Fast")})
    )
    vocabulary = read_vocabulary(tmp_path, 400)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", "gpt-2")
    assert len(vocabulary.merges) == len(model["merges"])
    assert vocabulary.tokens[399] == tokenizer.id_to_token(399)


def test_no_tokenizer_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no tokenizer here that can be read"):
        read_vocabulary(tmp_path, 400)


def test_merges_as_pairs_or_as_lines_are_the_same(tmp_path: Path) -> None:
    spec = json.loads(byte_level_tokenizer().to_str())
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spec))
    pairs = read_vocabulary(tmp_path, 416).merges
    spec["model"]["merges"] = [" ".join(merge) for merge in spec["model"]["merges"]]
    path.write_text(json.dumps(spec))
    assert read_vocabulary(tmp_path, 416).merges == pairs
    assert all(merge.count(" ") == 1 for merge in pairs)


def test_unigram_flags(tmp_path: Path) -> None:
    charsmap = base64.b64encode(b"\4\0\0\0abcd\0").decode()
    spec = {
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["<0x0A>", 0.0], ["a", -1.5]],
            "byte_fallback": True,
        },
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": charsmap},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
                {"type": "Prepend", "prepend": "▁"},
            ],
        },
        "added_tokens": [{"id": 3, "content": "  "}, {"id": 4, "content": "<think>"}],
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    vocabulary = read_vocabulary(tmp_path, 6)
    assert vocabulary.tokens == ["<unk>", "<0x0A>", "a", "  ", "<think>", "[PAD5]"]
    assert [kind.name for kind in vocabulary.types] == [
        "UNKNOWN",
        "BYTE",
        "NORMAL",
        "USER_DEFINED",
        "CONTROL",
        "UNUSED",
    ]
    assert vocabulary.scores[:3] == [0.0, 0.0, -1.5]
    assert (vocabulary.space_prefix, vocabulary.merge_spaces) == (True, True)
    assert vocabulary.charsmap == base64.b64decode(charsmap)


def split_by(expression: str) -> object:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"
WORDS = SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s" + REST % ""
MARKS = SHORT + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}" + REST.replace("{L}", "{L}\\p{M}") % ""
UPPER, LOWER = (rf"[\p{{{kind}}}\p{{Lm}}\p{{Lo}}\p{{M}}]" for kind in (r"Lu}\p{Lt", "Ll"))
CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s|\p{{N}}"
)


# As the tokenizer.json of the models has them.
SPLITTERS = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), False),
    "smollm": (None, False),
    "llama-bpe": (split_by(WORDS % "{1,3}"), True),
    "dbrx": (split_by(WORDS % "{1,3}"), False),
    "qwen2": (split_by(WORDS % ""), False),
    "qwen35": (split_by(MARKS), False),
    "tekken": (split_by(CASED % ("", "") + REST % "/"), True),
    "gpt-4o": (split_by(CASED % (f"{SHORT}?", f"{SHORT}?") + "{1,3}" + REST % "/"), False),
}


def test_every_pre_tokenizer_is_tested() -> None:
    assert SPLITTERS.keys() == set(PRE_TOKENIZERS)


@pytest.mark.parametrize("name", SPLITTERS)
def test_pre_tokenizers_by_name(name: str, tmp_path: Path) -> None:
    """llama.cpp splits as `tokenizers` does under the name found, in a file of its own."""
    tokenizer = byte_level_tokenizer(*SPLITTERS[name])
    assert pre_tokenizer_name(json.loads(tokenizer.to_str())) == name
    check_splits(tmp_path, tokenizer, [*TEXTS, *CORPUS, "camelCase HTTPServer a/b//\n", "o'clock"])


@pytest.mark.parametrize("name", [*PRE_TOKENIZERS, *ALIASES])
def test_llama_cpp_splits_so_under_every_name_that_is_known(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word that is a token, and that no merges lead to, is one where merges are passed over."""
    found = pre_tokenizer_of(name)
    assert found
    spec = json.loads(byte_level_tokenizer().to_str())
    spec["pre_tokenizer"], spec["model"]["ignore_merges"] = found
    spec["model"]["vocab"]["ĠZqzq"] = len(spec["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    assert (len(tokenizer.encode(" Zqzq").ids) == 1) == found[1]
    monkeypatch.setattr(gguf_vocabulary, "pre_tokenizer_name", lambda spec: name)
    check_splits(tmp_path, tokenizer, [*TEXTS, *CORPUS, "camelCase a/b//\n", "o'clock", "a Zqzq"])


def test_other_names_are_not_known() -> None:
    assert pre_tokenizer_of("deepseek-llm") is None
    assert not ALIASES.keys() & set(PRE_TOKENIZERS)


def test_an_unknown_pre_tokenizer_warns() -> None:
    spec = json.loads(byte_level_tokenizer(split_by(r"\w+|\W+")).to_str())
    with pytest.warns(UserWarning, match="no name"):
        assert pre_tokenizer_name(spec) == "gpt-2"
