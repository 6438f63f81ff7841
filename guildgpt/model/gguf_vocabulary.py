"""A tokenizer.json as llama.cpp knows it: tokens, merges, scores, and which pre-tokenizer it has.

Which pre-tokenizer a name stands for is in llama.cpp's `src/llama-vocab.cpp`.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import gguf

from guildgpt.errors import ModelError
from guildgpt.model.json_file import read_json

Kind: TypeAlias = gguf.TokenType


@dataclass(slots=True)
class Vocabulary:
    """A tokenizer as llama.cpp knows it; `tokens`, `types` and `scores` go by token id."""

    model: str  # "gpt2" is byte-level BPE, "t5" is Unigram
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
            # `Tokenizer.encode` adds neither; llama.cpp would, for some models, unless told.
            "add_bos_token": False,
            "add_eos_token": False,
        }
        for name, value in values.items():
            getattr(writer, f"add_{name}")(value)


def read_vocabulary(path: Path, rows: int) -> Vocabulary:
    """Read a tokenizer.json for a model with `rows` embedding rows; the rest is unused tokens."""
    spec = read_json(path)
    if "vocab" not in spec.get("model", {}):
        raise ModelError("this is not a tokenizer.json", where=path)
    model = spec["model"]
    added = {token["id"]: token["content"] for token in spec.get("added_tokens") or []}
    if model["type"] == "Unigram":
        pieces = {index: piece for index, (piece, _) in enumerate(model["vocab"])}
    elif model["type"] == "BPE" and _find(spec, "ByteLevel"):
        pieces = {index: piece for piece, index in model["vocab"].items()}
    else:
        raise ModelError(
            f"this {model['type']} tokenizer has no GGUF here",
            where=path,
            remedy="Supported are byte-level BPE and Unigram.",
        )
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
        # The rule of `FileTokenizer`: what is not bare whitespace is a control token.
        types[index] = Kind.CONTROL if text.strip() else Kind.USER_DEFINED
    if model["type"] == "Unigram":
        return _unigram(spec, tokens, types)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    return Vocabulary("gpt2", tokens, types, pre_tokenizer_name(spec), merges)


def _unigram(spec: dict[str, Any], tokens: list[str], types: list[Kind]) -> Vocabulary:
    """The Unigram model of a tokenizer.json; its normalizer becomes llama.cpp's three flags."""
    model = spec["model"]
    scores = [float(score) for _, score in model["vocab"]]
    # llama.cpp puts unused tokens into its lattice: the padding must never be worth choosing.
    scores += [-1e6] * (len(tokens) - len(scores))
    unknown = model.get("unk_id")
    if unknown is not None:
        types[unknown] = Kind.UNKNOWN
    if model.get("byte_fallback"):
        for index, token in enumerate(tokens):
            if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
                types[index] = Kind.BYTE
    charsmaps = [part["precompiled_charsmap"] for part in _find(spec, "Precompiled")]
    metaspace = _find(spec.get("pre_tokenizer"), "Metaspace")
    replaced = [part["pattern"].get("Regex") for part in _find(spec.get("normalizer"), "Replace")]
    return Vocabulary(
        "t5",
        tokens,
        types,
        scores=scores,
        unknown=unknown,
        space_prefix=bool(_find(spec.get("normalizer"), "Prepend"))
        or any(part.get("prepend_scheme", "always") != "never" for part in metaspace),
        merge_spaces=" {2,}" in replaced,
        charsmap=base64.b64decode(charsmaps[0]) if charsmaps and charsmaps[0] else b"",
    )


# llama.cpp has the expressions built in and chooses them by name.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_EXPRESSIONS = {
    (_CONTRACTIONS + r"\p{N}{1,3}" + _REST, True): "llama-bpe",
    (_CONTRACTIONS + r"\p{N}{1,3}" + _REST, False): "dbrx",
    (_CONTRACTIONS + r"\p{N}" + _REST, False): "qwen2",
}


def pre_tokenizer_name(spec: dict[str, Any]) -> str:
    """llama.cpp's name for what a byte-level tokenizer.json does before its merges.

    A pre-tokenizer without a name there counts as GPT-2's, with a warning: ids that this program
    posts stay right, but a text that llama.cpp splits itself may come out otherwise.
    """
    steps = spec.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    whole_words = bool(spec["model"].get("ignore_merges"))  # a word that is a token stays whole
    prefix = any(step.get("add_prefix_space") for step in steps)
    match [step.get("type") for step in steps]:
        case ["ByteLevel"] if steps[0].get("use_regex", True) and not (whole_words or prefix):
            return "gpt-2"
        case ["Digits", "ByteLevel"] if (
            steps[0].get("individual_digits")
            and steps[1].get("use_regex", True)
            and not (whole_words or prefix)
        ):
            return "smollm"
        case ["Split", "ByteLevel"] if not (steps[1].get("use_regex", True) or prefix):
            name = _EXPRESSIONS.get((steps[0]["pattern"].get("Regex"), whole_words))
            if name and steps[0].get("behavior") == "Isolated":
                return name
    warnings.warn(
        "llama.cpp has no name for this tokenizer's pre-tokenizer; the GGUF says gpt-2",
        stacklevel=2,
    )
    return "gpt-2"


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
