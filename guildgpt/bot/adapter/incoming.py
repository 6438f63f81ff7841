"""What comes from Discord, in our words: messages and interactions as `Event`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import discord

from guildgpt.bot.adapter.reaching import delivered
from guildgpt.bot.events import Asker, Event, Quoted
from guildgpt.bot.files import Attached, read_files
from guildgpt.bot.settings import BotSettings
from guildgpt.bot.text import clean

SAID = (discord.MessageType.default, discord.MessageType.reply)


def is_for_us(message: discord.Message, me: discord.ClientUser | None) -> bool:
    """Whether somebody talks to the bot: by its name, in a reply, in its thread, directly."""
    if message.author.bot or message.webhook_id or message.type not in SAID:
        return False
    if message.guild is None or me in message.mentions:
        return True
    if is_thread_of(message.channel, me):
        return True
    answered = message.reference.resolved if message.reference else None
    return isinstance(answered, discord.Message) and answered.author == me


def is_thread_of(channel: Any, me: discord.ClientUser | None) -> bool:
    """Whether the bot opened the thread: all of it is one conversation."""
    return me is not None and isinstance(channel, discord.Thread) and channel.owner_id == me.id


def cannot_read(
    message: discord.Message, me: discord.ClientUser | None, settings: BotSettings
) -> bool:
    """Whether Discord hands a message over without its text: one in a thread, that names nobody."""
    return not (
        settings.message_content_intent
        or message.guild is None
        or me in message.mentions
        or message.content
    )


async def message_event(
    message: discord.Message, me: discord.ClientUser | None, settings: BotSettings
) -> Event:
    """A message as an event, the text in its attachments included."""
    text = re.sub(rf"<@!?{me.id}>", " ", message.content) if me else message.content
    files = await texts_in(message.attachments, settings)
    reference = message.reference
    return Event(
        id=message.id,
        kind="message",
        asker=asker(message.author),
        channel_id=message.channel.id,
        guild_id=message.guild.id if message.guild else None,
        text="\n\n".join(part for part in (clean(text), *files) if part),
        names={user.id: clean(user.display_name) for user in message.mentions},
        answers_to=reference.message_id if reference else None,
        quoted=quoted(reference.resolved) if reference else None,
        continues=message.guild is None or is_thread_of(message.channel, me),
        home_id=getattr(message.channel, "parent_id", None),
    )


def interaction_event(interaction: discord.Interaction[Any], kind: str, text: str = "") -> Event:
    """A command, a click or a form as an event."""
    channel: Any = interaction.channel
    return Event(
        id=interaction.id,
        kind=kind,
        asker=asker(interaction.user),
        channel_id=interaction.channel_id or 0,
        guild_id=interaction.guild_id,
        text=clean(text),
        continues=interaction.guild_id is None or is_thread_of(channel, interaction.client.user),
        home_id=getattr(channel, "parent_id", None),
        token=interaction.token,
    )


def asker(user: discord.User | discord.Member) -> Asker:
    """Who asks."""
    return Asker(user.id, clean(user.display_name))


def quoted(message: object, *, bots_too: bool = False) -> Quoted | None:
    """Somebody's message that is asked about, if it has text."""
    if not isinstance(message, discord.Message) or (message.author.bot and not bots_too):
        return None
    author, text = message.author, clean(message.content)
    user_id = None if author.bot else author.id
    return Quoted(message.id, clean(author.display_name), text, user_id) if text else None


async def texts_in(attachments: Sequence[discord.Attachment], settings: BotSettings) -> list[str]:
    """The text in attached files; see `guildgpt.bot.files`."""
    files = [
        Attached(one.filename, one.content_type, one.size, partial(delivered, one.read))
        for one in attachments
    ]
    return await read_files(files, most=settings.attachments, limit_bytes=settings.attachment_bytes)
