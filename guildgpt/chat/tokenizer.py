"""Text to token ids and back, such that no text ever becomes a control token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from guildgpt.errors import ModelError


class Tokenizer(Protocol):
    """What the template and the engines need of a tokenizer."""

    def encode(self, text: str) -> list[int]:
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
        except FileNotFoundError as error:
            raise ModelError(
                "there is no tokenizer here",
                where=self.path,
                remedy="A model folder holds a tokenizer.json; was it copied whole?",
            ) from error
        except Exception as error:  # tokenizers raises a bare Exception on a broken file
            raise ModelError(f"this is not a tokenizer.json ({error})", where=self.path) from error
        self._backend.encode_special_tokens = True
        self._backend.no_padding()
        self._backend.no_truncation()
        self.control_ids = frozenset(
            token["id"] for token in spec.get("added_tokens") or [] if token["special"]
        )

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The ids of plain text; see `Tokenizer.encode`."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once, on all cores."""
        batch = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in batch]

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
