"""Text to token ids and back, such that no text ever becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from guildgpt.errors import ModelError

# What stands before a text that is encoded. Many tokenizers of SentencePiece's kind put a ▁ before
# a text, some before the text after each control token, and none within a text.
After: TypeAlias = Literal["nothing", "token", "text"]


class Tokenizer(Protocol):
    """What the template and the engines need of a tokenizer."""

    def encode(self, text: str, after: After = "nothing", /) -> list[int]:
        """The ids of plain text: no BOS, and never a control token, whatever `text` contains."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens left out, whitespace untouched."""

    def token_id(self, token: str) -> int | None:
        """The id of a token by its exact name, or None."""


def is_control(added_token: str) -> bool:
    """Whether an added token counts as a control token: all do but bare whitespace, which
    SentencePiece writes as ▁."""
    return bool(added_token.replace("▁", " ").strip())


class FileTokenizer:
    """A `tokenizer.json`, read without torch or transformers.

    Every added token that is not bare whitespace counts as a control token, so `<think>` in a
    member's message stays text as `<|im_end|>` does.
    """

    def __init__(self, path: str | Path):
        from tokenizers import Tokenizer as Backend

        self.path = Path(path)
        try:
            spec: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            for token in spec.get("added_tokens") or []:
                token["special"] = is_control(token["content"])
            self._backend = Backend.from_str(json.dumps(spec))
            put_before = _without_prefix(spec)
            self._within = Backend.from_str(json.dumps(spec)) if put_before else self._backend
        except FileNotFoundError as error:
            raise ModelError(
                "there is no tokenizer here",
                where=self.path,
                remedy="A model folder holds a tokenizer.json; was it copied whole?",
            ) from error
        except Exception as error:  # tokenizers raises a bare Exception on a broken file
            raise ModelError(f"this is not a tokenizer.json ({error})", where=self.path) from error
        self._after_token = self._within if put_before == {"first"} else self._backend
        for backend in (self._backend, self._within):
            backend.encode_special_tokens = True
            backend.no_padding()
            backend.no_truncation()
        self.control_ids = frozenset(
            token["id"] for token in spec.get("added_tokens") or [] if token["special"]
        )
        model = spec.get("model") or {}
        unknown = model.get("unk_id"), self._backend.token_to_id(model.get("unk_token") or "")
        self._forged = self.control_ids.difference(unknown)

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, after: After = "nothing", /) -> list[int]:
        """The ids of plain text; see `Tokenizer.encode`."""
        backends = {"nothing": self._backend, "token": self._after_token, "text": self._within}
        encoding = backends[after].encode(text, add_special_tokens=False)
        ids = list(encoding.ids)
        if not self._forged.isdisjoint(ids):  # a Unigram model may find one among its pieces
            for token, (start, stop) in zip(ids, encoding.offsets, strict=True):
                if token in self._forged and stop - start > 1:
                    cut = start + 1
                    return [*self.encode(text[:cut], after), *self.encode(text[cut:], "text")]
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once, on all cores."""
        batch = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        found = [list(encoding.ids) for encoding in batch]
        return [
            ids if self._forged.isdisjoint(ids) else self.encode(text)
            for ids, text in zip(found, texts, strict=True)
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens left out."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True))

    def token_id(self, token: str) -> int | None:
        """The id of a token by its exact name, or None."""
        return self._backend.token_to_id(token)

    def token_text(self, token_id: int) -> str:
        """What a single token shows as, control tokens by their names."""
        if token_id in self.control_ids:
            return str(self._backend.id_to_token(token_id))
        return self.decode([token_id])


def _without_prefix(spec: dict[str, Any]) -> set[str]:
    """Take out of a tokenizer.json what puts a space before a text. Where it did so: before the
    text after every control token ("always"), or before the very first text alone ("first")."""
    found: set[str] = set()

    def mended(part: Any) -> Any:
        if isinstance(part, list):
            return [new for one in part if (new := mended(one)) is not None]
        if not isinstance(part, dict):
            return part
        part = {key: mended(value) for key, value in part.items()}
        match part.get("type"):
            case "Prepend":
                found.add("always")
                return None
            case "Metaspace" if part.get("prepend_scheme") != "never":
                found.add(part.get("prepend_scheme") or "always")
                part = {key: value for key, value in part.items() if key != "add_prefix_space"}
                part["prepend_scheme"] = "never"
            case "ByteLevel" if part.get("add_prefix_space"):
                found.add("always")
                part["add_prefix_space"] = False
        return part

    for name in ("normalizer", "pre_tokenizer"):
        spec[name] = mended(spec.get(name))
    return found
