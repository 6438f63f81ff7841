"""Erasure: nothing of a member stays; and retention: nothing stays for ever."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, cast, delete, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.blanking import blank_answers
from guildgpt.feedback.members import Members
from guildgpt.feedback.part import chunks, new_id
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.removal import (
    Removed,
    about,
    delete_deliveries,
    delete_where,
    forget_lineage,
    remove_messages,
)
from guildgpt.feedback.schema import (
    channel_marks,
    conversations,
    deliveries,
    erasures,
    members,
    messages,
    parts,
    ratings,
    reports,
    votes,
)
from guildgpt.feedback.scrubbing import Scrubbing


class Privacy(Members, Scrubbing):
    """What members may ask for."""

    async def erase_member(self, user_id: int, *, scrub: bool = True) -> Erasure:
        """Erase everything of the member with this Discord id.

        Theirs is their row and hash, their direct messages with all in them, what they wrote, what
        the model answered them (it may quote them), everybody's votes, ratings and reports on
        either, their own on other things, and every id of these. Answers to others that quote any
        of it, or name them, are blanked. Where others' messages hang below
        one of theirs, an empty one takes its place. Mentions of them in others' texts lose
        their id. What an operator wrote into a guild's settings is the operator's. An anonymous
        record says that an erasure took place, and which versions had learned from what.

        Unless somebody else sees to that (`scrub`), a SQLite file is rewritten afterwards; if that
        fails now, it is done with the next erasure, retention or opening.
        """
        hashed, now, id = self._hash(user_id), self._now(), new_id()

        async def work(connection: AsyncConnection) -> Erasure:
            found = select(members.c.id).where(members.c.hash == hashed)
            member_id = await connection.scalar(found)
            if member_id is None:
                return Erasure({}, ())
            erasure = await _Erasing(connection, user_id, member_id).erase()
            record = {"id": id, "created_at": now, "counts": erasure.counts}
            await connection.execute(
                erasures.insert().values(**record, versions=list(erasure.versions))
            )
            await self._note_traces(connection)
            return erasure

        erasure = await self._database.write(work, alone=True)
        if scrub:
            await self.scrub()
        return erasure

    async def retain(self, days: int, *, scrub: bool = True) -> Counter[str]:
        """Drop what is older than so many days; how many rows of each kind.

        Messages go by their own age, with the votes, ratings and reports on them. In the place of
        an old one with newer ones below it stands an empty one; a conversation goes when nothing is
        left in it. What was imported stays. Members go who have nothing left, have not been seen
        since, and have chosen nothing. Lineage stays: its ids say nothing about anybody.
        """
        if days < 1:
            raise ValueError(f"nothing can be kept for {days} days")
        before = self._clock() - timedelta(days=days)

        async def work(connection: AsyncConnection) -> Counter[str]:
            dropped = await _drop(connection, before)
            if dropped:
                await self._note_traces(connection)
            return dropped

        dropped = await self._database.write(work, alone=True)
        if scrub:
            await self.scrub()
        return dropped


@dataclass
class _Erasing:
    """The steps of one erasure."""

    connection: AsyncConnection
    user_id: int
    member_id: str
    counts: Counter[str] = field(default_factory=Counter)
    events: set[str] = field(default_factory=set)  # ids that versions may have learned from
    theirs: set[str | int] = field(default_factory=set)  # every id by which they are known

    async def erase(self) -> Erasure:
        """All of them."""
        self._known_by(self.user_id, str(self.user_id), self.member_id)
        private = await self._private_channels()
        said = await self._messages(private)
        blanked = await self._quoted(said)
        self.counts += blanked.counts
        self.events |= blanked.events
        self.counts["deliveries"] += await self._deliveries(private, said)
        removed = await remove_messages(self.connection, said)
        self.counts += removed.counts
        self.events |= removed.events
        for table in (votes, ratings, reports):
            theirs = table.c.member_id == self.member_id
            gone = await delete_where(self.connection, table, theirs)
            self.counts[table.name] += len(gone)
            self.events |= gone
        await self._channels(private)
        await self._mentions()
        learned = await forget_lineage(self.connection, self.events)
        await self.connection.execute(delete(members).where(members.c.id == self.member_id))
        self.counts["members"] += 1
        return Erasure({kind: count for kind, count in self.counts.items() if count}, learned)

    def _known_by(self, *ids: str | int | None) -> None:
        self.theirs.update(id for id in ids if id is not None)

    async def _private_channels(self) -> list[int]:
        """The channels of their direct messages."""
        spoken = (
            select(conversations.c.channel_id)
            .join(messages, messages.c.conversation_id == conversations.c.id)
            .where(messages.c.member_id == self.member_id, conversations.c.kind == "dm")
        )
        asked = select(deliveries.c.channel_id).where(
            deliveries.c.member_id == self.member_id, deliveries.c.guild_id.is_(None)
        )
        found = await self.connection.scalars(spoken.union(asked))
        return [channel for channel in found if channel is not None]

    async def _messages(self, private: list[int]) -> set[str]:
        """What they said, what they were answered, and all that is in their direct messages."""
        own = messages.c.member_id == self.member_id
        mine = select(messages.c.id).where(own)
        asked = select(deliveries.c.answer_id).where(
            deliveries.c.member_id == self.member_id, deliveries.c.answer_id.is_not(None)
        )
        answers = (messages.c.role == "assistant") & or_(
            messages.c.parent_id.in_(mine), messages.c.id.in_(asked)
        )
        spoken = select(messages.c.conversation_id).where(own)
        direct = select(conversations.c.id).where(
            conversations.c.kind == "dm",
            or_(conversations.c.channel_id.in_(private), conversations.c.id.in_(spoken)),
        )
        wanted = select(messages.c.id, messages.c.discord_id).where(
            or_(own, answers, messages.c.conversation_id.in_(direct))
        )
        said: set[str] = set()
        for id, discord_id in await self.connection.execute(wanted):
            self._known_by(id, discord_id)
            said.add(id)
        return said

    async def _quoted(self, said: set[str]) -> Removed:
        """Blank answers to others that quote them."""
        wanted = select(messages.c.id).where(messages.c.member_id == self.member_id)
        own = set(await self.connection.scalars(wanted))
        return await blank_answers(self.connection, own, with_them=said - own, names=True)

    async def _deliveries(self, private: list[int], said: set[str]) -> int:
        """Delete their deliveries; how many."""
        here = deliveries.c.channel_id.in_(private) & deliveries.c.guild_id.is_(None)
        mine = [or_(deliveries.c.member_id == self.member_id, here)]
        count = 0
        for which in [*mine, *map(about, chunks(said))]:
            wanted = select(deliveries.c.event_id, parts.c.discord_id).outerjoin(parts)
            for event_id, part in await self.connection.execute(wanted.where(which)):
                self._known_by(event_id, part)
            count += await delete_deliveries(self.connection, which)
        return count

    async def _channels(self, private: list[int]) -> None:
        """Forget their direct messages' channels, and marks on messages of theirs elsewhere."""
        silent = conversations.c.id.not_in(select(messages.c.conversation_id))
        for table, more in ((conversations, silent), (channel_marks, true())):
            here = table.c.channel_id.in_(private) & table.c.guild_id.is_(None)
            await self.connection.execute(delete(table).where(here, more))
        seen = channel_marks.c.last_seen
        for chunk in chunks(id for id in self.theirs if isinstance(id, int)):
            on = update(channel_marks).where(seen.in_(chunk))
            await self.connection.execute(on.values(last_seen=seen + 1))

    async def _mentions(self) -> None:
        """Take their ids out of what others wrote, and out of others' open deliveries."""
        for table, column in ((messages, "text"), (ratings, "reason"), (reports, "reason")):
            wanted = select(table.c.id, table.c[column]).where(
                or_(*(table.c[column].contains(mention) for mention in self._mention))
            )
            for id, said in list(await self.connection.execute(wanted)):
                row = update(table).where(table.c.id == id)
                await self.connection.execute(row.values({column: self._without(said)}))
        waiting = select(deliveries.c.id, deliveries.c.extra).where(
            cast(deliveries.c.extra, Text) != "{}"
        )
        for id, extra in list(await self.connection.execute(waiting)):
            if (cleared := self._without(extra)) != extra:
                row = update(deliveries).where(deliveries.c.id == id)
                await self.connection.execute(row.values(extra=cleared))

    @property
    def _mention(self) -> tuple[str, str]:
        """How Discord writes a member's name into a text."""
        return f"<@{self.user_id}>", f"<@!{self.user_id}>"

    def _without(self, value: Any) -> Any:
        """A value of JSON without their ids."""
        if isinstance(value, str) and value not in self.theirs:
            for mention in self._mention:
                value = value.replace(mention, "@someone")
            return value
        if isinstance(value, dict):
            return {key: self._without(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without(item) for item in value]
        is_theirs = isinstance(value, str | int) and not isinstance(value, bool)
        return None if is_theirs and value in self.theirs else value


async def _drop(connection: AsyncConnection, before: datetime) -> Counter[str]:
    kept = select(conversations.c.id).where(conversations.c.kind == "import")
    old = (messages.c.created_at < before) & messages.c.conversation_id.not_in(kept)
    husk = messages.c.deleted & messages.c.member_id.is_(None) & messages.c.discord_id.is_(None)
    doomed = set(await connection.scalars(select(messages.c.id).where(old, ~husk)))
    dropped = (await remove_messages(connection, doomed)).counts
    silent = conversations.c.id.not_in(select(messages.c.conversation_id))
    old_and_silent = silent & (conversations.c.created_at < before)
    dropped["conversations"] += len(await delete_where(connection, conversations, old_and_silent))
    dropped["deliveries"] += await delete_deliveries(connection, deliveries.c.updated_at < before)
    idle = (members.c.consent == "chat") & (members.c.seen_at < before)
    for table in (messages, votes, ratings, reports, deliveries):
        there = select(table.c.member_id).where(table.c.member_id.is_not(None))
        idle &= members.c.id.not_in(there)
    dropped["members"] += len(await delete_where(connection, members, idle))
    return Counter({kind: count for kind, count in dropped.items() if count})
