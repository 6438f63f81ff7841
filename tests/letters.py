"""A tokenizer with one id for each character, for engines that only seem to be models."""

from __future__ import annotations

from collections.abc import Sequence

CONTROL = {"<|im_start|>": 0x110000, "<|im_end|>": 0x110001}  # above all characters


class Letters:
    """See above."""

    def encode(self, text: str, after: object = None, /) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(chr(id) for id in ids if id < 0x110000)

    def token_id(self, token: str) -> int | None:
        return CONTROL.get(token)
