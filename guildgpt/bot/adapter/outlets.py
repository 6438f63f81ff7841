"""Where answers go: the two kinds of `Outlet`, a channel and an interaction."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

import discord

from guildgpt.bot.adapter.controls import view
from guildgpt.bot.adapter.discord_time import first_id
from guildgpt.bot.adapter.reaching import FAULTS, T, delivered, once, passes, undeliverable
from guildgpt.bot.answers.buttons import Action
from guildgpt.bot.answers.outlet import Outlet, Undeliverable
from guildgpt.bot.operating.logs import EventLog
from guildgpt.feedback.records import Delivery

log = EventLog(__name__)
TOKEN_SECONDS = 14 * 60.0  # an interaction's token lives for fifteen minutes
TOKEN_OVER = (50027, 10015)  # Discord's codes for one that does not
NO_HISTORY = 160002  # ... and for a reply where the bot may not read what it replies to
FIND_MESSAGES = 500  # that are looked through for one that may have been sent
TYPING_SECONDS = 8.0  # Discord shows the bot typing for ten
ORIGINAL: Any = "@original"  # Discord's name for "thinking…", where other messages have numbers


class MessageOutlet:
    """Answers in a channel, as replies to a message where there is one."""

    is_private = False

    def __init__(self, client: discord.Client, channel_id: int, replies_to: int | None = None):
        self.channel_id = channel_id
        self.channel = client.get_partial_messageable(channel_id)
        self._client = client
        self._reference = replies_to and discord.MessageReference(
            message_id=replies_to, channel_id=channel_id, fail_if_not_exists=False
        )
        self._typing_until = float("-inf")  # on the monotonic clock

    @property
    def is_typing(self) -> bool:
        """See `Outlet`."""
        return time.monotonic() < self._typing_until

    async def typing(self) -> None:
        """See `Outlet`."""
        self._typing_until = time.monotonic() + TYPING_SECONDS
        try:
            await self._client.http.send_typing(self.channel_id)
        except FAULTS as error:
            if not passes(error):
                raise undeliverable(error) from error
            log("typing_failed", error=error)  # nothing hangs on it

    async def send(
        self, text: str, buttons: Sequence[Action], nonce: str, *, patient: bool = True
    ) -> int:
        """See `Outlet`; only the first message points at what it answers."""
        return await self._send(text, patient, view=view(buttons), nonce=nonce)

    async def edit(
        self, message_id: int, text: str, buttons: Sequence[Action], *, patient: bool = True
    ) -> None:
        """See `Outlet`."""
        self._reference = None
        message = self.channel.get_partial_message(message_id)
        await delivered(lambda: message.edit(content=text, view=view(buttons)), patient=patient)

    async def delete(self, message_id: int) -> None:
        """See `Outlet`."""
        await delivered(self.channel.get_partial_message(message_id).delete)

    async def whisper(self, text: str) -> int:
        """See `Outlet`."""
        return await self._send(text)

    async def find(self, texts: Sequence[str], since: float) -> list[int] | None:
        """See `RoundOutlet`."""
        channel = self._client.get_channel(self.channel_id)
        guild = getattr(channel, "guild", None)
        if guild and not channel.permissions_for(guild.me).read_message_history:  # type: ignore[union-attr]
            return None
        history = self.channel.history(
            limit=FIND_MESSAGES, after=discord.Object(first_id(since)), oldest_first=False
        )
        ours: dict[str, int] = {}
        try:
            async for message in history:
                if message.author == self._client.user:
                    ours.setdefault(message.content, message.id)
        except FAULTS as error:
            raise undeliverable(error) from error
        found = [ours.get(text.strip()) for text in texts]
        return [id for id in takewhile(lambda id: id is not None, found) if id]

    async def _send(self, text: str, patient: bool = True, **more: Any) -> int:
        if self._reference:
            more["reference"] = self._reference
        try:
            message = await delivered(lambda: self.channel.send(text, **more), patient=patient)
        except Undeliverable as error:
            if error.code != NO_HISTORY:
                raise
            del more["reference"]
            message = await delivered(lambda: self.channel.send(text, **more), patient=patient)
        self._reference = None
        return int(message.id)


class InteractionOutlet:
    """Answers to a command or a click, whose "thinking…" stands there already; once its time is
    over, as messages in the channel. `age`: for how many seconds it has been there by now. Of one
    that `was_begun` before a crash there may be messages that nobody has noted."""

    is_private = True

    def __init__(
        self,
        client: discord.Client,
        channel_id: int,
        token: str,
        *,
        age: float = 0.0,
        was_begun: bool = False,
    ):
        assert client.application_id
        self._hook = discord.Webhook.partial(client.application_id, token, client=client)
        self._hook.type = discord.WebhookType.application
        self._hook.session = once(self._hook.session)
        self._elsewhere = MessageOutlet(client, channel_id)
        self.channel_id = channel_id
        self._over_at = time.monotonic() + TOKEN_SECONDS - age
        self._original: int | None = None
        self._newest = 0  # of the messages that are known
        self._may_be_more = was_begun
        self.is_over = False  # Discord told the member that it failed

    @property
    def is_typing(self) -> bool:
        """Discord shows the bot thinking by itself."""
        return not self.is_over

    async def typing(self) -> None:
        """See `Outlet`."""
        if self.is_over:
            raise Undeliverable("the interaction was over before it was acknowledged", "gone")

    async def send(
        self, text: str, buttons: Sequence[Action], nonce: str, *, patient: bool = True
    ) -> int:
        """See `Outlet`: the first takes the place of "thinking…"."""
        return await self._in_time(
            lambda: self._send(text, buttons),
            lambda: self._elsewhere.send(text, buttons, nonce, patient=patient),
            patient=patient,
        )

    async def _send(self, text: str, buttons: Sequence[Action]) -> int:
        if self._original is None:
            written = await self._hook.edit_message(ORIGINAL, content=text, view=view(buttons))
            self._original = self._newest = int(written.id)
            return self._original
        sent = await self._unnoted() if self._may_be_more else None
        if sent is None:
            self._may_be_more = True  # until Discord says that it is there
            sent = int((await self._hook.send(text, view=view(buttons), wait=True)).id)
            self._may_be_more = False
        self._newest = sent
        return sent

    async def _unnoted(self) -> int | None:
        """A further message that Discord took without saying so: here no nonce tells."""
        with suppress(discord.Forbidden, discord.NotFound):  # a channel that it may not read
            after = discord.Object(self._newest)
            async for message in self._elsewhere.channel.history(after=after, oldest_first=True):
                origin = message.interaction_metadata
                if origin and origin.original_response_message_id == self._original:
                    return message.id
        return None

    async def edit(
        self, message_id: int, text: str, buttons: Sequence[Action], *, patient: bool = True
    ) -> None:
        """See `Outlet`."""
        self._original = self._original or message_id
        self._newest = max(self._newest, message_id)
        await self._in_time(
            lambda: self._hook.edit_message(message_id, content=text, view=view(buttons)),
            lambda: self._elsewhere.edit(message_id, text, buttons, patient=patient),
            patient=patient,
        )

    async def delete(self, message_id: int) -> None:
        """See `Outlet`."""
        await self._in_time(
            lambda: self._hook.delete_message(message_id),
            lambda: self._elsewhere.delete(message_id),
        )

    async def whisper(self, text: str) -> None:
        """See `Outlet`: only who asked reads it."""

        if time.monotonic() >= self._over_at:
            return
        if self._original is None:  # "thinking…" is there for all to see, and so would this be
            with suppress(Undeliverable):  # somebody was quicker
                await delivered(lambda: self._hook.delete_message(ORIGINAL))
        await delivered(lambda: self._hook.send(text, ephemeral=True))

    async def _in_time(
        self,
        by_token: Callable[[], Awaitable[T]],
        later: Callable[[], Awaitable[T]],
        *,
        patient: bool = True,
    ) -> T:
        if time.monotonic() < self._over_at:
            try:
                return await delivered(by_token, patient=patient)
            except Undeliverable as error:
                if error.code not in TOKEN_OVER:
                    raise
                self._over_at = float("-inf")
        return await later()


def outlet_again(client: discord.Client, delivery: Delivery, age: float) -> Outlet:
    """Where an answer goes on after a crash; its event is `age` seconds old."""
    channel_id, token = delivery.channel_id or 0, delivery.extra.get("token")
    if token:
        return InteractionOutlet(client, channel_id, token, age=age, was_begun=True)
    return MessageOutlet(
        client, channel_id, delivery.event_id if delivery.kind == "message" else None
    )
