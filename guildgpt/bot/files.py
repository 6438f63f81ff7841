"""Attached files: the text in them for the prompt, and a line on those that hold none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from guildgpt.bot.logs import log
from guildgpt.bot.outlet import Undeliverable
from guildgpt.bot.text import clean, read_attachment

LOGGER = logging.getLogger(__name__)
LARGEST = 1 << 20  # bytes of a file of which at least the beginning is read


@dataclass(frozen=True, slots=True)
class Attached:
    """A file somebody attached; `read` raises `Undeliverable` if it cannot be had."""

    name: str
    content_type: str | None
    size: int
    read: Callable[[], Awaitable[bytes]]


async def read_files(files: Sequence[Attached], *, most: int, limit_bytes: int) -> list[str]:
    """The text of the first `most` files, of each its first `limit_bytes`."""
    texts, left_out = [], []
    for index, file in enumerate(files):
        text = None
        if index < most and file.size <= max(limit_bytes, LARGEST):
            try:
                text = read_attachment(file.name, file.content_type, await file.read(), limit_bytes)
            except Undeliverable as error:
                log(LOGGER, "attachment_failed", error=error)
        if text is None:
            left_out.append(file.name)
        else:
            texts.append(text)
    if left_out:
        log(LOGGER, "attachments_left_out", count=len(left_out))
        names = clean(", ".join(left_out))[:200]
        texts.append(f"(Attached, but not readable as text: {names})")
    return texts
