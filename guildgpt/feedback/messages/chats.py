"""Conversations of the web page: each is a tree of messages, and its member's alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Select, func, or_, select, update

from guildgpt.feedback.erasing.removal import Removal, Remover, remove_messages
from guildgpt.feedback.records import Chat, FoundChat, Opinion, StoredMessage
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among, new_id, storable
from guildgpt.feedback.storage.schema import chats, conversations, corrections, messages, ratings
from guildgpt.feedback.storage.trouble import GONE, Known

LONGEST_TITLE = 120  # characters
_AROUND = 60  # characters of a found text on either side of what was looked for
_CHAT = (
    chats.c.conversation_id.label("id"),
    chats.c.title,
    conversations.c.created_at,
    chats.c.changed_at,
)


@dataclass(frozen=True, slots=True)
class Chats:
    """What people ask on the page. Whoever names another's chat is told that there is none."""

    _database: Database
    _clock: Clock
    _remover: Remover

    async def start(self, member_id: str, title: str = "") -> Chat:
        """A new chat without messages. RecordGone if the member is."""
        now = self._clock.later()
        chat = Chat(new_id(), title_of(title), now, now)
        conversation = {"id": chat.id, "kind": "web", "source": "web", "lang": ""}
        row = {"conversation_id": chat.id, "member_id": member_id, "title": chat.title}

        def work(connection: Connection) -> None:
            connection.execute(conversations.insert(), conversation | {"created_at": now})
            connection.execute(chats.insert(), row | {"changed_at": now})

        await self._database.write(work)
        return chat

    async def chat(self, id: str, member_id: str) -> Chat | None:
        """The member's chat with this id."""
        found = await self._database.row(_chats_of(member_id).where(chats.c.conversation_id == id))
        return Chat(*found) if found else None

    async def listed(
        self, member_id: str, *, limit: int, before: datetime | None = None
    ) -> list[Chat]:
        """A member's chats, the last changed first; those changed `before` a moment."""
        wanted = _chats_of(member_id).order_by(chats.c.changed_at.desc(), chats.c.conversation_id)
        if before is not None:
            wanted = wanted.where(chats.c.changed_at < before)
        return [Chat(*row) for row in await self._database.rows(wanted.limit(limit))]

    async def search(self, member_id: str, text: str, *, limit: int) -> list[FoundChat]:
        """The member's chats in whose title or messages a text stands, whatever its case, the last
        changed first, each with what stands around it."""
        # SQLite knows the case of ASCII letters alone: these forms are what people write.
        looked_for = storable(text)
        forms = {looked_for, looked_for.lower(), looked_for.upper(), looked_for.title()}
        of_them = chats.c.member_id == member_id
        says = or_(*(messages.c.text.icontains(form, autoescape=True) for form in forms))
        called = or_(*(chats.c.title.icontains(form, autoescape=True) for form in forms))
        text_of = (
            select(messages.c.text)
            .where(messages.c.conversation_id == chats.c.conversation_id, says)
            .order_by(messages.c.created_at)
            .limit(1)
            .scalar_subquery()
        )
        wanted = (
            select(*_CHAT, text_of.label("said"))
            .join(conversations, conversations.c.id == chats.c.conversation_id)
            .where(of_them, or_(called, text_of.is_not(None)))
            .order_by(chats.c.changed_at.desc(), chats.c.conversation_id)
            .limit(limit)
        )
        return [
            FoundChat(Chat(*chat), _around(said or "", looked_for))
            for *chat, said in await self._database.rows(wanted)
        ]

    async def messages(self, id: str) -> list[StoredMessage]:
        """All messages of a chat, the oldest first."""
        wanted = select(messages).where(messages.c.conversation_id == id)
        rows = await self._database.rows(wanted.order_by(messages.c.created_at, messages.c.id))
        return [StoredMessage(**row._asdict()) for row in rows]

    async def chat_of(self, message_id: str, member_id: str) -> Chat | None:
        """The member's chat that a message stands in."""
        wanted = _chats_of(member_id).join(
            messages, messages.c.conversation_id == chats.c.conversation_id
        )
        found = await self._database.row(wanted.where(messages.c.id == message_id))
        return Chat(*found) if found else None

    async def changed(self, id: str, *, title: str = "") -> None:
        """Something was said in a chat; one that has no title yet takes this one."""
        named = func.coalesce(func.nullif(chats.c.title, ""), title_of(title))
        this = update(chats).where(chats.c.conversation_id == id)
        await self._database.execute(this.values(changed_at=self._clock.later(), title=named))

    async def rename(self, id: str, member_id: str, title: str) -> None:
        """Give a chat another title. RecordGone if the member has no such chat."""
        this = (chats.c.conversation_id == id) & (chats.c.member_id == member_id)
        renaming = update(chats).where(this).values(title=title_of(title))

        def work(connection: Connection) -> None:
            if not connection.execute(renaming).rowcount:
                raise Known(GONE)

        await self._database.write(work)

    async def delete(self, id: str, member_id: str) -> bool:
        """Take a chat away with all that was said in it and about it; False if the member has no
        such chat. Versions that learned from any of it are marked, as after an erasure."""
        of_it = _chats_of(member_id).where(chats.c.conversation_id == id)
        found = []

        def take(removal: Removal) -> None:
            if removal.connection.execute(of_it).first() is None:
                return
            found.append(id)
            said = select(messages.c.id).where(messages.c.conversation_id == id)
            remove_messages(removal, set(removal.connection.scalars(said)))
            removal.delete(conversations, conversations.c.id == id)  # where nothing was said

        await self._remover.remove(take, of=of_it)
        return bool(found)

    async def opinions(self, ids: Sequence[str], member_id: str) -> dict[str, Opinion]:
        """What a member thinks of answers, by their ids: the newest rating and correction."""

        def work(connection: Connection) -> dict[str, Opinion]:
            rated, corrected = (
                {
                    row.message_id: row  # the newest is the last
                    for row in connection.execute(
                        select(table)
                        .where(among(connection, table.c.message_id, ids))
                        .where(table.c.member_id == member_id)
                        .order_by(table.c.created_at)
                    )
                }
                for table in (ratings, corrections)
            )
            return {
                id: Opinion(
                    value=rated[id].value if id in rated else 0,
                    reason=rated[id].reason if id in rated else None,
                    correction=corrected[id].text if id in corrected else "",
                    state=corrected[id].state if id in corrected else None,
                )
                for id in rated.keys() | corrected.keys()
            }

        return await self._database.read(work)


def title_of(text: str) -> str:
    """A title of one line; of a question, its beginning."""
    line = " ".join(str(storable(text)).split())
    if len(line) <= LONGEST_TITLE:
        return line
    cut = line[: LONGEST_TITLE - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"


def _chats_of(member_id: str) -> Select[tuple[str, str, datetime, datetime]]:
    joined = select(*_CHAT).join(conversations, conversations.c.id == chats.c.conversation_id)
    return joined.where(chats.c.member_id == member_id)


def _around(text: str, looked_for: str) -> str:
    """What stands around the first place of a text, on one line."""
    at = text.casefold().find(looked_for.casefold())
    start = max(0, at - _AROUND)
    end = at + len(looked_for) + _AROUND
    cut = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{cut}{'…' if end < len(text) else ''}" if cut else ""
