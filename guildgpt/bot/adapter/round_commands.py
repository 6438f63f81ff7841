"""The commands of the rounds: admins switch them on, members offer prompts."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import discord
from discord import app_commands

from guildgpt.bot.adapter.interactions import At, Interactions
from guildgpt.bot.answers.round_keeper import RoundKeeper

HOURS = 24  # that a round is open which is wanted now


class _Readable(app_commands.Transformer):
    """A channel or thread with messages of its own."""

    type = discord.AppCommandOptionType.channel
    channel_types: ClassVar[list[discord.ChannelType]] = [
        discord.ChannelType.text,
        discord.ChannelType.news,
        discord.ChannelType.voice,
        discord.ChannelType.news_thread,
        discord.ChannelType.public_thread,
        discord.ChannelType.private_thread,
    ]

    async def transform(self, interaction: At, value: Any) -> Any:
        """See discord.py."""
        return value


Place = app_commands.Transform[app_commands.AppCommandChannel, _Readable]


def add_rounds(
    tree: app_commands.CommandTree[Any], desk: Interactions, keeper: RoundKeeper
) -> None:
    """`/rounds`."""

    @tree.command(description="Two blind answers to vote on, in a channel (for admins)")
    @app_commands.describe(
        when="When rounds open; leave it out to see how they stand",
        channel="Where; else here",
        hours="How long one that opens now is open (24)",
    )
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def rounds(
        at: At,
        when: Literal["now", "daily", "weekly", "off", "status"] = "status",
        channel: Place | None = None,
        hours: app_commands.Range[int, 1, 168] = HOURS,
    ) -> None:
        guild_id = at.guild_id or 0
        where = channel.id if channel else at.channel_id or 0
        mention = f"<#{where}>"
        if when == "status":
            await desk.tell(at, keeper.status(guild_id))
        elif when == "off":
            await desk.tell(at, keeper.off(guild_id, where, mention))
        elif when == "now":
            await desk.tell(at, keeper.now_in(guild_id, where, mention, hours))
        else:
            await desk.tell(at, keeper.every(guild_id, where, mention, when))
