"""A tokenizer.json as llama.cpp knows it: tokens, merges, scores, and which pre-tokenizer it has.

Three kinds are known: byte-level BPE, SentencePiece's BPE (bytes for what is not in the vocabulary,
▁ for spaces), and Unigram.
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import gguf

from guildgpt.chat.tokenizer import is_control
from guildgpt.errors import ModelError
from guildgpt.model.gguf_pretokenizers import pre_tokenizer_name
from guildgpt.model.gguf_settings import WITHOUT_GGUF
from guildgpt.model.json_file import read_json

Kind: TypeAlias = gguf.TokenType


@dataclass(slots=True)
class Vocabulary:
    """A tokenizer as llama.cpp knows it; `tokens`, `types` and `scores` go by token id."""

    model: str  # "gpt2" is byte-level BPE, "llama" SentencePiece's BPE, "t5" Unigram
    tokens: list[str]
    types: list[Kind]
    pre: str = "default"
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    unknown: int | None = None
    space_prefix: bool = False
    merge_spaces: bool = False
    charsmap: bytes = b""

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write everything but the ids of the special tokens."""
        values = {
            "tokenizer_model": self.model,
            "tokenizer_pre": self.pre,
            "token_list": self.tokens,
            "token_types": [int(kind) for kind in self.types],
            "token_merges": self.merges,
            "token_scores": self.scores,
            "add_space_prefix": self.space_prefix,
            "remove_extra_whitespaces": self.merge_spaces,
            "precompiled_charsmap": self.charsmap,
        }
        for name, value in values.items():
            getattr(writer, f"add_{name}")(value)


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """Read a folder's tokenizer for a model with `rows` embedding rows; the rest is unused tokens.

    Where there is no tokenizer.json, transformers makes one of whatever form there is.
    """
    path = folder / "tokenizer.json"
    spec = read_json(path) if path.is_file() else _made_by_transformers(folder)
    check_tokenizer(spec, path)
    model, byte_level = spec["model"], _byte_level(spec)
    added = {token["id"]: token["content"] for token in spec.get("added_tokens") or []}
    if model["type"] == "Unigram":
        pieces = {index: piece for index, (piece, _) in enumerate(model["vocab"])}
    else:
        pieces = {index: piece for piece, index in model["vocab"].items()}
    size = max([*pieces, *added]) + 1
    if size > rows:
        raise ModelError(
            f"the tokenizer has {size} tokens, the model {rows} embedding rows",
            where=path,
            remedy="Resize the model's embeddings to the tokenizer, and train the new rows.",
        )
    texts = {**pieces, **added}
    tokens = [texts.get(index, f"[PAD{index}]") for index in range(rows)]
    types = [Kind.NORMAL if index in texts else Kind.UNUSED for index in range(rows)]
    for index, text in added.items():
        types[index] = Kind.CONTROL if is_control(text) else Kind.USER_DEFINED
    if model["type"] == "Unigram":
        return _unigram(spec, tokens, types)
    merges = [tuple(m.split(" ", 1) if isinstance(m, str) else m) for m in model["merges"]]
    if byte_level:
        lines = [" ".join(merge) for merge in merges]
        return Vocabulary("gpt2", tokens, types, pre_tokenizer_name(spec), lines)
    return _sentencepiece(spec, tokens, types, merges)


def check_tokenizer(spec: dict[str, Any], where: Path) -> None:
    """ModelError for a tokenizer.json of a kind that llama.cpp does not know."""
    model = spec.get("model", {})
    if "vocab" not in model:
        raise ModelError("this is not a tokenizer.json", where=where)
    if model["type"] == "Unigram":
        return
    if model["type"] != "BPE" or not (_byte_level(spec) or model["vocab"].keys() >= _BYTES):
        raise ModelError(
            f"this {model['type']} tokenizer has no GGUF here",
            where=where,
            remedy="There is one of byte-level BPE, of SentencePiece's BPE with its 256 byte "
            f"pieces, and of Unigram; {WITHOUT_GGUF}",
        )


def _byte_level(spec: dict[str, Any]) -> bool:
    return bool(_find(spec, "ByteLevel"))


def _made_by_transformers(folder: Path) -> dict[str, Any]:
    """A tokenizer.json of older files: vocab.json and merges.txt, tokenizer.model."""
    from transformers import AutoTokenizer

    from guildgpt.model.quiet import first_line, quiet

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    except Exception as error:  # it has many kinds
        raise ModelError(
            f"there is no tokenizer here that can be read ({first_line(error)})",
            where=folder / "tokenizer.json",
            remedy="A model folder holds a tokenizer.json; was it copied whole?",
        ) from error
    return spec


_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}
_UNREACHED = -1e6  # a score that is never worth choosing


def _sentencepiece(
    spec: dict[str, Any], tokens: list[str], types: list[Kind], merges: list[tuple[str, ...]]
) -> Vocabulary:
    """The BPE of a SentencePiece model: a piece's score says how early it is merged.

    llama.cpp merges any two pieces whose text is a piece, the highest score first; a tokenizer.json
    merges the pairs of its list, the first pair first. They are the same where the list has every
    such pair, as those made from a SentencePiece model have; a warning says where it has not.
    """
    ranks: dict[str, int] = {}
    for left, right in merges:
        ranks.setdefault(left + right, len(ranks))
    scores = [float(-ranks[token]) if token in ranks else _UNREACHED for token in tokens]
    for index, token in enumerate(tokens):
        if token in _BYTES:
            types[index] = Kind.BYTE
    unknown = spec["model"].get("unk_token")
    if unknown in tokens:
        types[tokens.index(unknown)] = Kind.UNKNOWN
    listed, known = set(merges), set(tokens)
    pieces = (t for t, kind in zip(tokens, types, strict=True) if kind == Kind.NORMAL)
    pairs = ((piece[:cut], piece[cut:]) for piece in pieces for cut in range(1, len(piece)))
    if any(pair not in listed and known.issuperset(pair) for pair in pairs):
        warnings.warn(
            "llama.cpp merges more pieces than this tokenizer does: a text that it splits itself "
            "may come out otherwise",
            stacklevel=2,
        )
    return Vocabulary(
        "llama",
        tokens,
        types,
        scores=scores,
        unknown=tokens.index(unknown) if unknown in tokens else None,
        space_prefix=_prepends_a_space(spec),
    )


def _unigram(spec: dict[str, Any], tokens: list[str], types: list[Kind]) -> Vocabulary:
    """The Unigram model of a tokenizer.json; its normalizer becomes llama.cpp's three flags."""
    model = spec["model"]
    scores = [float(score) for _, score in model["vocab"]]
    # llama.cpp puts unused tokens into its lattice: the padding must never be worth choosing.
    scores += [_UNREACHED] * (len(tokens) - len(scores))
    unknown = model.get("unk_id")
    if unknown is not None:
        types[unknown] = Kind.UNKNOWN
    if model.get("byte_fallback"):
        for index, token in enumerate(tokens):
            if token in _BYTES:
                types[index] = Kind.BYTE
    charsmaps = [part["precompiled_charsmap"] for part in _find(spec, "Precompiled")]
    replaced = [part["pattern"].get("Regex") for part in _find(spec.get("normalizer"), "Replace")]
    return Vocabulary(
        "t5",
        tokens,
        types,
        scores=scores,
        unknown=unknown,
        space_prefix=_prepends_a_space(spec),
        merge_spaces=" {2,}" in replaced,
        charsmap=base64.b64decode(charsmaps[0]) if charsmaps and charsmaps[0] else b"",
    )


def _prepends_a_space(spec: dict[str, Any]) -> bool:
    """Whether a text is split as if a space stood before it."""
    metaspace = _find(spec.get("pre_tokenizer"), "Metaspace")
    return bool(_find(spec.get("normalizer"), "Prepend")) or any(
        part.get("prepend_scheme", "always") != "never" for part in metaspace
    )


def _find(spec: Any, kind: str) -> list[dict[str, Any]]:
    """Every part of a (nested) tokenizer.json of one type, in order."""

    def walk(part: Any) -> Iterator[dict[str, Any]]:
        if isinstance(part, dict):
            if part.get("type") == kind:
                yield part
            for key in part.keys() - {"vocab", "merges", "added_tokens"}:
                yield from walk(part[key])
        elif isinstance(part, list):
            for item in part:
                yield from walk(item)

    return list(walk(spec))
