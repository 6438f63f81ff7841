"""discord.py's own client, and the guild it is tried in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import discord
from discord import app_commands

from simguild.fake import Channel, FakeDiscord, Guild, User


class Bot(discord.Client):
    """discord.py as it is, with its events written down."""

    def __init__(self, **options: Any):
        intents = discord.Intents.default()
        intents.message_content = True
        options = {
            "intents": intents,
            "allowed_mentions": discord.AllowedMentions.none(),
            "guild_ready_timeout": 0.1,
            "chunk_guilds_at_startup": False,
            **options,
        }
        super().__init__(**options)
        self.tree = app_commands.CommandTree(self)
        self.heard: list[discord.Message] = []
        self.edited: list[discord.RawMessageUpdateEvent] = []
        self.deleted: list[int] = []
        self.joined: list[discord.Guild] = []
        self.left: list[discord.Guild] = []
        self.resumes = 0
        self.readies = 0

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Nobody waits five seconds in a test."""

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)

    async def on_raw_message_edit(self, event: discord.RawMessageUpdateEvent) -> None:
        self.edited.append(event)

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        self.deleted.append(event.message_id)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        self.joined.append(guild)

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        self.left.append(guild)

    async def on_resumed(self) -> None:
        self.resumes += 1

    async def on_ready(self) -> None:
        self.readies += 1

    def texts(self, author: str) -> list[str]:
        """What somebody of that name said."""
        return [message.content for message in self.heard if message.author.name == author]

    def channel(self, channel: Channel) -> discord.TextChannel:
        """Discord's own object for the fake's channel."""
        found = self.get_channel(channel.id)
        assert isinstance(found, discord.TextChannel)
        return found


@contextlib.asynccontextmanager
async def running(fake: FakeDiscord, bot: Any, *, ready: bool = True) -> AsyncIterator[Any]:
    """`bot` logged in and listening, until the block ends."""
    task = asyncio.create_task(bot.start(fake.token))
    try:
        async with bot:
            if ready:
                waiting = asyncio.create_task(bot.wait_until_ready())
                await asyncio.wait({task, waiting}, return_when="FIRST_COMPLETED", timeout=10)
                if task.done():
                    task.result()
                await waiting
            yield bot
    finally:
        with contextlib.suppress(asyncio.CancelledError, discord.DiscordException):
            await task


@dataclass
class Scene:
    """A guild with one channel, one member and one admin."""

    guild: Guild
    channel: Channel
    newcomer: User
    teacher: User
