"""A chat to take along: all of its tree as JSON, or one way through it as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from guildgpt.feedback.records import Chat, StoredMessage


def as_json(chat: Chat, messages: Sequence[StoredMessage]) -> bytes:
    """The chat with all branches: each message names the one that it stands below."""
    told = {
        "title": chat.title,
        "created_at": chat.created_at.isoformat(),
        "messages": [
            {
                "id": one.id,
                "parent": one.parent_id,
                "role": one.role,
                "text": one.text,
                "version": one.version_id,
                "stop": one.stop,
                "at": one.created_at.isoformat(),
            }
            for one in messages
            if not one.deleted
        ],
    }
    return json.dumps(told, indent=2, ensure_ascii=False).encode()


def as_markdown(chat: Chat, path: Sequence[StoredMessage]) -> bytes:
    """What was said on one way, a heading above each message."""
    parts = [f"# {chat.title or 'Chat'}"]
    for one in path:
        if not one.deleted:
            model = f"Model ({one.version_id})" if one.version_id else "Model"
            who = "You" if one.role == "user" else model
            parts.append(f"## {who}\n\n{one.text.strip()}")
    return ("\n\n".join(parts) + "\n").encode()
