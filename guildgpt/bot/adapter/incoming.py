"""What of all that comes from Discord is meant for the bot, and interactions as `Event`."""

from __future__ import annotations

from typing import Any

import discord

from guildgpt.bot.adapter.contents import readable
from guildgpt.bot.answers.events import Asker, Event
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.text.visible import clean

SAID = (discord.MessageType.default, discord.MessageType.reply)


def is_for_us(message: discord.Message, me: discord.ClientUser | None) -> bool:
    """Whether somebody talks to the bot: by its name, in a reply, in its thread, directly."""
    if message.author.bot or message.webhook_id or message.type not in SAID:
        return False
    if message.guild is None or me in message.mentions or calls_our_role(message):
        return True
    if is_thread_of(message.channel, me):
        return True
    answered = replied_to(message)
    return answered is not None and answered.author == me


def replied_to(message: discord.Message) -> discord.Message | None:
    """The message that is replied to, if it is at hand."""
    resolved = message.reference.resolved if message.reference else None
    return resolved if isinstance(resolved, discord.Message) else None


def calls_our_role(message: discord.Message) -> bool:
    """Whether it mentions the role that Discord made for the bot, which looks like its name."""
    role = message.guild.self_role if message.guild else None
    return role is not None and (
        role in message.role_mentions or role.id in message.raw_role_mentions
    )


def is_thread_of(channel: Any, me: discord.ClientUser | None) -> bool:
    """Whether the bot opened the thread: all of it is one conversation."""
    return me is not None and isinstance(channel, discord.Thread) and channel.owner_id == me.id


def starter_id(channel: Any, me: discord.ClientUser | None) -> int | None:
    """The id of the message that somebody's thread began with: it is the thread's own. The bot's
    threads begin with nothing."""
    is_theirs = isinstance(channel, discord.Thread) and not is_thread_of(channel, me)
    return channel.id if is_theirs else None


def is_hidden(
    message: discord.Message, me: discord.ClientUser | None, settings: BotSettings
) -> bool:
    """Whether Discord keeps the text of a message from the bot: an empty one says nothing then. Of
    a server's messages the bot gets the text of those that mention it as a user, and not of others
    in its threads or that call its role."""
    return not (settings.message_content_intent or message.guild is None or me in message.mentions)


def edited_out(message: discord.Message) -> Event:
    """A message that the bot may no longer read: it says nothing any more."""
    return Event(
        id=message.id,
        kind="message",
        asker=asker(message.author),
        channel_id=message.channel.id,
        edited_at=message.edited_at,
    )


def interaction_event(
    interaction: discord.Interaction[Any], kind: str, text: str = "", *, again: str | None = None
) -> Event:
    """A command, a click or a form as an event; `again`: see `Event`."""
    channel: Any = interaction.channel
    return Event(
        id=interaction.id,
        kind=kind,
        asker=asker(interaction.user),
        channel_id=interaction.channel_id or 0,
        guild_id=interaction.guild_id,
        text=readable(text, interaction.guild),
        continues=interaction.guild_id is None or is_thread_of(channel, interaction.client.user),
        home_id=getattr(channel, "parent_id", None),
        starter_id=starter_id(channel, interaction.client.user),
        token=interaction.token,
        again=again,
    )


def asker(user: discord.User | discord.Member) -> Asker:
    """Who asks."""
    return Asker(user.id, clean(user.display_name))
