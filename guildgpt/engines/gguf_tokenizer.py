"""The tokenizer inside a bare GGUF file, as llama.cpp itself applies it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

from guildgpt.engines.held_file import HeldFile
from guildgpt.engines.loopback import Loopback
from guildgpt.model.gguf_file import CONTROL_TOKEN

REMEMBERED = 1024  # texts: a chat encodes "user\n" and all its earlier turns at every turn


class GgufTokenizer:
    """`Tokenizer` over llama.cpp's `/tokenize` and `/detokenize`; blocks for about a millisecond.

    Raises `EngineDied` when the engine it belongs to is gone.
    """

    def __init__(self, link: Loopback, gguf: HeldFile):
        self._link = link
        self._gguf = gguf
        self._encode = lru_cache(REMEMBERED)(self._ask)

    def encode(self, text: str) -> list[int]:
        """The ids of plain text: no BOS, and never a control token."""
        return list(self._encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, control tokens left out."""
        plain = [token for token in ids if token not in self.control_ids]
        return str(self._link.call("/detokenize", {"tokens": plain})["content"])

    def token_id(self, token: str) -> int | None:
        """The id of a token by its exact name, or None."""
        request = {"content": token, "parse_special": True, "add_special": False}
        found = self._link.call("/tokenize", {**request, "with_pieces": True})["tokens"]
        return int(found[0]["id"]) if [piece["piece"] for piece in found] == [token] else None

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """The ids that stand for no text."""
        types = self._gguf.head().metadata.get("tokenizer.ggml.token_type", ())
        return frozenset(i for i, kind in enumerate(types) if kind == CONTROL_TOKEN)

    def _ask(self, text: str) -> tuple[int, ...]:
        request = {"content": text, "parse_special": False, "add_special": False}
        return tuple(self._link.call("/tokenize", request)["tokens"])
