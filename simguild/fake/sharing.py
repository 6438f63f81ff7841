"""What people do beside writing: forward, speak, open threads and posts; and what webhooks do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from simguild.fake import messages, payloads
from simguild.fake.errors import Refused
from simguild.fake.messages import Upload
from simguild.fake.permissions import Permission
from simguild.fake.world import (
    FORUM,
    GUILDS,
    HAS_THREAD,
    MEDIA,
    NEWS,
    NEWS_THREAD,
    PRIVATE_THREAD,
    PUBLIC_THREAD,
    Channel,
    FakeMessage,
    User,
    World,
)

Json = dict[str, Any]
THREAD_CREATED, THREAD_STARTER = 18, 21  # kinds of messages that Discord itself writes
THREADS = {NEWS: NEWS_THREAD}  # of a kind of channel, where they are not public threads
VOICE = 1 << 13  # the flag of a voice message


class Sharing:
    """What `People` do less often."""

    def __init__(self, world: World):
        self.world = world

    async def forward(self, user: User, message: FakeMessage, channel: Channel) -> FakeMessage:
        """A person forwards a message: it is copied as it is now, without its author.

        Discord's client sends the words that a person adds as a message of its own behind it.
        """
        if not message.channel.can(user, Permission.VIEW_CHANNEL | Permission.READ_MESSAGE_HISTORY):
            raise Refused(f"{user.name} does not see this message")
        forward = self._new(user, channel, reference=message)
        forward.snapshots = message.snapshots or [payloads.snapshot(message)]
        return await self._posted(forward)

    async def speak(self, user: User, channel: Channel) -> FakeMessage:
        """A person sends a voice message."""
        upload = Upload("voice-message.ogg", b"OggS\0\0", "audio/ogg")
        message = self._new(user, channel, flags=VOICE)
        message.attachments = messages.attach(channel, [upload])
        message.attachments[0].voice_seconds = 2.5
        return await self._posted(message)

    async def poll(
        self, user: User, channel: Channel, question: str, answers: Sequence[str]
    ) -> FakeMessage:
        """A person asks all who are there to choose, for a day: a message without words."""
        message = self._new(user, channel)
        message.poll = {
            "question": {"text": question},
            "answers": [
                {"answer_id": number, "poll_media": {"text": text}}
                for number, text in enumerate(answers, start=1)
            ],
            "expiry": payloads.moment(time.time() + 24 * 3600),
            "allow_multiselect": False,
            "layout_type": 1,
        }
        return await self._posted(message)

    async def webhook(
        self, channel: Channel, name: str, content: str = "", *, embeds: Sequence[Json] = ()
    ) -> FakeMessage:
        """A program writes through a webhook of the channel."""
        author = User(self.world.new_id(), name, bot=True, webhook=True)
        self.world.users[author.id] = author
        message = FakeMessage(
            self.world.new_id(), channel, author, content, self.world.clock(), list(embeds)
        )
        return await self._posted(message)

    async def preview(self, message: FakeMessage, embed: Json) -> None:
        """Discord has looked at a link in the message, and shows what is behind it."""
        message.embeds = [*message.embeds, embed]
        messages.tell_edit(message)  # which is no edit of its author's: `edited_timestamp` stays
        await asyncio.sleep(0)

    async def open_thread(
        self,
        user: User,
        channel: Channel,
        name: str,
        *,
        start: FakeMessage | None = None,
        private: bool = False,
    ) -> Channel:
        """A person opens a thread, from a message (whose id it then has) or without one; into a
        private one the bot is invited."""
        thread = self._thread(user, channel, name, start.id if start else None, private)
        if start is not None:
            start.thread, start.flags = thread, start.flags | HAS_THREAD
            messages.tell_edit(start)
            await self._posted(self._new(user, thread, kind=THREAD_STARTER, reference=start))
        elif not private:
            await self._posted(self._new(user, channel, name, kind=THREAD_CREATED))
        return thread

    async def post(self, user: User, forum: Channel, title: str, content: str) -> Channel:
        """A person opens a post in a forum: a thread, whose id its first message has."""
        if forum.kind not in (FORUM, MEDIA):
            raise Refused(f"{forum.name} is no forum")
        thread = self._thread(user, forum, title)
        message = self._new(user, thread, content)
        message.id = thread.id
        await self._posted(message)
        return thread

    def _thread(
        self, user: User, channel: Channel, name: str, id: int | None = None, private: bool = False
    ) -> Channel:
        thread = self.world.add_channel(
            name,
            guild=channel.guild,
            id=id,
            kind=PRIVATE_THREAD if private else THREADS.get(channel.kind, PUBLIC_THREAD),
            parent=channel,
            owner=user,
            members=[user, self.world.bot] if private else [user],
        )
        payload = {**payloads.channel(thread), "newly_created": True}
        self.world.publish("THREAD_CREATE", payload, guild=channel.guild, intent=GUILDS)
        return thread

    def _new(self, user: User, channel: Channel, content: str = "", **more: Any) -> FakeMessage:
        called = messages.called(content, channel)
        return FakeMessage(
            self.world.new_id(),
            channel,
            user,
            content,
            self.world.clock(),
            mentions=called.users,
            role_mentions=called.roles,
            **more,
        )

    async def _posted(self, message: FakeMessage) -> FakeMessage:
        messages.post(self.world, message, ping_reply=False)
        await asyncio.sleep(0)  # let the gateway write
        return message
