"""Open-Assistant's trees, into the store.

Whatever a row says is kept, so that `guildgpt.feedback.oasst` writes it as it came. Only what no
database holds is changed: NUL and halves of surrogate pairs become U+FFFD, NaN becomes null.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guildgpt.chat import Role
from guildgpt.data.lines import read_json_lines
from guildgpt.data.rows import role_of, type_name
from guildgpt.errors import DataError
from guildgpt.feedback.records import Snapshot, StoredConversation, StoredMessage
from guildgpt.feedback.rows import storable
from guildgpt.feedback.view import BELOW

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
    for index, root in enumerate(_roots(path, left_out)):
        tree_id = str(root.tree.get("message_tree_id") or root.row["message_id"])
        created = _date(root.row.get("created_date"), now)
        conversation = StoredConversation(
            id=tree_id,
            kind="import",
            guild_id=None,
            channel_id=None,
            source=Path(path).name,
            lang=root.row["lang"] if isinstance(root.row.get("lang"), str) else "",
            created_at=created,
        )
        conversations.setdefault(conversation.id, conversation)
        stack: list[tuple[_Row, str | None, int]] = [(root, None, index)]
        while stack:
            item, parent_id, place = stack.pop()
            if reason := _unusable(item.row):
                item.leave_out(left_out, reason)
                continue
            for message in _messages(item, conversation.id, parent_id, place, created):
                if message.id in messages:
                    raise DataError(
                        f"message {item.row['message_id']} is in the file already",
                        where=item.where,
                        remedy="Delete one of the two.",
                    )
                messages[message.id] = message
                parent_id = message.id
            replies = list(enumerate(item.replies))
            stack += [(reply, parent_id, place) for place, reply in reversed(replies)]
    used = {message.conversation_id for message in messages.values()}
    return Snapshot(
        conversations=[item for item in conversations.values() if item.id in used],
        messages=list(messages.values()),
    )


@dataclass(slots=True)
class _Row:
    row: dict[str, Any]
    where: str
    tree: dict[str, Any]  # what stands beside the prompt; empty below the root
    replies: list[_Row]

    def below(self) -> int:
        found = list(self.replies)
        for reply in found:  # grows while it is walked
            found += reply.replies
        return len(found)

    def leave_out(self, left_out: Counter[str], reason: str) -> None:
        left_out[reason] += 1
        if below := self.below():
            left_out[BELOW] += below


def _roots(path: str | Path, left_out: Counter[str]) -> Iterator[_Row]:
    """The first message of every tree, replies in file order."""
    flat: dict[str, tuple[_Row, str | None]] = {}
    for number, row in read_json_lines(path):
        where = f"{path}:{number}"
        if isinstance(row.get("prompt"), dict):
            yield _nested(row, where)
            continue
        item = _row(row, where)
        if item.row["message_id"] in flat:
            raise DataError(
                f"message {item.row['message_id']} stands in "
                f"{flat[item.row['message_id']][0].where} already",
                where=where,
                remedy="Delete one of the two lines.",
            )
        flat[item.row["message_id"]] = (item, item.row.get("parent_id") or None)
    orphans = [item for item, parent in flat.values() if parent and parent not in flat]
    for item, parent in flat.values():
        if parent in flat:
            flat[parent][0].replies.append(item)
    for item in orphans:
        item.leave_out(left_out, "its parent is not in the file")
    roots = [item for item, parent in flat.values() if not parent]
    if sum(1 + item.below() for item in roots + orphans) < len(flat):
        raise DataError(
            "some messages reply to each other in a circle",
            where=path,
            remedy="Their `parent_id`s are wrong; download the file again.",
        )
    for item in roots:
        keys = ("message_tree_id", "tree_state")
        item.tree = {key: item.row[key] for key in keys if key in item.row}
        yield item


def _nested(tree: dict[str, Any], where: str) -> _Row:
    root = _row(tree["prompt"], where)
    root.tree = {key: storable(value) for key, value in tree.items() if key != "prompt"}
    stack = [root]
    while stack:
        item = stack.pop()
        replies = item.row.get("replies") or []
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise DataError(
                "`replies` is not a list of messages",
                where=where,
                remedy="The file is damaged; download it again.",
            )
        item.replies = [_row(reply, where) for reply in replies]
        stack += item.replies
    return root


def _row(row: dict[str, Any], where: str) -> _Row:
    """The row with what a message cannot be without checked."""
    if "message_id" not in row or "text" not in row:
        raise DataError(
            f"the row is neither a tree nor a message; it has {', '.join(row) or 'no key'}",
            where=where,
            remedy="Trees have `prompt`, messages `message_id`, `parent_id`, `role` and `text`.",
        )
    for key in ("message_id", "text", "parent_id"):
        if not isinstance(row.get(key), str) and (key == "message_id" or row.get(key) is not None):
            raise DataError(
                f"`{key}` is {type_name(row[key])}, not text",
                where=where,
                remedy=f'Write it as a string: "{key}": "…".',
            )
    # Not the replies: they get here one by one, however deeply they are nested.
    row = {key: value if key == "replies" else storable(value) for key, value in row.items()}
    role_of(row.get("role"), where)
    _rank(row.get("rank"), where)
    return _Row(row, where, {}, [])


def _messages(
    item: _Row, conversation_id: str, parent_id: str | None, place: int, created: datetime
) -> Iterator[StoredMessage]:
    """The message, before it the system turn that it carries."""
    row = {key: value for key, value in item.row.items() if key not in ("text", "replies")}
    id = row["message_id"]
    at = _date(row.get("created_date"), created)
    if isinstance(row.get("system"), str) and row["system"].strip():
        text = row.pop("system")
        system_id = str(uuid.uuid5(_IDS, f"system of {id}"))
        yield _stored(system_id, conversation_id, parent_id, "system", text, {"place": place}, at)
        parent_id = system_id
    extra = {"oasst": row, "place": place} | ({"tree": item.tree} if item.tree else {})
    role = role_of(row["role"], item.where)
    message = _stored(id, conversation_id, parent_id, role, item.row["text"], extra, at)
    rank, synthetic = _rank(row.get("rank"), item.where), bool(row.get("synthetic"))
    yield replace(message, rank=rank, synthetic=synthetic)


def _stored(
    id: str,
    conversation_id: str,
    parent_id: str | None,
    role: Role,
    text: str,
    extra: dict[str, Any],
    created_at: datetime,
) -> StoredMessage:
    return StoredMessage(
        id=id,
        conversation_id=conversation_id,
        parent_id=parent_id,
        role=role,
        text=text,
        name=None,
        member_id=None,
        version_id=None,
        sampling=None,
        stop=None,
        discord_id=None,
        rank=None,
        synthetic=False,
        deleted=False,
        extra=extra,
        created_at=created_at,
    )


def _unusable(row: dict[str, Any]) -> str | None:
    if row.get("deleted"):
        return "deleted"
    return None if (row["text"] or "").strip() else "no text"


def _rank(value: Any, where: str) -> int | None:
    if value is None:
        return None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and not value % 1
    if not whole or not 0 <= int(value) < 2**31:
        raise DataError(
            f"`rank` is {type_name(value)}: {value!r}",
            where=where,
            remedy="A rank is a whole number, 0 for the best answer, or null.",
        )
    return int(value)


def _date(value: object, otherwise: datetime) -> datetime:
    try:
        date = datetime.fromisoformat(str(value))
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return otherwise
