"""Where a model is served: what `--engine` says."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from guildgpt.errors import EngineError

KEY_VARIABLE = "GUILDGPT_ENGINE_KEY"
AS_TEXT = "text+"


@dataclass(frozen=True, slots=True)
class ServedAt:
    """Where a model is served: the address, the server's name for it if it is said, and the key."""

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    as_text: bool = False

    @classmethod
    def read(cls, address: str, key: str | None = None) -> Self:
        """What `--engine` says: "http://HOST:8000/v1#MODEL", the path and the name where they are
        needed; "text+http://…" sends prompts as text. Raises `EngineError` for what is no address.
        """
        url, _, model = address.strip().partition("#")
        as_text = url.startswith(AS_TEXT)
        try:
            parts = urlsplit(url.removeprefix(AS_TEXT))
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # its port is none
            known = None
        if not known:
            raise EngineError(
                f"{address or 'nothing'} is no address of an engine",
                remedy="It begins with http:// or https://.",
            )
        if parts.username or parts.password:
            raise EngineError(
                "a key in an address ends up in logs",
                where=f"{parts.scheme}://{parts.hostname}",
                remedy=f"Put it into the environment variable {KEY_VARIABLE}.",
            )
        path = parts.path.rstrip("/") or "/v1"
        return cls(f"{parts.scheme}://{parts.netloc}{path}", model or None, key, as_text)


def served_at(address: str | None) -> ServedAt | None:
    """Where the model is served, with the environment's key; None where no address is given."""
    return ServedAt.read(address, os.environ.get(KEY_VARIABLE)) if address else None
