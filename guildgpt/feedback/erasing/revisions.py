"""What becomes of messages on Discord after they were stored: they are deleted, or edited."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Executable, or_, select, union, update

from guildgpt.feedback.erasing.blanking import BLANK, blank, blank_answers
from guildgpt.feedback.erasing.removal import Removal, Remover
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import among, storable
from guildgpt.feedback.storage.schema import (
    candidates,
    deliveries,
    members,
    messages,
    parts,
    reports,
)


@dataclass(frozen=True, slots=True)
class Revisions:
    """The store follows Discord. Each method says what went, and who had learned from it."""

    _database: Database
    _remover: Remover

    async def knows(self, discord_id: int) -> bool:
        """Whether anything of that message on Discord is in the store."""
        return await self._database.row(_known_of(discord_id)) is not None

    async def mark_deleted(self, discord_id: int) -> Erasure:
        """A message was deleted on Discord: its text goes, its row stays to hold the tree.

        Of an answer that was several messages each stands for the whole; a comparison's stands for
        both answers and the votes. Answers that quote what is gone are blanked.
        """
        theirs = messages.c.discord_id == discord_id

        def take(removal: Removal) -> None:
            connection = removal.connection
            asked = deliveries.c.event_id == discord_id
            connection.execute(update(deliveries).where(asked).values(extra={}))
            said = set(connection.scalars(select(messages.c.id).where(theirs)))
            answers = _answers_in(connection, discord_id)
            blank_answers(removal, said | answers)
            if answers:
                removal.delete(reports, among(connection, reports.c.message_id, answers))
                blank(removal, answers)
            blanking = update(messages).where(theirs, ~messages.c.deleted)
            done = connection.execute(blanking.values(_BLANK_WORDS))
            removal.counts["messages"] += done.rowcount
            removal.ids |= said

        return await self._remover.remove(take, of=_known_of(discord_id))

    async def withdraw(self, id: str) -> None:
        """An answer could not be shown: its text goes, its row stays to hold the tree."""

        await self._remover.remove(lambda removal: blank(removal, {id}))

    async def edit(self, discord_id: int, text: str, edited_at: datetime) -> Erasure:
        """A message says something else now: its text is replaced, whoever asked or quoted it.

        Without a text it counts as deleted, and so it does where its author by now wants nothing
        kept. `edited_at` is Discord's time: what is older than an
        edit that the store has is passed over. Answers that quote what stood there and stands there
        no longer are blanked; others that were told it are `outdated`.
        """
        text = storable(text).strip()
        older = or_(messages.c.edited_at.is_(None), messages.c.edited_at < edited_at)
        theirs = (messages.c.discord_id == discord_id) & older & ~messages.c.deleted
        whose = select(members.c.consent).select_from(messages).outerjoin(members).where(theirs)
        consents = {row.consent for row in await self._database.rows(whose)}
        if consents and (not text or "none" in consents):
            return await self.mark_deleted(discord_id)
        if not text:
            return Erasure({}, ())

        def take(removal: Removal) -> None:
            connection = removal.connection
            _edit_waiting(connection, discord_id, text)
            wanted = select(messages.c.id, messages.c.text).where(theirs)
            said = {row.id: row.text for row in connection.execute(wanted)}
            changed = {id: text for id, then in said.items() if then.split() != text.split()}
            blank_answers(removal, set(), edited=changed)
            removal.ids |= changed.keys()
            now = {"text": text, "edited_at": edited_at}
            connection.execute(update(messages).where(theirs).values(now))
            removal.counts["edited"] += len(changed)

        return await self._remover.remove(take, of=_known_of(discord_id))


def _known_of(discord_id: int) -> Executable:
    """Whatever is in the store of a message on Discord: most are not in it."""
    return union(
        select(parts.c.delivery_id).where(parts.c.discord_id == discord_id),
        select(deliveries.c.id).where(deliveries.c.event_id == discord_id),
        select(messages.c.id).where(messages.c.discord_id == discord_id),
    ).limit(1)


_BLANK_WORDS = {key: BLANK[key] for key in ("text", "name", "deleted", "extra")}


def _answers_in(connection: Connection, discord_id: int) -> set[str]:
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
    return set(connection.scalars(wanted))


def _edit_waiting(connection: Connection, discord_id: int, text: str) -> None:
    """The text that a question which is not yet stored was claimed with."""
    wanted = select(deliveries.c.id, deliveries.c.extra).where(deliveries.c.event_id == discord_id)
    for id, extra in list(connection.execute(wanted)):
        if extra.get("text"):
            row = update(deliveries).where(deliveries.c.id == id)
            connection.execute(row.values(extra={**extra, "text": text}))
