"""Rows of the store as the page gets them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from guildgpt.feedback.records import Chat, Opinion, StoredMessage
from guildgpt.serve.web.rendering import Rendering

Json = dict[str, Any]


def chat_told(chat: Chat) -> Json:
    """A chat in the list."""
    return {"id": chat.id, "title": chat.title, "changed_at": chat.changed_at.isoformat()}


def untold(messages: Iterable[StoredMessage], secret: Collection[str]) -> list[StoredMessage]:
    """The messages, without who wrote them where that is a secret."""
    return [replace(one, version_id=None) if one.version_id in secret else one for one in messages]


def message_told(
    message: StoredMessage, siblings: list[str], opinion: Opinion | None, rendering: Rendering
) -> Json:
    """A message on its page: an answer as HTML beside its text, a question as text alone."""
    told: Json = {
        "id": message.id,
        "parent": message.parent_id,
        "role": message.role,
        "text": message.text,
        "siblings": siblings,
        "deleted": message.deleted,
        "at": message.created_at.isoformat(),
    }
    if message.role == "assistant":
        told |= {
            "html": rendering.html(message.text),
            "version": message.version_id,
            "stop": message.stop,
            "rating": opinion.value if opinion else 0,
            "reason": opinion.reason if opinion else None,
            "correction": opinion.correction if opinion else "",
            "correction_state": opinion.state if opinion else None,
        }
    return told
