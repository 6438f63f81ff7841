"""What becomes of all that was said in a channel or a server: it goes when they are gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.feedback.part import chunks
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.removal import Removed, delete_deliveries, delete_where, remove_messages
from guildgpt.feedback.revisions import Revisions
from guildgpt.feedback.schema import (
    channel_marks,
    conversations,
    deliveries,
    guild_settings,
    left_guilds,
    messages,
)


class Places(Revisions):
    """Channels, threads and guilds; see `Revisions` for single messages."""

    async def channels_of(self, guild_id: int) -> dict[int, int | None]:
        """The channels and threads of a guild of which anything is kept, each with the channel that
        it hangs from, if that is known."""
        wanted = select(conversations.c.channel_id, conversations.c.home_id).where(
            conversations.c.guild_id == guild_id, conversations.c.channel_id.is_not(None)
        )

        read = select(channel_marks.c.channel_id).where(channel_marks.c.guild_id == guild_id)

        async def work(connection: AsyncConnection) -> dict[int, int | None]:
            said = {row.channel_id: row.home_id for row in await connection.execute(wanted)}
            return dict.fromkeys(await connection.scalars(read)) | said

        return await self._database.read(work)

    async def delete_channels(self, ids: Iterable[int]) -> Erasure:
        """Channels or threads were deleted: all that was said in them goes, and in the threads
        that hang from them, with everybody's opinions on it."""
        gone = list(ids)
        said = or_(conversations.c.channel_id.in_(gone), conversations.c.home_id.in_(gone))

        async def look(connection: AsyncConnection) -> bool:
            each = (
                select(conversations.c.id).where(said),
                select(deliveries.c.id).where(deliveries.c.channel_id.in_(gone)),
                select(channel_marks.c.channel_id).where(channel_marks.c.channel_id.in_(gone)),
            )
            found = [(await connection.execute(one.limit(1))).first() for one in each]
            return any(row is not None for row in found)

        async def take(connection: AsyncConnection, removed: Removed) -> None:
            threads = select(conversations.c.channel_id).where(said)
            within = {id for id in await connection.scalars(threads) if id is not None}
            await _remove(connection, said, {*gone, *within}, removed)

        return await self._taken(take) if await self._database.read(look) else Erasure({}, ())

    async def guild_left(self, guild_id: int) -> None:
        """The bot was taken out of a guild: from now on its time runs."""
        await self._leave([guild_id])

    async def guild_joined(self, guild_id: int) -> None:
        """The bot is in the guild, again or still."""

        async def work(connection: AsyncConnection) -> None:
            which = left_guilds.c.guild_id == guild_id
            await connection.execute(delete(left_guilds).where(which))

        await self._database.write(work)

    async def in_guilds(self, present: Collection[int]) -> None:
        """These are all the guilds that the bot is in: it was taken out of the others that are
        known here while it was away, or came back into those that it had left."""

        async def known(connection: AsyncConnection) -> tuple[set[int], set[int]]:
            here: set[int] = set()
            for table in (conversations, deliveries, channel_marks, guild_settings):
                found = await connection.scalars(select(table.c.guild_id).distinct())
                here.update(id for id in found if id is not None)
            return here, set(await connection.scalars(select(left_guilds.c.guild_id)))

        here, left = await self._database.read(known)
        for guild_id in left & set(present):
            await self.guild_joined(guild_id)
        await self._leave(here - left - set(present))

    async def delete_left_guilds(self, before: datetime) -> Erasure:
        """All of the guilds goes that the bot was taken out of before that time."""
        which = left_guilds.c.left_at <= before

        async def look(connection: AsyncConnection) -> set[int]:
            return set(await connection.scalars(select(left_guilds.c.guild_id).where(which)))

        async def take(connection: AsyncConnection, removed: Removed) -> None:
            gone = set(await connection.scalars(select(left_guilds.c.guild_id).where(which)))
            for chunk in chunks(gone):
                channels = select(conversations.c.channel_id).where(
                    conversations.c.guild_id.in_(chunk)
                )
                within = {id for id in await connection.scalars(channels) if id is not None}
                said = conversations.c.guild_id.in_(chunk)
                await _remove(connection, said, within, removed)
                events = deliveries.c.guild_id.in_(chunk)
                removed.counts["deliveries"] += await delete_deliveries(connection, events)
                for table in (channel_marks, guild_settings, left_guilds):
                    await connection.execute(delete(table).where(table.c.guild_id.in_(chunk)))

        return await self._taken(take) if await self._database.read(look) else Erasure({}, ())

    async def _leave(self, guild_ids: Iterable[int]) -> None:
        now = self._clock()
        rows = [{"guild_id": id, "left_at": now} for id in guild_ids]

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(self._insert(left_guilds).on_conflict_do_nothing(), rows)

        if rows:
            await self._database.write(work)


async def _remove(
    connection: AsyncConnection, said: ColumnElement[bool], channels: set[int], removed: Removed
) -> None:
    """Delete these conversations whole, and what else there is of these channels."""
    places = set(await connection.scalars(select(conversations.c.id).where(said)))
    doomed: set[str] = set()
    for chunk in chunks(places):
        wanted = select(messages.c.id).where(messages.c.conversation_id.in_(chunk))
        doomed.update(await connection.scalars(wanted))
    found = await remove_messages(connection, doomed)
    removed.counts += found.counts
    removed.events |= found.events
    for chunk in chunks(places):  # those in which nothing was said
        left = conversations.c.id.in_(chunk)
        removed.counts["conversations"] += len(await delete_where(connection, conversations, left))
    for some in chunks(channels):
        events = deliveries.c.channel_id.in_(some)
        removed.counts["deliveries"] += await delete_deliveries(connection, events)
        marks = channel_marks.c.channel_id.in_(some)
        await connection.execute(delete(channel_marks).where(marks))
