"""Erasure: nothing of a member stays; and retention: nothing stays for ever."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Select, Text, cast, delete, or_, select, true, update

from guildgpt.feedback.erasing.blanking import blank_answers
from guildgpt.feedback.erasing.own_data import kept_of
from guildgpt.feedback.erasing.removal import Removal, Remover, about, remove_messages
from guildgpt.feedback.erasing.retention import drop_expired, drop_old
from guildgpt.feedback.people.members import Members
from guildgpt.feedback.records import AccountKind, ConversationKind, Erasure
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among
from guildgpt.feedback.storage.schema import (
    accounts,
    channel_marks,
    chats,
    conversations,
    corrections,
    deliveries,
    members,
    messages,
    parts,
    prompts,
    ratings,
    reports,
    votes,
)
from guildgpt.feedback.storage.traces import Traces
from guildgpt.feedback.voting.means import forget_who_was_alone
from guildgpt.feedback.voting.seen import Seen


@dataclass(frozen=True, slots=True)
class Privacy:
    """What members may ask for, and what nobody has to ask for."""

    _database: Database
    _clock: Clock
    _members: Members
    _remover: Remover
    _traces: Traces
    _seen: Seen

    async def kept_of(self, user_id: int) -> dict[str, Any] | None:
        """All rows under the member with this Discord id, ready for JSON; None if there are none.

        See `own_data` for what is in it.
        """
        hashed = self._members.hash_of(user_id)
        return await self._kept_of(hashed)

    async def kept_of_account(self, kind: AccountKind, name: str) -> dict[str, Any] | None:
        """The same of who votes under a name without Discord."""
        hashed = self._members.account_hash(kind, name)
        return await self._kept_of(hashed)

    async def _kept_of(self, hashed: str) -> dict[str, Any] | None:
        return await self._database.read_aside(
            lambda connection: kept_of(connection, hashed, self._seen)
        )

    async def erase(self, user_id: int, *, scrub: bool = True) -> Erasure:
        """Erase everything of the member with this Discord id.

        Theirs is their row and hash, their direct messages and their conversations on the web page
        with all in them, their account with its sessions and links, what they wrote, what
        the model answered them (it may quote them), everybody's votes, ratings and reports on
        either, their own on other things, and every id of these. Answers to others that quote any
        of it, or name them, are blanked. Where others' messages hang below
        one of theirs, an empty one takes its place. Mentions of them in others' texts lose
        their id. What an operator wrote into a guild's settings is the operator's. An anonymous
        record says that an erasure took place, and which versions had learned from what.

        Unless somebody else sees to that (`scrub`), a SQLite file is rewritten afterwards; if that
        fails now, it is done with the next erasure, retention or opening.
        """
        return await self._erase(self._members.hash_of(user_id), user_id, scrub)

    async def erase_account(self, kind: AccountKind, name: str) -> Erasure:
        """The same for who votes under a name without Discord."""
        return await self._erase(self._members.account_hash(kind, name), None, True)

    async def _erase(self, hashed: str, user_id: int | None, scrub: bool) -> Erasure:
        wanted = select(members.c.id).where(members.c.hash == hashed)

        def take(removal: Removal) -> None:
            member_id = removal.connection.scalar(wanted)
            if member_id is not None:  # nobody else was faster
                _Erasing(removal.connection, removal, self._seen, user_id, member_id).erase()

        erasure = await self._remover.remove(take, of=wanted, is_erasure=True)
        if scrub:
            await self._traces.scrub()
        return erasure

    async def retain(
        self, days: int, *, kinds: Sequence[ConversationKind] = (), scrub: bool = True
    ) -> Counter[str]:
        """Drop what is older than so many days; how many rows of each kind. With `kinds`, only of
        the messages in conversations of these.

        Messages go by their own age, with the votes, ratings and reports on them. In the place of
        an old one with newer ones below it stands an empty one; a conversation goes when nothing is
        left in it. What was imported stays. Members go who have nothing left, have not been seen
        since, and have chosen nothing; an account that was ended by then and has nothing left goes
        with its member. Lineage stays: its ids say nothing about anybody.

        What has an end of its own goes, too, whatever `days` and `kinds`: sessions and links that
        are over, responses that were stored for programs, counts of what keys asked.
        """
        if days < 1:
            raise ValueError(f"nothing can be kept for {days} days")
        now = self._clock.now()
        before = now - timedelta(days=days)

        def work(connection: Connection) -> Counter[str]:
            dropped = drop_old(connection, before, kinds) + drop_expired(connection, now)
            if dropped:
                self._traces.note(connection)
            return dropped

        dropped = await self._database.write(work, alone=True)
        if scrub:
            await self._traces.scrub()
        return dropped


@dataclass
class _Erasing:
    """The steps of one erasure."""

    connection: Connection
    removal: Removal
    seen: Seen
    user_id: int | None
    member_id: str
    theirs: set[str | int | None] = field(default_factory=set)  # every id by which they are known

    def erase(self) -> None:
        """All of them."""
        self.theirs |= {self.user_id, str(self.user_id), self.member_id}
        private = self._private_channels()
        own, said = self._messages(private)
        # Answers to others that quote them are blanked.
        blank_answers(self.removal, own, with_them=said - own, names=True)
        self._deliveries(private, said)
        forget_who_was_alone(self.connection, self.member_id, self.seen)
        remove_messages(self.removal, said)
        for table in (votes, ratings, reports, corrections, prompts, accounts):
            self.removal.delete(table, table.c.member_id == self.member_id)
        self.removal.delete(conversations, conversations.c.id.in_(self._chats()))  # the empty ones
        self._channels(private)
        if self.user_id is not None:
            self._mentions()
        self.removal.delete(members, members.c.id == self.member_id)

    def _chats(self) -> Select[Any]:
        """Their conversations on the web page."""
        return select(chats.c.conversation_id).where(chats.c.member_id == self.member_id)

    def _private_channels(self) -> list[int]:
        """The channels of their direct messages."""
        spoken = (
            select(conversations.c.channel_id)
            .join(messages, messages.c.conversation_id == conversations.c.id)
            .where(messages.c.member_id == self.member_id, conversations.c.kind == "dm")
        )
        asked = select(deliveries.c.channel_id).where(
            deliveries.c.member_id == self.member_id, deliveries.c.guild_id.is_(None)
        )
        found = self.connection.scalars(spoken.union(asked))
        return [channel for channel in found if channel is not None]

    def _messages(self, private: list[int]) -> tuple[set[str], set[str]]:
        """What they said; and that with what they were answered, and all that is in their direct
        messages and on the web page."""
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
        alone = messages.c.conversation_id.in_(direct.union(self._chats()))
        wanted = select(messages.c.id, messages.c.discord_id).where(or_(own, answers, alone))
        said = {row.id: row.discord_id for row in self.connection.execute(wanted)}
        self.theirs |= {*said, *said.values()}
        return set(self.connection.scalars(mine)), set(said)

    def _deliveries(self, private: list[int], said: set[str]) -> None:
        """Delete their deliveries."""
        here = deliveries.c.channel_id.in_(private) & deliveries.c.guild_id.is_(None)
        mine = or_(deliveries.c.member_id == self.member_id, here)
        for which in (mine, about(self.connection, said)):
            wanted = select(deliveries.c.event_id, parts.c.discord_id).outerjoin(parts)
            for ids in self.connection.execute(wanted.where(which)):
                self.theirs.update(ids)
            self.removal.delete(deliveries, which)

    def _channels(self, private: list[int]) -> None:
        """Forget their direct messages' channels, and marks on messages of theirs elsewhere."""
        silent = conversations.c.id.not_in(select(messages.c.conversation_id))
        for table, more in ((conversations, silent), (channel_marks, true())):
            here = table.c.channel_id.in_(private) & table.c.guild_id.is_(None)
            self.connection.execute(delete(table).where(here, more))
        seen = channel_marks.c.last_seen
        ids = [id for id in self.theirs if isinstance(id, int)]
        on = update(channel_marks).where(among(self.connection, seen, ids))
        self.connection.execute(on.values(last_seen=seen + 1))

    def _mentions(self) -> None:
        """Take their ids out of what others wrote, and out of others' open deliveries."""
        mention = f"{self.user_id}>"
        for table, name, which in (
            (messages, "text", messages.c.text.contains(mention)),
            (ratings, "reason", ratings.c.reason.contains(mention)),
            (reports, "reason", reports.c.reason.contains(mention)),
            (corrections, "text", corrections.c.text.contains(mention)),
            (prompts, "text", prompts.c.text.contains(mention)),
            (deliveries, "extra", cast(deliveries.c.extra, Text) != "{}"),
        ):
            wanted = select(table.c.id, table.c[name]).where(which)
            for id, said in self.connection.execute(wanted).all():
                if (cleared := self._without(said)) != said:
                    row = update(table).where(table.c.id == id)
                    self.connection.execute(row.values({name: cleared}))

    def _without(self, value: Any) -> Any:
        """A value of JSON without their ids."""
        if isinstance(value, str) and value not in self.theirs:
            return re.sub(f"<@!?{self.user_id}>", "@someone", value)  # so Discord writes a name
        if isinstance(value, dict):
            return {key: self._without(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without(item) for item in value]
        is_theirs = isinstance(value, str | int) and not isinstance(value, bool)
        return None if is_theirs and value in self.theirs else value
