"""What stands around a question: what it replies to or forwards, and what its thread began with.

All of that is read as quoted: it stays the words of whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import discord

from guildgpt.bot.adapter.incoming import (
    Said,
    asker,
    contents,
    edited_out,
    files,
    is_for_us,
    is_thread_of,
    may_be_text,
    poll,
    readable,
    replied_to,
    starter_id,
    stickers,
    words,
)
from guildgpt.bot.adapter.reaching import FAULTS
from guildgpt.bot.answers.events import Event, Quoted, Recent
from guildgpt.bot.answers.service import Service
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.postponed import or_else
from guildgpt.bot.text.files import Unseen, not_seen
from guildgpt.feedback.records import Passed
from guildgpt.text.visible import clean

log = EventLog(__name__)
FORWARDED = "forwarded message"  # who speaks where Discord does not say it
TITLE = "title of the thread"
FORWARDS = 1000  # that are remembered
FORWARD_SECONDS = 60.0  # in which the words that belong to a forward follow it


@dataclass
class Reader:
    """Makes events of messages."""

    client: discord.Client
    service: Service
    # By channel and author.
    _forwards: Recent[tuple[int, int], discord.Message] = field(
        default_factory=lambda: Recent(FORWARDS)
    )

    async def event(self, message: discord.Message) -> Event:
        """A message as an event."""
        said, unseen = await self._said(message)
        answered, forward = replied_to(message), self._forward_of(message)
        quoted = _quoted(
            await self._beginning(message.channel) if message.id != message.channel.id else None,
            await self.quoted(answered)
            if answered and answered.author != self.client.user
            else None,
            await self._forwarded(forward) if forward else None,
        )
        if unseen and (said or quoted):
            said.append(not_seen(unseen))
        mentioned = [*message.mentions, *(answered.mentions if answered else ())]
        reference = message.reference if message.type is discord.MessageType.reply else None
        return Event(
            id=message.id,
            kind="message",
            asker=asker(message.author),
            channel_id=message.channel.id,
            guild_id=message.guild.id if message.guild else None,
            text="\n\n".join(said),
            unseen=unseen[0].kind if unseen and not said else None,
            names={user.id: clean(user.display_name) for user in mentioned},
            answers_to=reference.message_id if reference else None,
            quoted=quoted,
            starter_id=starter_id(message.channel, self.client.user),
            continues=message.guild is None or is_thread_of(message.channel, self.client.user),
            home_id=getattr(message.channel, "parent_id", None),
            edited_at=message.edited_at,
        )

    async def edited(self, message: discord.Message) -> Event:
        """What a message says now that was asked or quoted before; what stands around it is left
        out."""
        if is_for_us(message, self.client.user):
            said, unseen = await self._said(message)
            said += [not_seen(unseen)] if said else []
            text = "\n\n".join(part for part in said if part)
        else:
            text = await contents(message, message.guild, self.service.settings)
            text = self._with_title(message, text)
        return replace(
            edited_out(message),
            text=text,
            names={user.id: clean(user.display_name) for user in message.mentions},
        )

    async def completed(
        self, event: Event, channel: Any, attached: Sequence[discord.Attachment] = ()
    ) -> Event:
        """A command's event with the text in its files, and with what the thread began with in
        which it was called."""
        texts, unseen = await files(attached, self.service.settings)
        text = "\n\n".join(part for part in (event.text, *texts, not_seen(unseen)) if part)
        return replace(event, text=text, quoted=_quoted(await self._beginning(channel)))

    def note(self, message: discord.Message) -> None:
        """A message that is not for the bot. If it is a forward, words for the bot may follow:
        Discord sends those that a person adds to a forward as a message of their own."""
        at = (message.channel.id, message.author.id)
        self._forwards.pop(at, None)
        if message.message_snapshots:
            self._forwards[at] = message

    def may_have_text(self, message: discord.Message) -> bool:
        """Whether there is something in a message that may be text."""
        each: list[Said] = [message, *message.message_snapshots]
        return any(words(one, message.guild) or may_be_text(one) for one in each)

    async def quoted(self, message: discord.Message) -> Quoted | None:
        """A message that is asked about, if there is text in it."""
        if message.message_snapshots:
            return await self._forwarded(message)
        text = await contents(message, message.guild, self.service.settings)
        return _by(message, text, is_kept=message.author != self.client.user) if text else None

    async def _said(self, message: discord.Message) -> tuple[list[str], list[Unseen]]:
        """The text of a question and of its files, and what of them cannot be seen."""
        texts, unseen = await files(message.attachments, self.service.settings)
        asked = self._with_title(message, self._asked(message))
        voted_on = readable(poll(message), message.guild)
        said = [part for part in (asked, voted_on, *texts) if part]
        return said, [*unseen, *stickers(message)]

    def _asked(self, message: discord.Message) -> str:
        """The words of a question, without the bot's name by which it was called."""
        me, guild = self.client.user, message.guild
        role = guild.self_role if guild else None
        names = [f"<@!?{me.id}>"] if me else []
        names += [f"<@&{role.id}>"] if role else []
        return readable(re.sub("|".join(names) or "(?!)", " ", message.content), guild)

    def _with_title(self, message: discord.Message, text: str) -> str:
        """The text of a message, below the title if it is the first of somebody's thread."""
        thread = message.guild.get_thread(message.id) if message.guild else None
        begins = thread and starter_id(thread, self.client.user)
        return _titled(text, clean(thread.name)) if thread and begins else text

    # Threads

    async def _beginning(self, channel: Any) -> Quoted | None:
        """What somebody's thread is about: its title, and the message that it began with; only as
        long as the store has neither."""
        id = starter_id(channel, self.client.user)
        find = self.service.store.conversations.message_by_discord_id
        if id is None or await or_else(True, find(id)) is not None:
            return None  # while the store is in trouble nobody is asked for more
        title = clean(channel.name)
        starter = None if channel.is_private() else await self._starter(channel)
        if starter is None or starter.author == self.client.user:
            return Quoted(id, TITLE, title, channel.owner_id)
        begun = await self.quoted(starter) or _by(starter, "")
        return replace(begun, text=_titled(begun.text, title))

    async def _starter(self, thread: discord.Thread) -> discord.Message | None:
        """A forum's posts hold their first message; other threads hang from one of the channel."""
        is_post = isinstance(thread.parent, discord.ForumChannel)
        return await self._fetched(thread if is_post else thread.parent, thread.id)

    # Forwards

    def _forward_of(self, message: discord.Message) -> discord.Message | None:
        """The message itself if it is a forward, else the one that its words belong to."""
        if message.message_snapshots:
            return message
        before = self._forwards.pop((message.channel.id, message.author.id), None)
        if before is None or message.reference:
            return None
        passed = (message.created_at - before.created_at).total_seconds()
        return before if passed <= FORWARD_SECONDS else None

    async def _forwarded(self, message: discord.Message) -> Quoted | None:
        """What a message forwards. In a server it stays its author's, where Discord tells who that
        is; else it is kept with whom it came from, though the words are not theirs."""
        parts = [
            await contents(shot, message.guild, self.service.settings)
            for shot in message.message_snapshots
        ]
        text = "\n\n".join(part for part in parts if part)
        if not text:
            return None
        reference = message.reference
        if message.guild and reference and reference.message_id:
            channel = message.guild.get_channel_or_thread(reference.channel_id)
            original = await self._fetched(channel, reference.message_id)
            if original is not None:
                return _by(original, text)
        return Quoted(message.id, FORWARDED, text, message.author.id, "wholly")

    async def _fetched(self, channel: Any, message_id: int) -> discord.Message | None:
        if not isinstance(channel, discord.abc.Messageable):
            return None
        await self.service.writer.request()
        try:
            return await channel.fetch_message(message_id)
        except FAULTS as error:
            log("not_fetched", error=error)
            return None


def _by(message: discord.Message, text: str, *, is_kept: bool = True) -> Quoted:
    """Text of a message's author. Programs are no members, neither bots nor webhooks."""
    author = message.author
    user_id = None if author.bot or message.webhook_id else author.id
    not_theirs: Passed | None = "partly" if message.embeds else None  # previews of links
    name, edited_at = clean(author.display_name), message.edited_at
    return Quoted(message.id, name, text, user_id, not_theirs, is_kept, edited_at)


def _titled(text: str, title: str) -> str:
    """A thread's title and its first message. Discord proposes the first words as a title."""
    if text.startswith(title.removesuffix("…").rstrip()):
        return text
    return "\n\n".join(part for part in (title, text) if part)


def _quoted(*each: Quoted | None) -> tuple[Quoted, ...]:
    """Those that there are, each once."""
    return tuple({one.id: one for one in each if one}.values())
