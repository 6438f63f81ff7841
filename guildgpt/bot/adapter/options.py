"""What commands have in common: the channels that one can choose, and what only admins may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import discord
from discord import app_commands

Called = TypeVar("Called", bound=Callable[..., Any])
Kind = discord.ChannelType

READABLE = (  # with messages of their own
    Kind.text,
    Kind.news,
    Kind.voice,
    Kind.news_thread,
    Kind.public_thread,
    Kind.private_thread,
)
ALL = (*READABLE, Kind.stage_voice, Kind.forum, Kind.media)  # where one talks, or threads are held


class _Channel(app_commands.Transformer):
    """A channel or thread of some kinds, also one that the bot does not see."""

    def __init__(self, kinds: tuple[Kind, ...]):
        self._kinds = kinds

    @property
    def type(self) -> discord.AppCommandOptionType:
        """See discord.py."""
        return discord.AppCommandOptionType.channel

    @property
    def channel_types(self) -> list[Kind]:
        """See discord.py."""
        return [*self._kinds]

    async def transform(self, interaction: discord.Interaction[Any], value: Any) -> Any:
        """See discord.py."""
        return value


AnyPlace = app_commands.Transform[app_commands.AppCommandChannel, _Channel(ALL)]
Readable = app_commands.Transform[app_commands.AppCommandChannel, _Channel(READABLE)]


def for_admins(command: Called) -> Called:
    """Offered to those who manage a server, and nowhere else."""
    return app_commands.guild_only(app_commands.default_permissions(manage_guild=True)(command))
