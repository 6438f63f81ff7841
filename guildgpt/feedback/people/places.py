"""Places: guilds and channels, how far they are read, and how all goes that was said there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    exists,
    or_,
    select,
    true,
    union,
    update,
)

from guildgpt.feedback.erasing.removal import Removal, Remover, remove_messages
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import Clock, among
from guildgpt.feedback.storage.schema import (
    channel_marks,
    conversations,
    deliveries,
    guild_settings,
    left_guilds,
    messages,
    rounds,
)
from guildgpt.feedback.voting.rounds import end_rounds
from guildgpt.feedback.voting.seen import Seen


@dataclass(frozen=True, slots=True)
class Places:
    """Channels, threads and guilds; what was said in them goes when they are gone."""

    _database: Database
    _clock: Clock
    _remover: Remover
    _seen: Seen

    async def settings(self, guild_id: int) -> dict[str, Any]:
        """What the guild's admins have set; empty if nothing."""
        wanted = select(guild_settings.c.settings).where(guild_settings.c.guild_id == guild_id)
        return await self._database.value(wanted) or {}

    async def save_settings(self, guild_id: int, settings: dict[str, Any]) -> None:
        """Replace them."""
        changed = {"settings": settings, "updated_at": self._clock.now()}
        saving = self._database.insert(guild_settings).values(guild_id=guild_id, **changed)
        await self._database.execute(
            saving.on_conflict_do_update(index_elements=["guild_id"], set_=changed)
        )

    async def see(self, channel_id: int, message_id: int, guild_id: int | None) -> None:
        """The channel is read up to this message; a mark only ever moves forward."""
        await self.see_all({channel_id: (guild_id, message_id)})

    async def see_all(self, marks: Mapping[int, tuple[int | None, int]]) -> None:
        """The same for many channels at once: for each its guild and the message."""
        seeing = self._database.insert(channel_marks)
        told = seeing.excluded
        seeing = seeing.on_conflict_do_update(
            index_elements=["channel_id"],
            set_={"last_seen": told.last_seen, "guild_id": told.guild_id},
            where=channel_marks.c.last_seen < told.last_seen,
        )
        rows = [
            {"channel_id": channel_id, "guild_id": guild_id, "last_seen": message_id}
            for channel_id, (guild_id, message_id) in sorted(marks.items())
        ]
        if rows:
            await self._database.execute(seeing, rows)

    async def marks(self) -> dict[int, tuple[int | None, int]]:
        """For every channel its guild and the newest message read in it."""
        found = await self._database.rows(select(channel_marks))
        return {row.channel_id: (row.guild_id, row.last_seen) for row in found}

    async def channels_of(self, guild_id: int) -> dict[int, int | None]:
        """The channels and threads of a guild of which anything is kept, each with the channel that
        it hangs from, if that is known."""
        wanted = select(conversations.c.channel_id, conversations.c.home_id).where(
            conversations.c.guild_id == guild_id, conversations.c.channel_id.is_not(None)
        )
        read = select(channel_marks.c.channel_id).where(channel_marks.c.guild_id == guild_id)

        def work(connection: Connection) -> dict[int, int | None]:
            said = {row.channel_id: row.home_id for row in connection.execute(wanted)}
            return dict.fromkeys(connection.scalars(read)) | said

        return await self._database.read(work)

    async def delete_channels(self, ids: Iterable[int]) -> Erasure:
        """Channels or threads were deleted: all that was said in them goes, and in the threads
        that hang from them, with everybody's opinions on it.

        In rounds nobody said anything. They are over, and their votes stand; where they were held
        is forgotten.
        """
        gone, now = list(ids), self._clock.now()
        is_round = conversations.c.kind == "round"
        there = or_(conversations.c.channel_id.in_(gone), conversations.c.home_id.in_(gone))
        said = there & ~is_round
        is_known = or_(
            exists().where(there),
            exists().where(deliveries.c.channel_id.in_(gone)),
            exists().where(channel_marks.c.channel_id.in_(gone)),
        )

        def take(removal: Removal) -> None:
            connection, held = removal.connection, rounds.c.channel_id.in_(gone)
            end_rounds(connection, held, now, self._seen)
            nowhere = {"channel_id": None, "discord_id": None}
            connection.execute(update(rounds).where(held).values(nowhere))
            forgetting = update(conversations).where(there, is_round)
            connection.execute(forgetting.values(channel_id=None))
            _remove(removal, said, set(gone))

        return await self._remover.remove(take, of=select(true()).where(is_known))

    async def guild_left(self, guild_id: int) -> None:
        """The bot was taken out of a guild: from now on its time runs. Its rounds are over."""
        await self._leave([guild_id])

    async def guild_joined(self, guild_id: int) -> None:
        """The bot is in the guild, again or still."""
        which = left_guilds.c.guild_id == guild_id
        await self._database.execute(delete(left_guilds).where(which))

    async def in_guilds(self, present: Collection[int]) -> None:
        """These are all the guilds that the bot is in: it was taken out of the others that are
        known here while it was away, or came back into those that it had left."""

        def known(connection: Connection) -> tuple[set[int], set[int]]:
            tables = (conversations, deliveries, channel_marks, guild_settings)
            here = union(*(select(table.c.guild_id) for table in tables))
            left = select(left_guilds.c.guild_id)
            return set(connection.scalars(here)) - {None}, set(connection.scalars(left))

        here, left = await self._database.read(known)
        for guild_id in left & set(present):
            await self.guild_joined(guild_id)
        await self._leave(here - left - set(present))

    async def left(self) -> set[int]:
        """The guilds that the bot was taken out of."""
        return {row.guild_id for row in await self._database.rows(select(left_guilds))}

    async def delete_left_guilds(self, before: datetime) -> Erasure:
        """All of the guilds goes that the bot was taken out of before that time."""
        wanted = select(left_guilds.c.guild_id).where(left_guilds.c.left_at <= before)

        def take(removal: Removal) -> None:
            _remove(removal, conversations.c.guild_id.in_(wanted), set())
            removal.delete(deliveries, deliveries.c.guild_id.in_(wanted))
            for table in (channel_marks, guild_settings, left_guilds):
                removal.connection.execute(delete(table).where(table.c.guild_id.in_(wanted)))

        return await self._remover.remove(take, of=wanted)

    async def _leave(self, guild_ids: Iterable[int]) -> None:
        now = self._clock.now()
        rows = [{"guild_id": id, "left_at": now} for id in guild_ids]
        leaving = self._database.insert(left_guilds).on_conflict_do_nothing()

        def work(connection: Connection) -> None:
            connection.execute(leaving, rows)
            left = [row["guild_id"] for row in rows]
            of_them = among(connection, rounds.c.guild_id, left)
            end_rounds(connection, of_them, now, self._seen)

        if rows:
            await self._database.write(work, alone=True)


def _remove(removal: Removal, said: ColumnElement[bool], channels: set[int]) -> None:
    """Delete these conversations whole, and what else there is of their channels and of these."""
    connection = removal.connection
    found = connection.execute(select(conversations.c.id, conversations.c.channel_id).where(said))
    places = {row.id: row.channel_id for row in found}
    within = {*places.values(), *channels} - {None}
    there = among(connection, messages.c.conversation_id, places)
    remove_messages(removal, set(connection.scalars(select(messages.c.id).where(there))))
    # Those are left in which nothing was said.
    removal.delete(conversations, among(connection, conversations.c.id, places))
    removal.delete(deliveries, among(connection, deliveries.c.channel_id, within))
    marks = among(connection, channel_marks.c.channel_id, within)
    connection.execute(delete(channel_marks).where(marks))
