"""discord.py's client: connecting, reading what was missed, and messages as they come."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import discord
from discord.gateway import KeepAliveHandler

from guildgpt.bot.adapter.catching_up import CatchingUp
from guildgpt.bot.adapter.commands import Commands
from guildgpt.bot.adapter.controls import ActionButton
from guildgpt.bot.adapter.discord_time import DiscordTime
from guildgpt.bot.adapter.incoming import (
    calls_our_role,
    edited_out,
    is_for_us,
    is_hidden,
)
from guildgpt.bot.adapter.interactions import Interactions
from guildgpt.bot.adapter.marks import Marks
from guildgpt.bot.adapter.outlets import MessageOutlet, outlet_again
from guildgpt.bot.adapter.reaching import explained, insisted, listening
from guildgpt.bot.adapter.reading import Reader
from guildgpt.bot.answers.outlet import Undeliverable
from guildgpt.bot.answers.round_keeper import RoundKeeper
from guildgpt.bot.answers.service import Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.postponed import insist
from guildgpt.bot.text import sentences as say

log = EventLog(__name__)
ANEW_SECONDS = 15 * 60.0  # in which an edited question is answered anew
CLOSE_SECONDS = 5.0  # for what is being written when the bot stops
REGISTER_SECONDS = 5.0  # for which commands are waited for before events are
CLOCK_SECONDS = 60.0  # a host's clock that is further off is worth a line in the log


class GuildClient(discord.AutoShardedClient):
    """discord.py's client, its events handed to the service."""

    def __init__(self, service: Service, **options: Any):
        self.settings = settings = service.settings
        self.time = DiscordTime()
        super().__init__(
            intents=discord.Intents(
                guilds=True,
                guild_messages=True,
                dm_messages=True,
                message_content=settings.message_content_intent,
            ),
            # Nothing the model writes pings anyone.
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,  # the store remembers, not the client
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            shard_count=None if settings.shards == "auto" else settings.shards or 1,
            http_trace=listening(self.time, service.pacer),
            **options,
        )
        self.service = service
        self.marks = Marks(service.store, self.time)
        service.changes.on_channel_deleted = self.marks.forget
        service.changes.on_guild_left = self.marks.forget_guild
        self._catching_up = CatchingUp(
            self,
            self.marks,
            service.writer,
            service.changes,
            handle=partial(self._handle, live=False),
            spawn=self.spawn,
        )
        self.interactions = Interactions(self, service, self.marks, self.time, self.spawn)
        self.rounds = RoundKeeper(
            service,
            partial(MessageOutlet, self),
            now=lambda: self.time.now() if self.is_connected and self.time.is_told else None,
            present=lambda: [guild.id for guild in self.guilds if not guild.unavailable],
            spawn=self.spawn,
        )
        service.changes.on_message_deleted = self.rounds.message_deleted
        self.reader = Reader(self, service)
        self.tree = Commands(self, self.interactions, self.reader)
        self._tasks: set[asyncio.Task[object]] = set()
        self._leaving = False
        self._there: set[int] = set()  # shards with a line to Discord
        self._told_to_mention: set[tuple[int, ...]] = set()  # threads; and who calls the role
        service.metrics.connected.set_function(lambda: self.is_connected)
        service.metrics.guilds.set_function(lambda: len(self.guilds))

    async def talk(self) -> None:
        """Be on Discord until `close`, trying as often as it takes while Discord cannot be reached;
        raises `GuildError` for a token or intents it refuses."""
        try:
            with explained():
                await insisted(self._log_in, "not_logged_in")
                await insisted(self.connect, "not_connected")
        finally:
            # discord.py forgets the heartbeat of a connection that it was only making when it was
            # told to close: a thread that would go on when everything else has ended.
            for thread in threading.enumerate():
                if (
                    isinstance(thread, KeepAliveHandler)
                    and thread.ws._connection is self._connection
                ):
                    thread.stop()

    async def _log_in(self) -> None:
        await self.http.close()  # what an earlier try opened
        self.http.connector = discord.utils.MISSING
        await self.login(self.settings.token.get_secret_value())

    async def close(self) -> None:
        """Leave Discord; what is not finished stays open in the store, to be taken up again."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        await super().close()

    def spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` beside the events, and log what goes wrong in it."""
        if self._leaving:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.unforeseen("event failed", error)

    # Connecting, and what was missed

    async def setup_hook(self) -> None:
        """Once, before any event: buttons and commands, and the work that a crash left."""
        self.add_dynamic_items(ActionButton)
        if abs(self.time.host_ahead) > CLOCK_SECONDS:
            log("clock_is_wrong", seconds_ahead=round(self.time.host_ahead))
        await self.marks.begin()
        for delivery in await insist(self.service.store.deliveries.unfinished):
            outlet = outlet_again(self, delivery, self.time.age(delivery.event_id))
            self.spawn(self.service.resume(delivery, outlet))
        asked = asyncio.Event()
        self.spawn(self._register_commands(asked))
        with suppress(TimeoutError):
            await asyncio.wait_for(asked.wait(), REGISTER_SECONDS)

    async def _register_commands(self, asked: asyncio.Event) -> None:
        """Register the commands, as often as it takes; `asked` is set after the first time.

        Discord may refuse (30034: 200 new ones a day). Until it takes them those of an earlier
        start work, and so does whatever needs no command.
        """

        async def register() -> None:
            try:
                await self.tree.sync()
            finally:
                asked.set()

        await insisted(register, "commands_not_registered", lambda _: True)
        self.service.metrics.commands.set(1)
        log("commands_registered")

    @property
    def is_connected(self) -> bool:
        """Whether Discord's events arrive, on all shards."""
        return len(self._there) == self.shard_count

    async def on_shard_connect(self, shard_id: int) -> None:
        """A new session: it knows nothing of what was written before it."""
        self._there.add(shard_id)
        self._catching_up.connected(shard_id)
        self.spawn(self._catching_up.read(shard_id))
        await self.tell_guilds()

    async def on_shard_ready(self, shard_id: int) -> None:
        """The guilds of a new session are there. Of one that let the bot in again since it
        connected, discord.py told as of one that it was in all the while."""
        log("ready", shard=shard_id, guilds=len(self.guilds))
        await self.tell_guilds()

    async def tell_guilds(self) -> None:
        """Once all guilds of all shards are known, those in an outage too."""
        if self.is_connected:
            await self.service.changes.in_guilds([guild.id for guild in self.guilds])

    async def on_shard_resumed(self, shard_id: int) -> None:
        """The session goes on; Discord itself sends what was missed."""
        self._there.add(shard_id)
        self._catching_up.resumed(shard_id)

    async def on_shard_disconnect(self, shard_id: int) -> None:
        """The gateway is gone; discord.py connects again."""
        self._there.discard(shard_id)
        self.marks.behind(shard_id)

    # Messages

    async def on_message(self, message: discord.Message) -> None:
        """A message somewhere: answered if it is meant for the bot."""
        self.time.happened(message.id)
        if message.guild is None:
            self.spawn(self._catching_up.read_before(message))
        await self._handle(message, live=True)

    async def _handle(self, message: discord.Message, *, live: bool) -> None:
        """One that was written just now is acknowledged at once, even before it is claimed."""
        channel: Any = message.channel
        guild_id = message.guild.id if message.guild else None
        with self.marks.handling(channel.id, message.id, guild_id):
            if not is_for_us(message, self.user):
                self.reader.note(message)
                return
            if not await self._answers(message):
                return
            outlet = MessageOutlet(self, channel.id, message.id)
            if is_hidden(message, self.user, self.settings) and not message.content:
                self._ask_for_a_mention(message, outlet)
                return
            if live and not self.service.courtesy.was_told_to_wait(message.author.id):
                self.spawn(self._acknowledge(message, outlet))
            event = await self.reader.event(message)
            if work := await self.service.claim(event, outlet):
                self.spawn(work)

    async def _answers(self, message: discord.Message) -> bool:
        guild_id = message.guild.id if message.guild else None
        places = (message.channel.id, getattr(message.channel, "parent_id", None))
        return await self.service.answers(message.author.id, guild_id, *places)

    def _ask_for_a_mention(self, message: discord.Message, outlet: MessageOutlet) -> None:
        """Say, once in a thread, and once to each who calls the bot's role, what cannot be read."""
        role = calls_our_role(message)
        told = (message.channel.id, message.author.id) if role else (message.channel.id,)
        if told not in self._told_to_mention:
            self._told_to_mention.add(told)
            self.spawn(
                self.service.writer.whisper(outlet, say.NEED_MY_NAME if role else say.NEED_MENTION)
            )

    async def _acknowledge(self, message: discord.Message, outlet: MessageOutlet) -> None:
        self.service.pacer.asked()
        with suppress(Undeliverable):
            await outlet.typing()
            self.service.metrics.acknowledged.observe(self.time.age(message.id))

    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """What a member takes back is taken out of the store as well."""
        await self.service.changes.message_deleted(payload.message_id)

    async def on_raw_message_edit(self, payload: discord.RawMessageUpdateEvent) -> None:
        """What a member rewrites is rewritten in the store; a question is answered anew.

        Discord also says this of its own doings (previews of links, pins, threads), and of the
        bot's edits: none of them says that somebody has edited it. Where a message is edited that
        the bot may not read any more (it mentions it no longer), nobody knows what it says: what it
        said is gone all the same.
        """
        message = payload.message
        if message.author == self.user or message.edited_at is None:
            return
        is_open = self.marks.is_open(payload.channel_id, message.id)
        may_answer = self.time.age(message.id) < ANEW_SECONDS and is_for_us(message, self.user)
        if not is_open and not await self.service.knows(message.id):
            if may_answer:  # it mentions the bot now
                await self._handle(message, live=True)
        elif is_hidden(message, self.user, self.settings):
            await self.service.edited(edited_out(message))
        elif may_answer and await self._answers(message):
            outlet = MessageOutlet(self, message.channel.id, message.id)
            if work := await self.service.edited(await self.reader.event(message), outlet):
                self.spawn(work)
        else:
            await self.service.edited(await self.reader.edited(message))

    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """What a moderator clears away, too."""
        for message_id in payload.message_ids:
            await self.service.changes.message_deleted(message_id)

    # Channels and guilds

    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """A channel was deleted; of its threads discord.py tells one by one."""
        await self.service.changes.channel_deleted(channel.guild.id, channel.id)

    async def on_raw_thread_delete(self, payload: discord.RawThreadDeleteEvent) -> None:
        """A thread was deleted, or a post in a forum."""
        await self.service.changes.channel_deleted(payload.guild_id, payload.thread_id)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        """Somebody has let the bot in."""
        await self.service.changes.guild_joined(guild.id)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        """Somebody has taken the bot out, or the guild is no more; an outage is not told so."""
        await self.service.changes.guild_left(guild.id)
