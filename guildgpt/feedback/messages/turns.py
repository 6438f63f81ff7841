"""What a stored message says of itself: where it came from, who wrote it, in which place."""

from __future__ import annotations

from typing import Any

from guildgpt.feedback.records import StoredMessage


def is_imported(message: StoredMessage) -> bool:
    """Whether the message came out of a file of Open-Assistant trees."""
    return "oasst" in message.extra


def carried(message: StoredMessage) -> dict[str, Any]:
    """What its row in that file said besides text and replies; empty for our own messages."""
    return dict(message.extra.get("oasst", {}))


def passed_review(message: StoredMessage) -> bool:
    """False for an imported message that reviewers refused or have not seen."""
    return bool(carried(message).get("review_result", True))


def model_of(message: StoredMessage) -> str:
    """Who wrote an answer: its version, the model that an import names, `human`, `unknown`."""
    name = message.version_id or carried(message).get("model_name")
    return str(name) if name else "unknown" if message.synthetic else "human"


def place_of(message: StoredMessage) -> tuple[float, Any, str]:
    """By what replies are ordered: imported ones as in their file, then the others by age."""
    return (message.extra.get("place", float("inf")), message.created_at, message.id)
