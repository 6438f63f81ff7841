"""Open-Assistant's trees, into the store.

Whatever a row says is kept, so that `guildgpt.feedback.exporting.oasst` writes it as it came. Only
what no database holds is changed: NUL and halves of surrogate pairs become U+FFFD, NaN becomes
null.
"""

from __future__ import annotations

import math
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from guildgpt.data.oasst import Node, not_a_rank, read_trees, require_message
from guildgpt.errors import DataError
from guildgpt.feedback.exporting.view import BELOW
from guildgpt.feedback.records import Snapshot, StoredConversation, StoredMessage
from guildgpt.feedback.storage.rows import storable

_IDS = uuid.UUID("5c0e7b0e-6f57-4c0a-9d3c-3f1f0d6f6a52")  # the namespace of system turns' ids


def read(path: str | Path, *, now: datetime, left_out: Counter[str]) -> Snapshot:
    """A file of trees, or of flat messages that name their `parent_id`, plain or gzipped.

    Each tree becomes a conversation of kind `import`; whatever a row says is kept in `extra` and
    leaves again with `trees`. Messages without text, deleted ones and those whose parent is missing
    are counted in `left_out`, with all their replies. `now` dates what carries no `created_date`.
    Raises DataError with file and line.
    """
    conversations: dict[str, StoredConversation] = {}
    messages: dict[str, StoredMessage] = {}
    for index, root in enumerate(read_trees(path)):
        conversation = _conversation(root, Path(path).name, now)
        conversations.setdefault(conversation.id, conversation)
        stack: list[tuple[Node, str | None, int]] = [(root, None, index)]
        while stack:
            node, parent_id, place = stack.pop()
            require_message(node.row, node.where)
            if reason := _unusable(node):
                node.count_cut(left_out, reason, BELOW)
                continue
            for message in _messages(node, conversation, parent_id, place):
                if message.id in messages:
                    raise DataError(
                        f"message {message.id} is in the file already",
                        where=node.where,
                        remedy="Delete one of the two.",
                    )
                messages[message.id] = message
                parent_id = message.id
            replies = list(enumerate(node.replies))
            stack += [(reply, parent_id, place) for place, reply in reversed(replies)]
    used = {message.conversation_id for message in messages.values()}
    return Snapshot(
        conversations=[item for item in conversations.values() if item.id in used],
        messages=list(messages.values()),
    )


def _conversation(root: Node, source: str, now: datetime) -> StoredConversation:
    require_message(root.row, root.where)
    lang = root.row.get("lang")
    return StoredConversation(
        id=str(storable(root.tree.get("message_tree_id") or root.row["message_id"])),
        kind="import",
        guild_id=None,
        channel_id=None,
        source=source,
        lang=storable(lang) if isinstance(lang, str) else "",
        created_at=_date(root.row.get("created_date"), now),
    )


def _messages(
    node: Node, conversation: StoredConversation, parent_id: str | None, place: int
) -> Iterator[StoredMessage]:
    """The message, before it the system turn that it carries."""
    row = storable({key: value for key, value in node.row.items() if key != "replies"})
    extra = {"oasst": row, "place": place}
    if parent_id is None and node.tree:
        extra["tree"] = storable(node.tree)
    message = StoredMessage(
        id=row["message_id"],
        conversation_id=conversation.id,
        parent_id=parent_id,
        role=node.role,
        text=row.pop("text"),
        name=None,
        member_id=None,
        version_id=None,
        sampling=None,
        stop=None,
        discord_id=None,
        rank=_rank(node),
        synthetic=bool(row.get("synthetic")),
        deleted=False,
        extra=extra,
        created_at=_date(row.get("created_date"), conversation.created_at),
    )
    if isinstance(row.get("system"), str) and row["system"].strip():
        id, said = str(uuid.uuid5(_IDS, f"system of {message.id}")), row.pop("system")
        yield replace(
            message,
            id=id,
            role="system",
            text=said,
            rank=None,
            synthetic=False,
            extra={"place": place},
        )
        message = replace(message, parent_id=id)
    yield message


def _unusable(node: Node) -> str | None:
    if node.orphan:
        return "its parent is not in the file"
    if node.row.get("deleted"):
        return "deleted"
    return None if node.text else "no text"


def _rank(node: Node) -> int | None:
    """The rank, if it has one; DataError for one that no store holds."""
    if math.isinf(node.rank):
        return None
    if not 0 <= node.rank < 2**31:
        raise not_a_rank(node.row["rank"], node.where)
    return int(node.rank)


def _date(value: object, otherwise: datetime) -> datetime:
    try:
        date = datetime.fromisoformat(str(value))
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return otherwise
