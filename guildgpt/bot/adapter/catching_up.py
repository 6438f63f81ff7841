"""Reading what was written, and forgetting what was deleted while a shard was away; and knowing
when nothing is missing any more."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import discord

from guildgpt.bot.adapter.incoming import is_for_us
from guildgpt.bot.adapter.marks import Marks, Missed
from guildgpt.bot.adapter.reaching import FAULTS, passes
from guildgpt.bot.answers.changes import Changes
from guildgpt.bot.answers.pacing import ChannelWriter
from guildgpt.bot.operating.logs import EventLog

log = EventLog(__name__)
FIRST_SECONDS = 0.1  # until it is looked again which guilds are there; twice as long each time
AGAIN_SECONDS = 5.0  # until what could not be read is tried again, at most
LOOK_SECONDS = 1.0  # between channels that are looked for
LOOK_AGAIN_SECONDS = 24 * 3600.0
UNAVAILABLE_SECONDS = 600.0  # for which a guild that Discord has trouble with holds up the marks


@dataclass
class CatchingUp:
    """What each shard of a client has missed.

    A new session knows nothing of what was written before it: that is read, and each message given
    to `handle`. A session that is resumed is told by Discord itself. Channels that were deleted are
    looked for.
    """

    client: discord.AutoShardedClient
    marks: Marks
    writer: ChannelWriter
    changes: Changes
    handle: Callable[[discord.Message], Awaitable[None]]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    _sessions: Counter[int] = field(default_factory=Counter)  # begun, by shard
    _read: Counter[int] = field(default_factory=Counter)  # the last one whose past was read
    _direct: set[int] = field(default_factory=set)  # channels of direct messages that are known
    _missed: Missed | None = None  # what the first shard had missed, direct messages too
    _looked: dict[int, float] = field(default_factory=dict)  # when each guild was looked through
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def connected(self, shard_id: int) -> None:
        """A new session has begun."""
        self.marks.shards = frozenset(range(self.client.shard_count or 1))
        self._sessions[shard_id] += 1
        self.marks.behind(shard_id)

    def resumed(self, shard_id: int) -> None:
        """The shard has its session back: nothing is missing, unless that one's past is still to be
        read."""
        if self._read[shard_id] == self._sessions[shard_id]:
            self.marks.caught_up(shard_id)

    async def read(self, shard_id: int) -> None:
        """Read all that a new session missed, as its guilds arrive, and as often as it takes.

        discord.py's own word that a shard's guilds are there is not waited for: it does not come
        where two shards begin a session at the same time.
        """
        session = self._sessions[shard_id]
        missed = await self.marks.missed()
        left: list[Any] = [guild for guild in self.client.guilds if guild.shard_id == shard_id]
        if shard_id == 0:  # direct messages: Discord lists no such channels
            self._missed = missed
            self._direct |= missed.direct
            left += [self.client.get_partial_messageable(id) for id in self._direct]
        end, pause = time.monotonic() + UNAVAILABLE_SECONDS, FIRST_SECONDS
        while left := await self._unread(left, missed, is_first=session == 1):
            if self._sessions[shard_id] != session:
                return  # the next one reads it
            out_of_order = all(isinstance(one, discord.Guild) for one in left)
            if out_of_order and time.monotonic() > end:
                self._note_read(shard_id, session)
            await asyncio.sleep(pause)
            pause = min(2 * pause, AGAIN_SECONDS)
        self._note_read(shard_id, session)

    def _note_read(self, shard_id: int, session: int) -> None:
        self._read[shard_id] = max(self._read[shard_id], session)
        self.resumed(shard_id)

    async def read_before(self, message: discord.Message) -> None:
        """A direct message came: if its channel was not known, what was missed there is read."""
        channel = message.channel
        if channel.id not in self._direct:
            self._direct.add(channel.id)
            if self._missed is not None:
                await self._read_after(channel, self._missed.after(channel.id), before=message)

    async def _unread(
        self, places: Sequence[Any], missed: Missed, *, is_first: bool = False
    ) -> list[Any]:
        """Read guilds and channels; those of them that could not be read now."""
        left: list[Any] = []
        for place in places:
            if not isinstance(place, discord.Guild):
                if not await self._read_after(place, missed.after(place.id)):
                    left.append(place)
                continue
            guild = self.client.get_guild(place.id)
            if guild is None:
                continue  # it was left meanwhile
            if guild.unavailable:
                left.append(guild)
            elif is_first and self.marks.is_first:
                newest = {
                    place.id: (guild.id, place.last_message_id)
                    for place in places_of(guild)
                    if place.last_message_id
                }
                await self.marks.pass_over(newest)
            else:
                await self._forget_deleted(guild)
                new = [
                    channel
                    for channel in places_of(guild)
                    if (channel.last_message_id or 0) > missed.after(channel.id)
                ]
                left += await self._unread(new, missed)
        return left

    async def _read_after(
        self, channel: Any, after: int, *, before: discord.Message | None = None
    ) -> bool:
        """What was said to the bot in a channel, and has no answer there yet; whether it could be
        read as far as it may be.

        The store says which of it is being answered; of what was erased since, the channel alone.
        """
        missed: list[discord.Message] = []
        answered: set[int | None] = set()
        await self.writer.request()
        try:
            history = channel.history(
                after=discord.Object(after), before=before, limit=None, oldest_first=True
            )
            async for message in history:
                if message.author == self.client.user:
                    answered.add(message.reference and message.reference.message_id)
                elif is_for_us(message, self.client.user):
                    missed.append(message)
                else:
                    await self.handle(message)
        except FAULTS as error:
            log("cannot_catch_up", channel=channel.id, error=error)
            if passes(error):
                return False
        for message in missed:
            if message.id not in answered:
                await self.handle(message)
        return True

    # Channels that are no more

    async def _forget_deleted(self, guild: discord.Guild) -> None:
        """Forget the channels that a guild's settings name and that were deleted meanwhile, and
        now and then any others."""
        for id in await self.changes.named_channels(guild.id):
            if guild.get_channel_or_thread(id) is None and await self._is_deleted(id):
                await self.changes.channel_deleted(guild.id, id)
        now = time.monotonic()
        if now - self._looked.get(guild.id, float("-inf")) > LOOK_AGAIN_SECONDS:
            self._looked[guild.id] = now
            self.spawn(self._forget_silent(guild))

    async def _forget_silent(self, guild: discord.Guild) -> None:
        """Forget channels and threads of which something is kept, and that were deleted meanwhile.
        Archived threads have to be asked for one by one: that may take its time."""
        async with self._looking:
            for id, home in (await self.changes.channels_of(guild.id)).items():
                is_gone = guild.get_channel_or_thread(id) is None
                if is_gone and (home is None or guild.get_channel(home) is not None):
                    await asyncio.sleep(LOOK_SECONDS)
                    await self.writer.request()
                    is_gone = await self._is_deleted(id)
                if is_gone:
                    await self.changes.channel_deleted(guild.id, id)

    async def _is_deleted(self, channel_id: int) -> bool:
        """Whether there is no such channel: of archived threads the guild does not tell."""
        try:
            await self.client.fetch_channel(channel_id)
        except discord.NotFound:
            return True
        except (discord.DiscordException, *FAULTS) as error:
            log("channel_not_looked_up", channel=channel_id, error=error)
        return False


def places_of(guild: discord.Guild) -> list[Any]:
    """The guild's channels that hold messages; of its threads those that are not archived."""
    return [*guild.text_channels, *guild.voice_channels, *guild.stage_channels, *guild.threads]
