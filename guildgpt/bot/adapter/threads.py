"""A thread of its own for a conversation, and why there can be none."""

from __future__ import annotations

import discord

from guildgpt.bot.adapter.interactions import At
from guildgpt.bot.adapter.reaching import FAULTS
from guildgpt.bot.answers.ending import Refused
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.text import sentences as say
from guildgpt.bot.text.splitting import shortened

log = EventLog(__name__)
# Of a title. Discord's API counts characters and its clients UTF-16 units: the stricter rule fits.
LONGEST_TITLE = 100
# What it takes to open a thread and to talk in it, as Discord's own settings call it.
NEEDED = {
    "view_channel": "View Channel",
    "create_public_threads": "Create Public Threads",
    "send_messages_in_threads": "Send Messages in Threads",
}
# Discord's codes for what is no matter of permissions.
_REFUSALS = {
    160006: say.TOO_MANY_THREADS,
    200000: say.TITLE_BLOCKED,
    200001: say.TITLE_BLOCKED,
}


async def open_thread(at: At, title: str) -> discord.Thread:
    """A thread in the channel of a command, with the member in it; raises `Refused`."""
    channel = at.channel
    if isinstance(channel, discord.Thread):
        raise Refused(say.THREAD_ALREADY, "no-thread")
    if not isinstance(channel, discord.TextChannel):  # announcement channels are such, too
        raise Refused(say.NO_THREADS_IN_VOICE, "no-thread")
    lacking = [called for name, called in NEEDED.items() if not getattr(at.app_permissions, name)]
    if lacking and not at.app_permissions.administrator:
        raise Refused(say.lacking(lacking), "no-thread")
    kind = "news_thread" if channel.is_news() else "public_thread"
    name = shortened(" ".join(title.split()), LONGEST_TITLE)
    try:
        thread = await channel.create_thread(name=name, type=discord.ChannelType[kind])
    except discord.HTTPException as error:
        log("no_thread", error=error)
        raise Refused(_REFUSALS.get(error.code, say.NO_THREAD), "no-thread") from error
    await _add(at, thread)
    return thread


async def _add(at: At, thread: discord.Thread) -> None:
    """The member sees the thread at once. Where they cannot be added they still have the link, and
    it does not stay where the bot cannot write to it."""
    try:
        await thread.add_user(at.user)
    except discord.Forbidden as error:
        log("thread_taken_back", error=error)
        await _take_back(thread)
        raise Refused(say.lacking([NEEDED["send_messages_in_threads"]]), "no-thread") from error
    except FAULTS as error:
        log("not_added", error=error)


async def _take_back(thread: discord.Thread) -> None:
    try:
        await thread.delete()
    except discord.Forbidden:  # deleting takes a right that the bot does not ask for
        try:
            await thread.edit(archived=True)
        except discord.HTTPException as error:
            log("thread_left_behind", error=error)
