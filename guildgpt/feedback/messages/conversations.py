"""Conversations: trees of messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, func, literal, select, union

from guildgpt.chat import Role
from guildgpt.feedback.messages.quoting import quotes
from guildgpt.feedback.records import ConversationKind, StoredMessage
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among, new_id, storable
from guildgpt.feedback.storage.schema import conversations, deliveries, messages, parts
from guildgpt.feedback.storage.trouble import GONE, Known


@dataclass(frozen=True)
class Conversations:
    """What was said."""

    _database: Database
    _clock: Clock

    async def start(
        self,
        kind: ConversationKind,
        *,
        guild_id: int | None = None,
        channel_id: int | None = None,
        home_id: int | None = None,
        source: str = "discord",
        lang: str = "",
    ) -> str:
        """A new conversation without messages; its id. `home_id`: what its thread hangs from."""
        id = new_id()
        row = {
            "id": id,
            "kind": kind,
            "guild_id": guild_id,
            "channel_id": channel_id,
            "home_id": home_id,
            "source": storable(source),
            "lang": storable(lang),
            "created_at": self._clock.later(),
        }
        starting = self._database.insert(conversations).on_conflict_do_nothing()
        await self._database.execute(starting, row)
        return id

    async def channel_of(self, conversation_id: str) -> int | None:
        """The channel that the conversation takes place in; None if there is none."""
        wanted = select(conversations.c.channel_id).where(conversations.c.id == conversation_id)
        channel: int | None = await self._database.value(wanted)
        return channel

    async def add_message(
        self,
        *,
        conversation_id: str,
        parent_id: str | None,
        role: Role,
        text: str,
        name: str | None = None,
        member_id: str | None = None,
        version_id: str | None = None,
        sampling: dict[str, Any] | None = None,
        stop: str | None = None,
        discord_id: int | None = None,
        synthetic: bool = False,
        extra: dict[str, Any] | None = None,
        edited_at: datetime | None = None,
        told: Sequence[StoredMessage] = (),
        told_besides: Sequence[str] = (),
        id: str | None = None,
    ) -> StoredMessage:
        """Put a message into its tree.

        With the `id` of a message that is in the same place already, that one is written anew: an
        answer that was taken up again after a crash. An answer says which messages it was `told`,
        as they were, and which words that nobody may keep (`told_besides`). Raises RecordGone if
        the conversation or the parent is gone, for an answer to a deleted question, and for one
        that quotes what may not be kept, or has been taken back since it was told.
        """
        row: dict[str, Any] = {
            "id": id or new_id(),
            "conversation_id": conversation_id,
            "parent_id": parent_id,
            "role": role,
            "text": storable(text),
            "name": storable(name),
            "member_id": member_id,
            "version_id": version_id,
            "sampling": storable(sampling),
            "stop": stop,
            "discord_id": discord_id,
            "synthetic": synthetic,
            "rank": None,
            "deleted": False,
            "extra": storable(extra or {}),
            "created_at": self._clock.later(),
            "edited_at": edited_at,
            "outdated": False,
        }

        def work(connection: Connection) -> StoredMessage:
            if parent_id is not None:
                _check_parent(connection, parent_id, conversation_id, role)
                row["outdated"] = _check_told(connection, row["text"], told, told_besides)
            if not connection.execute(self._adding, row).rowcount:
                raise Known(GONE)
            wanted = select(messages).where(messages.c.id == id)
            written = connection.execute(wanted).one()._asdict() if id else row
            return StoredMessage(**written)

        return await self._database.write(work)

    async def message(self, id: str) -> StoredMessage | None:
        """The message with this id."""
        return await self._first(select(messages).where(messages.c.id == id))

    async def message_by_discord_id(self, discord_id: int) -> StoredMessage | None:
        """What a message on Discord says; any part of an answer finds it, the newest if several."""
        answered = (
            select(deliveries.c.answer_id)
            .join(parts, parts.c.delivery_id == deliveries.c.id)
            .where(parts.c.discord_id == discord_id, deliveries.c.answer_id.is_not(None))
        )
        said = select(messages.c.id).where(messages.c.discord_id == discord_id)
        return await self._first(
            select(messages)
            .where(messages.c.id.in_(union(said, answered)))
            .order_by(messages.c.created_at.desc(), messages.c.id)
            .limit(1)
        )

    async def path_to(self, message_id: str) -> list[StoredMessage]:
        """The messages from the root of the tree to this one; empty if it is gone."""
        return await self._database.read(lambda connection: path_in(connection, message_id))

    async def channel_tail(self, channel_id: int) -> StoredMessage | None:
        """The newest message of the thread or the direct messages that the channel is."""
        return await self._first(
            select(messages)
            .join(conversations, conversations.c.id == messages.c.conversation_id)
            .where(
                conversations.c.channel_id == channel_id,
                conversations.c.kind.in_(("thread", "dm")),
            )
            .order_by(messages.c.created_at.desc(), messages.c.id)
            .limit(1)
        )

    async def last_question(self, member_id: str, channel_id: int) -> StoredMessage | None:
        """What the member asked last in the channel, if it is still there."""
        return await self._first(
            select(messages)
            .join(deliveries, deliveries.c.question_id == messages.c.id)
            .where(
                deliveries.c.member_id == member_id,
                deliveries.c.channel_id == channel_id,
                ~messages.c.deleted,
            )
            .order_by(deliveries.c.created_at.desc(), deliveries.c.id)
            .limit(1)
        )

    async def _first(self, wanted: Select[Any]) -> StoredMessage | None:
        row = await self._database.row(wanted)
        return StoredMessage(**row._asdict()) if row else None

    @cached_property
    def _adding(self) -> Any:
        """The INSERT of a message; built once, for it is long."""
        adding = self._database.insert(messages)
        place = ("conversation_id", "parent_id", "role")
        same = [messages.c[key].is_not_distinct_from(adding.excluded[key]) for key in place]
        fixed = {"id", *place, "rank", "deleted", "extra", "created_at"}
        return adding.on_conflict_do_update(
            index_elements=["id"],
            set_={c.key: adding.excluded[c.key] for c in messages.c if c.key not in fixed},
            where=and_(~messages.c.deleted, *same),
        )


def path_in(connection: Connection, message_id: str) -> list[StoredMessage]:
    """The messages from the root of the tree to this one; empty if it is gone."""
    found = connection.execute(_path(), {"last": message_id})
    return [StoredMessage(**row._asdict()) for row in found]


def check_there(connection: Connection, wanted: Sequence[str]) -> None:
    """Raise RecordGone unless all the messages are there and none is deleted."""
    there = select(func.count()).where(messages.c.id.in_(set(wanted)), ~messages.c.deleted)
    if connection.scalar(there) != len(set(wanted)):
        raise Known(GONE)


def _check_parent(connection: Connection, parent_id: str, conversation_id: str, role: Role) -> None:
    wanted = select(messages.c.conversation_id, messages.c.deleted)
    found = connection.execute(wanted.where(messages.c.id == parent_id)).one_or_none()
    if found is None or (found.deleted and role == "assistant"):
        raise Known(GONE)
    if found.conversation_id != conversation_id:
        raise ValueError(f"the parent {parent_id} is in another conversation")


def _check_told(
    connection: Connection, text: str, told: Sequence[StoredMessage], besides: Sequence[str]
) -> bool:
    """Whether something that the message was told has been edited since; RecordGone if its text
    repeats what is gone."""
    if not told and not besides:
        return False
    wanted = select(messages.c.id, messages.c.text).where(
        among(connection, messages.c.id, [message.id for message in told]), ~messages.c.deleted
    )
    now = {row.id: row.text for row in connection.execute(wanted)}
    then = [message for message in told if not message.deleted]
    gone = [message.text for message in then if now.get(message.id) != message.text]
    if (gone or besides) and quotes(text, [*gone, *besides], now.values()):
        raise Known(GONE)
    return any(m.id in now and now[m.id] != m.text and m.role == "user" for m in then)


@cache
def _path() -> Select[Any]:
    """From the root to the message `last`; built once, for it is long."""
    last = select(messages.c.id, messages.c.parent_id, literal(0).label("above"))
    path = last.where(messages.c.id == bindparam("last")).cte("path", recursive=True)
    path = path.union_all(
        select(messages.c.id, messages.c.parent_id, path.c.above + 1).join(
            path, messages.c.id == path.c.parent_id
        )
    )
    wanted = select(messages).join(path, messages.c.id == path.c.id)
    return wanted.order_by(path.c.above.desc())
