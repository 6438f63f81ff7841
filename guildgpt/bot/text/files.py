"""Attached files: the text in them for the prompt, and words for those that hold none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from guildgpt.bot.answers.outlet import Undeliverable
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text.text import clean, read_attachment

log = EventLog(__name__)
LARGEST = 1 << 20  # bytes of a file of which at least the beginning is read

Kind = Literal["picture", "video", "recording", "sticker", "file"]
_KINDS: dict[str, Kind] = {"image": "picture", "video": "video", "audio": "recording"}


@dataclass(frozen=True, slots=True)
class Attached:
    """A file somebody attached; `read` raises `Undeliverable` if it cannot be had."""

    name: str
    content_type: str | None
    size: int
    read: Callable[[], Awaitable[bytes]]

    @property
    def kind(self) -> Kind:
        """What it says it is."""
        return _KINDS.get((self.content_type or "").partition("/")[0].strip().lower(), "file")


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that was attached, and that nobody here can see or hear."""

    kind: Kind
    name: str


async def read_files(
    files: Sequence[Attached], *, most: int, limit_bytes: int
) -> tuple[list[str], list[Unseen]]:
    """The text of the first `most` files, of each its first `limit_bytes`; and the other files."""
    texts: list[str] = []
    unseen: list[Unseen] = []
    for index, file in enumerate(files):
        text = None
        if index < most and file.size <= max(limit_bytes, LARGEST):
            try:
                text = read_attachment(file.name, file.content_type, await file.read(), limit_bytes)
            except Undeliverable as error:
                log("attachment_failed", error=error)
        if text is None:
            unseen.append(Unseen(file.kind, file.name))
        else:
            texts.append(text)
    if unseen:
        log("attachments_left_out", count=len(unseen))
    return texts, unseen


def not_seen(unseen: Sequence[Unseen]) -> str:
    """What is told to the model of what it cannot see; '' for nothing."""
    names = clean(", ".join(f"the {one.kind} {one.name}" for one in unseen))
    return f"(Attached, but you cannot see it: {names[:200]})" if names else ""
