"""What becomes of messages on Discord after they were stored: they are deleted, or edited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.blanking import BLANK, blank, blank_answers, delete_reports
from guildgpt.feedback.part import new_id
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.removal import Removed, forget_lineage
from guildgpt.feedback.schema import candidates, deliveries, erasures, members, messages, parts
from guildgpt.feedback.scrubbing import Scrubbing
from guildgpt.feedback.view import storable

NOTHING = Erasure({}, ())


class Revisions(Scrubbing):
    """The store follows Discord. Each method says what went, and who had learned from it."""

    async def knows(self, discord_id: int) -> bool:
        """Whether anything of that message on Discord is in the store."""
        here = parts.c.discord_id == discord_id
        asked = deliveries.c.event_id == discord_id
        said = messages.c.discord_id == discord_id
        wanted = union(
            select(parts.c.delivery_id).where(here),
            select(deliveries.c.id).where(asked),
            select(messages.c.id).where(said),
        )

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(wanted.limit(1))).first() is not None

        return await self._database.read(work)

    async def mark_deleted(self, discord_id: int) -> Erasure:
        """A message was deleted on Discord: its text goes, its row stays to hold the tree.

        Of an answer that was several messages each stands for the whole; a comparison's stands for
        both answers and the votes. Answers that quote what is gone are blanked.
        """
        if not await self.knows(discord_id):
            return NOTHING  # most of what is deleted: nobody has to wait for it
        theirs = messages.c.discord_id == discord_id

        async def take(connection: AsyncConnection, removed: Removed) -> None:
            asked = deliveries.c.event_id == discord_id
            await connection.execute(update(deliveries).where(asked).values(extra={}))
            said = set(await connection.scalars(select(messages.c.id).where(theirs)))
            answers = await _answers_in(connection, discord_id)
            await _blank_told(connection, said | answers, removed)
            await delete_reports(connection, answers, removed)
            await blank(connection, answers, removed)
            blanking = update(messages).where(theirs, ~messages.c.deleted)
            done = await connection.execute(blanking.values(_BLANK_WORDS))
            removed.counts["messages"] += done.rowcount
            removed.events |= said

        return await self._taken(take)

    async def withdraw(self, id: str) -> None:
        """An answer could not be shown: its text goes, its row stays to hold the tree."""

        async def take(connection: AsyncConnection, removed: Removed) -> None:
            await blank(connection, {id}, removed)

        await self._taken(take)

    async def edit_message(self, discord_id: int, text: str, edited_at: datetime) -> Erasure:
        """A message says something else now: its text is replaced, whoever asked or quoted it.

        Without a text it counts as deleted, and so it does where its author by now wants nothing
        kept. `edited_at` is Discord's time: what is older than an
        edit that the store has is passed over. Answers that quote what stood there and stands there
        no longer are blanked; others that were told it are `outdated`.
        """
        text = storable(text).strip()
        if not await self.knows(discord_id):
            return NOTHING
        older = or_(messages.c.edited_at.is_(None), messages.c.edited_at < edited_at)
        theirs = (messages.c.discord_id == discord_id) & older & ~messages.c.deleted

        async def authors_consents(connection: AsyncConnection) -> set[str | None]:
            wanted = select(members.c.consent).select_from(messages).outerjoin(members)
            return set(await connection.scalars(wanted.where(theirs)))

        consents = await self._database.read(authors_consents)
        if consents and (not text or "none" in consents):
            return await self.mark_deleted(discord_id)
        if not text:
            return NOTHING

        async def take(connection: AsyncConnection, removed: Removed) -> None:
            await _edit_waiting(connection, discord_id, text)
            wanted = select(messages.c.id, messages.c.text).where(theirs)
            said = {row.id: row.text for row in await connection.execute(wanted)}
            changed = {id: text for id, then in said.items() if then.split() != text.split()}
            removed_there = await blank_answers(connection, set(), edited=changed)
            removed.counts += removed_there.counts
            removed.events |= removed_there.events | changed.keys()
            now = {"text": text, "edited_at": edited_at}
            await connection.execute(update(messages).where(theirs).values(now))
            removed.counts["edited"] += len(changed)

        return await self._taken(take)

    async def _taken(self, take: Any) -> Erasure:
        """Do it in one transaction; note who had learned from it, and that there are traces."""
        now, id = self._now(), new_id()

        async def work(connection: AsyncConnection) -> Erasure:
            removed = Removed()
            await take(connection, removed)
            learned = await forget_lineage(connection, removed.events)
            counts = {kind: count for kind, count in removed.counts.items() if count}
            if learned:
                record = {"id": id, "created_at": now, "counts": counts, "versions": list(learned)}
                await connection.execute(erasures.insert(), record)
            await self._note_traces(connection)
            return Erasure(counts, learned)

        return await self._database.write(work, alone=True)


_BLANK_WORDS = {key: BLANK[key] for key in ("text", "name", "deleted", "extra")}


async def _blank_told(connection: AsyncConnection, gone: set[str], removed: Removed) -> None:
    found = await blank_answers(connection, gone)
    removed.counts += found.counts
    removed.events |= found.events


async def _answers_in(connection: AsyncConnection, discord_id: int) -> set[str]:
    """The answers of which the message on Discord is a part, or the comparison's."""
    of_it: ColumnElement[bool] = deliveries.c.id.in_(
        select(parts.c.delivery_id).where(parts.c.discord_id == discord_id)
    )
    shown = select(candidates.c.message_id).where(
        candidates.c.comparison_id.in_(select(deliveries.c.comparison_id).where(of_it))
    )
    wanted = select(messages.c.id).where(
        messages.c.id.in_(union(select(deliveries.c.answer_id).where(of_it), shown))
    )
    return set(await connection.scalars(wanted))


async def _edit_waiting(connection: AsyncConnection, discord_id: int, text: str) -> None:
    """The text that a question which is not yet stored was claimed with."""
    wanted = select(deliveries.c.id, deliveries.c.extra).where(deliveries.c.event_id == discord_id)
    for id, extra in list(await connection.execute(wanted)):
        if extra.get("text"):
            row = update(deliveries).where(deliveries.c.id == id)
            await connection.execute(row.values(extra={**extra, "text": text}))
