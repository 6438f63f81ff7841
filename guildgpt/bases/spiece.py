"""A SentencePiece unigram model (`spiece.model`) becomes an equal `tokenizers` tokenizer.

Both find the segmentation of highest total score. Three things differ between the two and are
put right here:

- `tokenizers` lets a text become any piece of the vocabulary, control pieces and byte pieces too.
  Their scores are set so low that spelling them out in ordinary pieces always wins.
- SentencePiece scores user-defined pieces by a rule of its own; the rule's results are stored.
- SentencePiece normalizes by flags; here they are a list of replacements.

What stays different: SentencePiece adds scores in 32 bits, `tokenizers` in 64, so between two
segmentations whose scores are equal or differ by less than that rounding, each may choose its own.
And where the model has a character map (`nmt_nfkc` and its kin; replit-code's is `identity`, which
has none), `tokenizers` applies it to one user-perceived character at a time, so stacked combining
marks, Hangul in separate letters and CR LF may come out otherwise, and user-defined pieces are not
exempt from it.

Sources: sentencepiece's `src/sentencepiece_model.proto` for the file, `src/unigram_model.cc` and
`src/normalizer.cc` for the behaviour.
"""

from __future__ import annotations

import io
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
)

from guildgpt.errors import ModelError

_SPACE = "▁"  # U+2581, what SentencePiece writes a space as

# ModelProto.SentencePiece.Type
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


def convert(
    spiece_model: Path,
    *,
    eos: str = "<|endoftext|>",
    pad: str = "<|pad|>",
    unk: str = "<|unk|>",
) -> Tokenizer:
    """The tokenizer of a unigram `spiece.model`, with the same ids.

    For every text its ids are SentencePiece's, and decoding them gives what SentencePiece's
    decoding gives: with identity normalization and no unknown characters, the text itself. The
    control pieces, and `eos`, `pad` and `unk`, which the model must have, are special tokens:
    a text never becomes one when special tokens are encoded as text (as `FileTokenizer` does).
    """
    model = _read(Path(spiece_model))
    _check(model, (eos, pad, unk), Path(spiece_model))
    special = [p.text for p in model.pieces if p.kind in (_CONTROL, _UNKNOWN)]
    special += [name for name in (eos, pad) if name not in special]

    hidden = [p.text for p in model.pieces if p.kind not in (_NORMAL, _USER_DEFINED)] + special
    unspellable = _unspellable(model, set(hidden))
    tokenizer = Tokenizer(
        models.Unigram(
            _scores(model, set(hidden)),
            unk_id=next(i for i, p in enumerate(model.pieces) if p.kind == _UNKNOWN),
            byte_fallback=model.byte_fallback,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(_normalizers(model, unspellable))
    if unspellable and model.byte_fallback:
        # Alone, the character falls back to its bytes and completes no hidden piece.
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(unspellable), "isolated")
    tokenizer.decoder = _decoder(model)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    return tokenizer


# --- scores --------------------------------------------------------------------------------------


def _scores(model: _Model, hidden: set[str]) -> list[tuple[str, float]]:
    """Each piece with the score that makes the same segmentation win.

    A user-defined piece of n bytes gets `n * max(0, best score) - 0.1`, as in SentencePiece. A
    hidden piece gets less than its characters one by one can cost.
    """
    scores = [p.score for p in model.pieces if p.kind == _NORMAL]
    best, worst = max(0.0, *scores), min(0.0, *scores)
    never = (worst - 1.0) * (1 + max(len(text) for text in hidden))

    def score(piece: _Piece) -> float:
        if piece.text in hidden:
            return never
        if piece.kind == _USER_DEFINED:
            return len(piece.text.encode()) * best - 0.1
        return piece.score

    return [(piece.text, score(piece)) for piece in model.pieces]


def _unspellable(model: _Model, hidden: set[str]) -> str:
    """An expression for the characters that keep some hidden pieces from being outbid, or "".

    To `tokenizers` an unknown character costs more than any piece does. So in a hidden piece with
    a character that is no piece of its own, that character needs care of another kind.
    """
    ordinary = {piece.text for piece in model.pieces} - hidden
    places = []
    for text in sorted(hidden):
        if unknown := next((c for c in text if c not in ordinary), ""):
            before, after = map(re.escape, text.split(unknown, 1))
            places.append(f"(?<={before}){re.escape(unknown)}(?={after})")
    return "|".join(places)


# --- normalizing and decoding --------------------------------------------------------------------


def _normalizers(model: _Model, unspellable: str) -> list[normalizers.Normalizer]:
    space = _SPACE if model.escape_whitespaces else " "
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_whitespaces:
        # SentencePiece strips the end last, when a space and a "▁" of the text look the same.
        steps.append(normalizers.Replace(Regex(rf"\A +|[ {space}]+\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend(space))  # to a text that is not empty
    if model.escape_whitespaces:
        steps.append(normalizers.Replace(" ", _SPACE))
    if unspellable and not model.byte_fallback:
        # Unknown before and after, but what stands in is in no hidden piece.
        seen = {character for piece in model.pieces for character in piece.text}
        stand_in = next(chr(c) for c in range(0xE000, 0xF8FF) if chr(c) not in seen)
        steps.append(normalizers.Replace(Regex(unspellable), stand_in))
    return steps


def _decoder(model: _Model) -> decoders.Decoder:
    steps: list[decoders.Decoder] = [decoders.Replace(_SPACE, " ")]
    if model.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if model.escape_whitespaces and model.remove_extra_whitespaces:
        steps.append(decoders.Strip(" ", sys.maxsize, 0))
    elif model.escape_whitespaces and model.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


# --- the file ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    score: float
    kind: int


@dataclass(frozen=True, slots=True)
class _Model:
    """What the file says; defaults are those of the format."""

    pieces: list[_Piece]
    unigram: bool
    byte_fallback: bool
    space_at_end: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool
    denormalizes: bool


def _check(model: _Model, names: tuple[str, ...], path: Path) -> None:
    """Refuse what `tokenizers` could not do as SentencePiece does."""
    if not model.unigram:
        raise ModelError(
            "this SentencePiece model is not a unigram model",
            where=path,
            remedy="Use the tokenizer.json that the base comes with.",
        )
    if model.space_at_end or model.denormalizes:
        what = "writes spaces at the ends of words" if model.space_at_end else "denormalizes"
        raise ModelError(f"this SentencePiece model {what}, which is not supported", where=path)
    known = {piece.text: piece.kind for piece in model.pieces}
    reserved = [t for t, kind in known.items() if kind not in (_NORMAL, _USER_DEFINED, _BYTE)]
    if len(known) < len(model.pieces) or any(len(text) == 1 for text in reserved):
        raise ModelError("a piece occurs twice, or a control piece is one character", where=path)
    missing = [name for name in names if name not in known]
    if missing or known[names[-1]] != _UNKNOWN:
        control = [text for text, kind in known.items() if kind in (_CONTROL, _UNKNOWN)]
        raise ModelError(
            f"the tokenizer has no {missing[0] if missing else names[-1]} of its kind",
            where=path,
            remedy=f"Its control pieces are {', '.join(control)}: name those.",
        )


def _read(path: Path) -> _Model:
    """Parse the file, having let SentencePiece check it."""
    try:
        data = path.read_bytes()
        SentencePieceProcessor(model_proto=data)
        message = _fields(data)
        # Both are in every whole file; one that is cut off behind a piece has no fault else.
        trainer, normalizer = _fields(message[2][-1]), _fields(message[3][-1])
        denormalizer = _fields(_last(message, 5, b""))
        pieces = [_piece(value) for value in message[1]]
    except (OSError, RuntimeError, ValueError, LookupError, struct.error) as error:
        raise ModelError(
            f"this is not a SentencePiece model ({error})",
            where=path,
            remedy="Was the file downloaded whole, and not as a link to it?",
        ) from error
    return _Model(
        pieces=pieces,
        unigram=_last(trainer, 3, 1) == 1,
        byte_fallback=bool(_last(trainer, 35, 0)),
        space_at_end=bool(_last(trainer, 24, 0)),
        charsmap=_last(normalizer, 2, b""),
        add_dummy_prefix=bool(_last(normalizer, 3, 1)),
        remove_extra_whitespaces=bool(_last(normalizer, 4, 1)),
        escape_whitespaces=bool(_last(normalizer, 5, 1)),
        denormalizes=bool(_last(denormalizer, 2, b"")),
    )


def _piece(data: bytes) -> _Piece:
    fields = _fields(data)
    (score,) = struct.unpack("<f", _last(fields, 2, bytes(4)))
    return _Piece(_last(fields, 1, b"").decode("utf-8"), score, _last(fields, 3, _NORMAL))


def _fields(data: bytes) -> dict[int, list[Any]]:
    """A protobuf message: each field's values by its number, integers as int and others as bytes.

    Parsed here because sentencepiece's own classes for it need the protobuf package, and one of
    the right version. https://protobuf.dev/programming-guides/encoding
    """
    fields: dict[int, list[Any]] = {}
    stream = io.BytesIO(data)

    def read(count: int) -> bytes:
        found = stream.read(count)
        if len(found) < count:
            raise ValueError("it ends too soon")
        return found

    def varint() -> int:
        value = shift = 0
        while True:
            (byte,) = read(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while stream.tell() < len(data):
        key = varint()
        wire_type = key & 7
        if wire_type == 0:
            value: int | bytes = varint()
        elif wire_type in (1, 2, 5):
            value = read({1: 8, 5: 4}.get(wire_type) or varint())
        else:
            raise ValueError(f"wire type {wire_type}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _last(fields: dict[int, list[Any]], number: int, default: Any) -> Any:
    """The value of a field that occurs once: in protobuf the last one counts."""
    return fields[number][-1] if number in fields else default
