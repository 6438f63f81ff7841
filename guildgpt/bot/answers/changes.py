"""What changes at Discord, and has to change in the store: messages, channels, guilds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

from guildgpt.bot.answers.events import Event
from guildgpt.bot.answers.running import AllRunning
from guildgpt.bot.operating.guilds import Guilds
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.postponed import Postponed, or_else
from guildgpt.feedback.records import Erasure
from guildgpt.feedback.store import Store

log = EventLog(__name__)


@dataclass
class Changes:
    """Follows Discord, at once or as soon as the store can. `on_channel_deleted` is told first of a
    channel that is no more: what others still know of it may not be written after it is gone."""

    store: Store
    postponed: Postponed
    guilds: Guilds
    running: AllRunning
    on_channel_deleted: Callable[[int], None] = lambda channel_id: None

    async def message_deleted(self, message_id: int) -> None:
        """A message was deleted, a member's or the bot's: its text goes, what quotes it goes, and
        nobody waits for an answer to it."""
        self.running.take_back(message_id)
        await self._write("deleted", lambda: self.store.revisions.mark_deleted(message_id))

    async def message_edited(self, event: Event) -> None:
        """A message says something else now."""
        id, text, edited_at = event.id, event.text, event.edited_at
        assert edited_at
        await self._write("edited", lambda: self.store.revisions.edit(id, text, edited_at))

    async def channel_deleted(self, guild_id: int, channel_id: int) -> None:
        """A channel or thread is no more: the guild's settings forget it, and what was said in it
        and in its threads goes."""
        homes = await self.channels_of(guild_id)
        for id in (channel_id, *(thread for thread, home in homes.items() if home == channel_id)):
            self.on_channel_deleted(id)
        # What cannot be written is looked up again at the next start.
        await or_else(None, self.guilds.forget_channels(guild_id, {channel_id}))
        await self._write(
            "channel_deleted", lambda: self.store.places.delete_channels([channel_id])
        )

    async def guild_left(self, guild_id: int) -> None:
        """The bot was taken out of a guild: what was said there goes after a while."""
        self.guilds.forget(guild_id)
        await self.postponed.do(lambda: self.store.places.guild_left(guild_id))

    async def guild_joined(self, guild_id: int) -> None:
        """The bot was let into a guild, perhaps again."""
        await self.postponed.do(lambda: self.store.places.guild_joined(guild_id))

    async def in_guilds(self, present: Collection[int]) -> None:
        """These are all the guilds that the bot is in."""
        await self.postponed.do(lambda: self.store.places.in_guilds(present))

    async def channels_of(self, guild_id: int) -> Mapping[int, int | None]:
        """The guild's channels and threads of which something is kept, and what each hangs from."""
        return await or_else({}, self.store.places.channels_of(guild_id))

    async def named_channels(self, guild_id: int) -> Collection[int]:
        """The channels that a guild's settings name."""
        rules = await or_else(None, self.guilds.rules(guild_id))
        if rules is None:
            return ()
        reports = [rules.reports_channel] if rules.reports_channel else []
        return {*rules.channels, *rules.channel_systems, *reports}

    async def _write(self, what: str, change: Callable[[], Awaitable[Erasure]]) -> None:
        """Make a change, and log what goes and how many versions had learned from it: the store
        lists them."""

        async def write() -> None:
            erasure = await change()
            if erasure.counts:
                rows = sum(erasure.counts.values())
                log(what, rows=rows, versions=len(erasure.versions))

        await self.postponed.do(write)
