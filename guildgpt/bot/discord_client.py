"""The one file that knows discord.py: its events become ours, our answers its messages."""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Literal
from uuid import uuid4

import aiohttp
import discord
from discord import app_commands

from guildgpt.bot import sentences as say
from guildgpt.bot.buttons import PATTERN, Action, decode, encode
from guildgpt.bot.check import Account
from guildgpt.bot.events import Asker, Event, Quoted
from guildgpt.bot.files import Attached, read_files
from guildgpt.bot.logs import log
from guildgpt.bot.marks import Marks
from guildgpt.bot.opinions import Opinions
from guildgpt.bot.outlet import Outlet, Undeliverable
from guildgpt.bot.recent import Recent
from guildgpt.bot.service import Rest, Service
from guildgpt.bot.settings import BotSettings
from guildgpt.bot.text import clean
from guildgpt.errors import GuildError, StoreError
from guildgpt.feedback.records import Delivery

LOGGER = logging.getLogger(__name__)

# What the bot asks for when it is invited, and why is in docs/discord.md.
PERMISSIONS = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    create_public_threads=True,
    embed_links=True,
    attach_files=True,
    read_message_history=True,
)
_GREY, _BLUE = discord.ButtonStyle.secondary, discord.ButtonStyle.primary
FACES: dict[str, tuple[str | None, str | None, discord.ButtonStyle]] = {
    "up": ("👍", None, _GREY),
    "down": ("👎", None, _GREY),
    "again": ("🔁", None, _GREY),
    "report": ("🚩", None, _GREY),
    "stop": ("⏹️", "Stop", _GREY),
    "left": ("⬅️", "Left", _BLUE),
    "right": ("➡️", "Right", _BLUE),
    "tie": (None, "Both good", _GREY),
    "both_bad": (None, "Both bad", _GREY),
    "forget": (None, "Delete everything", discord.ButtonStyle.danger),
    "keep": (None, "Keep it", _GREY),
}
TOKEN_SECONDS = 14 * 60.0  # an interaction's token lives for fifteen minutes
TOKEN_OVER = 50027  # Discord's code for one that does not
NO_HISTORY = 160002  # ... and for a reply where the bot may not read what it replies to
ACKNOWLEDGE_SECONDS = 1.5  # work that takes longer than this is acknowledged before it is done
PAUSES = (1, 2, 5, 10, *[30] * 20)  # seconds between tries while Discord cannot be reached
CLOSE_SECONDS = 5.0  # for what is being written when the bot stops
_CHANNEL = re.compile(r"/channels/(\d+)/messages")


@contextmanager
def _in_words() -> Iterator[None]:
    """Discord's refusals of a whole bot, as `GuildError`."""
    try:
        yield
    except discord.LoginFailure as error:
        raise GuildError(
            "Discord does not know this token",
            where="DISCORD_TOKEN",
            remedy="Copy it anew from the developer portal, page Bot, button Reset Token.",
        ) from error
    except discord.PrivilegedIntentsRequired as error:
        raise GuildError(
            "the message content intent is switched on here, but not at Discord",
            where="message_content_intent",
            remedy="Switch on MESSAGE CONTENT INTENT in the developer portal, page Bot, or leave "
            "it out here: mentions, replies, commands and direct messages work without.",
        ) from error
    except discord.ConnectionClosed as error:
        raise GuildError(
            f"Discord closed the connection for good (code {error.code})",
            remedy="4004: the token was reset. 4010 and 4011: set `shards` to `auto`.",
        ) from error
    except discord.HTTPException as error:
        raise GuildError(
            f"Discord refused the bot (status {error.status}, code {error.code})",
            remedy="Look at https://discordstatus.com, and try again in a minute.",
        ) from error
    except (aiohttp.ClientError, OSError) as error:
        raise GuildError(
            f"Discord cannot be reached ({type(error).__name__})", remedy="Is this machine online?"
        ) from error


async def inquire(token: str) -> Account:
    """What Discord says of the bot that a token belongs to; raises `GuildError`."""
    client = discord.Client(intents=discord.Intents.none())
    with _in_words():
        async with client:
            await client.login(token)
            app = await client.application_info()
            guilds = await client.http.get_guilds(limit=200)
    return Account(
        name=client.user.name if client.user else "",
        invite=discord.utils.oauth_url(
            app.id, permissions=PERMISSIONS, scopes=("bot", "applications.commands")
        ),
        public=app.bot_public,
        reads_content=app.flags.gateway_message_content
        or app.flags.gateway_message_content_limited,
        lacking={guild["name"]: _lacking(int(guild.get("permissions", 0))) for guild in guilds},
    )


def _lacking(value: int) -> list[str]:
    """The permissions that a guild does not give, in Discord's words."""
    given = discord.Permissions(value)
    if given.administrator:
        return []
    wanted = [name for name, needed in PERMISSIONS if needed]
    return [name.replace("_", " ") for name in wanted if not getattr(given, name)]


# Where answers go


class MessageOutlet:
    """Answers in a channel, as replies to a message where there is one."""

    def __init__(self, client: discord.Client, channel_id: int, replies_to: int | None = None):
        self._client = client
        self._channel = client.get_partial_messageable(channel_id)
        self._reference = replies_to and discord.MessageReference(
            message_id=replies_to, channel_id=channel_id, fail_if_not_exists=False
        )

    @property
    def channel_id(self) -> int:
        """See `Outlet`."""
        return self._channel.id

    async def typing(self) -> None:
        """See `Outlet`."""
        try:
            await self._client.http.send_typing(self.channel_id)
        except (discord.Forbidden, discord.NotFound) as error:
            raise _undeliverable(error) from error
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log(LOGGER, "typing_failed", error=error)  # nothing hangs on it

    async def send(self, text: str, buttons: Sequence[Action], nonce: str) -> int:
        """See `Outlet`; only the first message points at what it answers."""
        return await self._send(text, view=_view(buttons), nonce=nonce)

    async def edit(self, message_id: int, text: str, buttons: Sequence[Action]) -> None:
        """See `Outlet`."""
        self._reference = None
        message = self._channel.get_partial_message(message_id)
        await _delivered(lambda: message.edit(content=text, view=_view(buttons)))

    async def delete(self, message_id: int) -> None:
        """See `Outlet`."""
        await _delivered(self._channel.get_partial_message(message_id).delete)

    async def whisper(self, text: str) -> None:
        """See `Outlet`."""
        await self._send(text)

    async def _send(self, text: str, **more: Any) -> int:
        if self._reference:
            more["reference"] = self._reference
        try:
            message = await _delivered(lambda: self._channel.send(text, **more))
        except Undeliverable as error:
            if error.code != NO_HISTORY:
                raise
            del more["reference"]
            message = await _delivered(lambda: self._channel.send(text, **more))
        self._reference = None
        return int(message.id)


class InteractionOutlet:
    """Answers to a command or a click, whose "thinking…" stands there already; once its time is
    over, as messages in the channel."""

    def __init__(self, client: discord.Client, channel_id: int, event_id: int, token: str):
        assert client.application_id
        self._hook = discord.Webhook.partial(client.application_id, token, client=client)
        self._hook.type = discord.WebhookType.application
        self._elsewhere = MessageOutlet(client, channel_id)
        self._over_at = discord.utils.snowflake_time(event_id).timestamp() + TOKEN_SECONDS
        self._original: int | None = None
        self.unheard = False  # Discord told the member that it failed

    @property
    def channel_id(self) -> int:
        """See `Outlet`."""
        return self._elsewhere.channel_id

    async def typing(self) -> None:
        """Discord shows the bot thinking by itself."""
        if self.unheard:
            raise Undeliverable("the interaction was over before it was acknowledged", gone=True)

    async def send(self, text: str, buttons: Sequence[Action], nonce: str) -> int:
        """See `Outlet`: the first takes the place of "thinking…"."""
        sent: int = await self._in_time(
            lambda: self._send(text, _view(buttons)),
            lambda: self._elsewhere.send(text, buttons, nonce),
        )
        return sent

    async def _send(self, text: str, view: discord.ui.View) -> int:
        if self._original is not None:
            return int((await self._hook.send(text, view=view, wait=True)).id)
        original: Any = "@original"  # Discord's name for it, where the others have numbers
        written = await self._hook.edit_message(original, content=text, view=view)
        self._original = int(written.id)
        return self._original

    async def edit(self, message_id: int, text: str, buttons: Sequence[Action]) -> None:
        """See `Outlet`."""
        self._original = self._original or message_id
        view = _view(buttons)
        await self._in_time(
            lambda: self._hook.edit_message(message_id, content=text, view=view),
            lambda: self._elsewhere.edit(message_id, text, buttons),
        )

    async def delete(self, message_id: int) -> None:
        """See `Outlet`."""
        await self._in_time(
            lambda: self._hook.delete_message(message_id),
            lambda: self._elsewhere.delete(message_id),
        )

    async def whisper(self, text: str) -> None:
        """See `Outlet`: only who asked reads it."""

        async def whispered() -> None:
            if self._original is None:  # "thinking…" is there for all to see, and so would this be
                original: Any = "@original"
                await self._hook.delete_message(original)
            await self._hook.send(text, ephemeral=True)

        if time.time() < self._over_at:
            await _delivered(whispered)

    async def _in_time(
        self, by_token: Callable[[], Awaitable[Any]], later: Callable[[], Awaitable[Any]]
    ) -> Any:
        if time.time() < self._over_at:
            try:
                return await _delivered(by_token)
            except Undeliverable as error:
                if error.code != TOKEN_OVER:
                    raise
                self._over_at = 0.0
        return await later()


async def _delivered(call: Callable[[], Awaitable[Any]]) -> Any:
    """Call Discord, for ten minutes if it cannot be reached; what it refuses for good becomes
    `Undeliverable`."""
    for pause in PAUSES:
        try:
            return await call()
        except (discord.DiscordServerError, aiohttp.ClientError, OSError) as error:
            log(LOGGER, "discord_unreachable", error=error)
            await asyncio.sleep(pause)
        except discord.HTTPException as error:
            raise _undeliverable(error) from error
    raise Undeliverable("Discord cannot be reached", gone=False)


def _undeliverable(error: discord.HTTPException) -> Undeliverable:
    kind = {403: "not allowed", 404: "gone"}.get(error.status, f"refused with {error.status}")
    return Undeliverable(f"{kind} ({error.code})", gone=error.status == 404, code=error.code)


# Buttons and forms


class ActionButton(discord.ui.DynamicItem[discord.ui.Button[Any]], template=PATTERN):
    """A button that works for as long as its message stands: all it needs is in its id."""

    def __init__(self, action: Action):
        emoji, label, style = FACES[action.kind]
        super().__init__(
            discord.ui.Button(emoji=emoji, label=label, style=style, custom_id=encode(action))
        )
        self.action = action

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction, item: Any, match: Any
    ) -> ActionButton:
        """Made anew from a click."""
        action = decode(match.string)
        assert action
        return cls(action)

    async def callback(self, interaction: discord.Interaction) -> Any:
        """The click itself."""
        client: Any = interaction.client
        if client.is_new(interaction):
            await client.clicked(interaction, self.action)


def _view(buttons: Sequence[Action]) -> discord.ui.View:
    view = discord.ui.View(timeout=None)
    for action in buttons:
        view.add_item(ActionButton(action))
    view.stop()  # discord.py need not remember it: clicks are told by their ids
    return view


class Form(discord.ui.Modal):
    """A form of one text, given to `submitted` in words that can be seen; it may stay empty."""

    def __init__(
        self,
        title: str,
        field: discord.ui.TextInput[Any],
        submitted: Callable[[discord.Interaction, str], Awaitable[None]],
    ):
        super().__init__(title=title, timeout=TOKEN_SECONDS)
        self._field = field
        self._submitted = submitted
        self.add_item(field)

    async def on_submit(self, interaction: discord.Interaction) -> None:
        """See the class."""
        client: Any = interaction.client
        if client.is_new(interaction):
            await self._submitted(interaction, clean(self._field.value))


# The client


class GuildClient(discord.AutoShardedClient):
    """discord.py's client, its events handed to the service."""

    def __init__(
        self,
        service: Service,
        opinions: Opinions,
        settings: BotSettings,
        **options: Any,
    ):
        intents = discord.Intents.none()
        intents.guilds = intents.guild_messages = intents.dm_messages = True
        intents.message_content = settings.message_content_intent
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._request_ended)
        super().__init__(
            intents=intents,
            # Nothing the model writes pings anyone.
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,  # the store remembers, not the client
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            shard_count=None if settings.shards == "auto" else settings.shards or 1,
            http_trace=trace,
            **options,
        )
        self.service = service
        self.opinions = opinions
        self.settings = settings
        self.marks = Marks(service.store)
        self.tree = Commands(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._sessions: Counter[int] = Counter()  # begun, by shard
        self._read: Counter[int] = Counter()  # the last one whose past was read, by shard
        self._away: set[int] = set()  # shards
        self._seen = Recent()  # interactions
        self._told_to_mention: set[int] = set()  # threads
        service.metrics.connected.set_function(lambda: self.is_connected)
        service.metrics.guilds.set_function(lambda: len(self.guilds))

    async def talk(self) -> None:
        """Be on Discord until `close`; raises `GuildError` for a token or intents it refuses."""
        with _in_words():
            await self.start(self.settings.token.get_secret_value())

    async def close(self) -> None:
        """Leave Discord; what is not finished stays open in the store, to be taken up again."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        await super().close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the events, and log what goes wrong in it."""
        if self._leaving:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            LOGGER.error("event failed", exc_info=error)

    async def _request_ended(self, session: Any, context: Any, request: Any) -> None:
        """discord.py waits when Discord says 429; so must those who come after."""
        channel = _CHANNEL.search(request.url.path)
        if request.response.status == 429 and channel:
            seconds = float(request.response.headers.get("Retry-After", 1))
            self.service.slow_down(int(channel[1]), seconds)

    # Connecting, and what was missed

    async def setup_hook(self) -> None:
        """Once, before any event: buttons and commands, and the work that a crash left."""
        self.add_dynamic_items(ActionButton)
        await self.tree.sync()
        for delivery in await self.service.store.open_deliveries():
            self.spawn(self.service.resume(delivery, self._outlet_again(delivery)))

    @property
    def is_connected(self) -> bool:
        """Whether Discord's events arrive."""
        return self.is_ready() and not self._away

    async def on_shard_connect(self, shard_id: int) -> None:
        """A new session: it knows nothing of what was written before it."""
        self._sessions[shard_id] += 1
        self.marks.behind(shard_id)

    async def on_shard_ready(self, shard_id: int) -> None:
        """The guilds of a new session are there: read what was missed in them."""
        self._away.discard(shard_id)
        log(LOGGER, "ready", shard=shard_id, guilds=len(self.guilds))
        self.spawn(self._catch_up(shard_id))

    async def on_shard_resumed(self, shard_id: int) -> None:
        """The session goes on; Discord itself sends what was missed."""
        self._away.discard(shard_id)
        self._note_caught_up(shard_id)

    async def on_shard_disconnect(self, shard_id: int) -> None:
        """The gateway is gone; discord.py connects again."""
        self._away.add(shard_id)
        self.marks.behind(shard_id)

    def _note_caught_up(self, shard_id: int) -> None:
        """Nothing is missing, unless a session has begun whose past is still to be read."""
        if self._read[shard_id] == self._sessions[shard_id]:
            self.marks.caught_up(shard_id)

    async def _catch_up(self, shard_id: int) -> None:
        session = self._sessions[shard_id]
        missed = await self.marks.missed()
        for guild in self.guilds:
            if guild.shard_id != shard_id:
                continue
            places: list[Any] = [*guild.text_channels, *guild.voice_channels, *guild.threads]
            for channel in places:
                if (channel.last_message_id or 0) > missed.after(channel.id):
                    await self._read_after(channel, missed.after(channel.id))
        if shard_id == 0:  # direct messages: Discord lists no such channels
            for channel_id in missed.direct:
                channel = self.get_partial_messageable(channel_id)
                await self._read_after(channel, missed.after(channel_id))
        self._read[shard_id] = session
        self._note_caught_up(shard_id)

    async def _read_after(self, channel: Any, after: int) -> None:
        try:
            history = channel.history(after=discord.Object(after), limit=None, oldest_first=True)
            async for message in history:
                await self._hear(message, live=False)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log(LOGGER, "cannot_catch_up", channel=channel.id, error=error)

    def _outlet_again(self, delivery: Delivery) -> Outlet:
        """Where an answer goes on after a crash."""
        token, channel_id = delivery.extra.get("token"), delivery.channel_id or 0
        if token:
            return InteractionOutlet(self, channel_id, delivery.event_id, token)
        is_message = delivery.kind == "message"
        return MessageOutlet(self, channel_id, delivery.event_id if is_message else None)

    # Messages

    async def on_message(self, message: discord.Message) -> None:
        """A message somewhere: answered if it is meant for the bot."""
        await self._hear(message, live=True)

    async def _hear(self, message: discord.Message, *, live: bool) -> None:
        """One that was written just now is acknowledged at once, even before it is claimed."""
        channel: Any = message.channel
        guild_id = message.guild.id if message.guild else None
        with self.marks.handling(channel.id, message.id, guild_id):
            if not self._is_for_us(message):
                return
            places = (channel.id, getattr(channel, "parent_id", None))
            if not await self.service.hears(message.author.id, guild_id, *places):
                return
            outlet = MessageOutlet(self, channel.id, message.id)
            if self._cannot_read(message):
                if channel.id not in self._told_to_mention:
                    self._told_to_mention.add(channel.id)
                    with suppress(Undeliverable):
                        await outlet.whisper(say.NEED_MENTION)
                return
            if live:
                self.spawn(self._acknowledge(message, outlet))
            if work := await self.service.ask(await self._event(message), outlet):
                self.spawn(work)

    async def _acknowledge(self, message: discord.Message, outlet: MessageOutlet) -> None:
        with suppress(Undeliverable):
            await outlet.typing()
            self._heard(message.created_at)

    def _heard(self, since: datetime.datetime) -> None:
        seconds = (discord.utils.utcnow() - since).total_seconds()
        self.service.metrics.acknowledged.observe(max(seconds, 0))

    def _is_for_us(self, message: discord.Message) -> bool:
        said = (discord.MessageType.default, discord.MessageType.reply)
        if message.author.bot or message.webhook_id or message.type not in said:
            return False
        if message.guild is None or self.user in message.mentions:
            return True
        if self._is_our_thread(message.channel):
            return True
        answered = message.reference.resolved if message.reference else None
        return isinstance(answered, discord.Message) and answered.author == self.user

    def _is_our_thread(self, channel: Any) -> bool:
        return isinstance(channel, discord.Thread) and channel.owner_id == self.application_id

    def _cannot_read(self, message: discord.Message) -> bool:
        """A message of a thread that Discord hands over without its text."""
        return not (
            self.settings.message_content_intent
            or message.guild is None
            or self.user in message.mentions
            or message.content
        )

    async def _event(self, message: discord.Message) -> Event:
        channel: Any = message.channel
        text = message.content
        if self.user:
            text = re.sub(rf"<@!?{self.user.id}>", " ", text)
        files = await self.read_files(message.attachments)
        reference = message.reference
        return Event(
            id=message.id,
            kind="message",
            asker=Asker(message.author.id, message.author.display_name),
            channel_id=channel.id,
            guild_id=message.guild.id if message.guild else None,
            text="\n\n".join(part for part in (clean(text), *files) if part),
            names={user.id: clean(user.display_name) for user in message.mentions},
            answers_to=reference.message_id if reference else None,
            quoted=_quoted(reference.resolved) if reference else None,
            continues=message.guild is None or self._is_our_thread(channel),
            home_id=getattr(channel, "parent_id", None),
        )

    async def read_files(self, attachments: Sequence[discord.Attachment]) -> list[str]:
        """The text in them; see `guildgpt.bot.files`."""
        files = [
            Attached(one.filename, one.content_type, one.size, partial(_delivered, one.read))
            for one in attachments
        ]
        limit = self.settings.attachment_bytes
        return await read_files(files, most=self.settings.attachments, limit_bytes=limit)

    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        """What a member takes back is taken out of the store as well."""
        await self.service.forget(payload.message_id)

    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        """What a moderator clears away, too."""
        for message_id in payload.message_ids:
            await self.service.forget(message_id)

    # Clicks and commands

    def is_new(self, interaction: discord.Interaction[Any]) -> bool:
        """Whether it comes for the first time: a resumed session may bring it again."""
        is_new = self._seen.add(interaction.id)
        self.service.metrics.duplicates.inc(not is_new)
        return is_new

    def event_of(self, interaction: discord.Interaction, kind: str, text: str = "") -> Event:
        """An interaction as an event."""
        channel: Any = interaction.channel
        return Event(
            id=interaction.id,
            kind=kind,
            asker=Asker(interaction.user.id, interaction.user.display_name),
            channel_id=interaction.channel_id or 0,
            guild_id=interaction.guild_id,
            text=text,
            continues=interaction.guild_id is None or self._is_our_thread(channel),
            home_id=getattr(channel, "parent_id", None),
            token=interaction.token,
        )

    async def begin(
        self,
        interaction: discord.Interaction,
        event: Event,
        step: Callable[[Event, Outlet], Awaitable[Rest]],
    ) -> None:
        """Claim an interaction, acknowledge it in time, and work on it.

        The claim comes first, so that what was acknowledged is never forgotten; unless the store
        is slow: Discord waits for three seconds only.
        """
        outlet = InteractionOutlet(self, event.channel_id, event.id, interaction.token)
        claim = asyncio.ensure_future(step(event, outlet))
        await asyncio.wait({claim}, timeout=ACKNOWLEDGE_SECONDS)
        if claim.done() and claim.result() is None:
            return  # nobody we answer
        try:
            await interaction.response.defer(thinking=True)
            self._heard(interaction.created_at)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log(LOGGER, "not_acknowledged", kind=event.kind, error=error)
            outlet.unheard = isinstance(error, discord.NotFound)
        if work := await claim:
            self.spawn(work)

    async def clicked(self, interaction: discord.Interaction, action: Action) -> None:
        """A button under one of the bot's messages."""
        user, channel = interaction.user.id, interaction.channel_id or 0
        if action.kind == "forget":
            await self.tell(interaction, self.forget(user), in_place=True)
        elif action.kind == "keep":
            with _may_be_too_late():
                await interaction.response.edit_message(content=say.FORGET_KEPT, view=None)
        elif self.service.ignores(user):
            log(LOGGER, "blocked", guild=interaction.guild_id)
        elif action.kind == "again":
            event = self.event_of(interaction, "retry")
            await self.begin(
                interaction, event, lambda e, outlet: self.service.again(e, outlet, action.id)
            )
        elif action.kind == "stop":
            await self.tell(
                interaction,
                self.service.stop(
                    user,
                    answer_id=action.id,
                    channel_id=channel,
                    admin=interaction.permissions.manage_messages,
                ),
            )
        else:
            giving = self.opinions.give(user, action, channel_id=channel)
            form = self._reason_form(action) if action.kind == "down" else None
            await self.tell(interaction, giving, form=form)

    def _reason_form(self, action: Action) -> Form:
        """What was wrong with an answer; may be left empty."""

        async def submitted(interaction: discord.Interaction, reason: str) -> None:
            giving = self.opinions.give(
                interaction.user.id,
                action,
                channel_id=interaction.channel_id or 0,
                reason=reason,
            )
            await self.tell(interaction, giving)

        field: discord.ui.TextInput[Any] = discord.ui.TextInput(
            label="What was wrong? (optional)",
            style=discord.TextStyle.paragraph,
            required=False,
            max_length=500,
        )
        return Form("Noted: 👎", field, submitted)

    async def forget(self, user_id: int) -> str:
        """Erase a member's everything, with what is not yet written of it."""
        await self.marks.save()
        return await self.opinions.forget(user_id)

    async def tell(
        self,
        interaction: discord.Interaction,
        sentence: Awaitable[str],
        *,
        form: Form | None = None,
        in_place: bool = False,
    ) -> None:
        """Tell the member alone, when it is done; acknowledge before where that takes long.

        `form` opens in place of the sentence that a 👎 is noted; `in_place` writes over the message
        that was clicked.
        """
        work = asyncio.ensure_future(_or_sorry(sentence))
        # An erasure rewrites the store's file: that takes long for sure.
        await asyncio.wait({work}, timeout=0 if in_place else ACKNOWLEDGE_SECONDS)
        with _may_be_too_late():
            answer = interaction.response
            if not work.done():
                await answer.defer(ephemeral=True, thinking=not in_place)
                text = await work
                if in_place:
                    await interaction.edit_original_response(content=text, view=None)
                else:
                    await interaction.followup.send(text, ephemeral=True)
            elif form and work.result() == say.RATED_DOWN:
                await answer.send_modal(form)
            elif in_place:
                await answer.edit_message(content=work.result(), view=None)
            else:
                await answer.send_message(work.result(), ephemeral=True)


@contextmanager
def _may_be_too_late() -> Iterator[None]:
    """What answers an interaction: if its time is over, nobody is told."""
    try:
        yield
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        log(LOGGER, "not_told", error=error)


def _quoted(message: object, *, bots_too: bool = False) -> Quoted | None:
    """Somebody's message that is asked about, if it has text."""
    if not isinstance(message, discord.Message) or (message.author.bot and not bots_too):
        return None
    author, text = message.author, clean(message.content)
    user_id = None if author.bot else author.id
    return Quoted(message.id, author.display_name, text, user_id) if text else None


async def _or_sorry(sentence: Awaitable[str]) -> str:
    """The sentence, or a friendly one where it cannot be had."""
    try:
        return await sentence
    except StoreError as error:
        log(LOGGER, "store_failed", error=error)
        return say.STORE_DOWN
    except Exception:
        LOGGER.exception("interaction failed")
        return say.FAILED


# Commands


class Commands(app_commands.CommandTree[GuildClient]):
    """The slash commands and the context menu."""

    def __init__(self, client: GuildClient):
        super().__init__(client)
        _add_questions(self)
        _add_rights(self)
        _add_admin(self)

    async def interaction_check(self, interaction: discord.Interaction[GuildClient]) -> bool:
        """Each only once."""
        return interaction.client.is_new(interaction)

    async def on_error(
        self, interaction: discord.Interaction[GuildClient], error: app_commands.AppCommandError
    ) -> None:
        """What nobody has foreseen."""
        LOGGER.error("command failed", exc_info=error)
        with _may_be_too_late():
            if interaction.response.is_done():
                await interaction.followup.send(say.FAILED, ephemeral=True)
            else:
                await interaction.response.send_message(say.FAILED, ephemeral=True)


At = discord.Interaction[GuildClient]
Text = app_commands.Range[str, 1, 4000]


def _add_questions(tree: Commands) -> None:
    """What is answered."""

    @tree.command(description="Ask me something")
    @app_commands.describe(question="What you want to know", file="A text file to read with it")
    async def ask(interaction: At, question: Text, file: discord.Attachment | None = None) -> None:
        client = interaction.client

        async def with_file(event: Event, outlet: Outlet) -> Rest:
            files = await client.read_files([file] if file else [])
            text = "\n\n".join([event.text, *files])
            return await client.service.ask(replace(event, text=text), outlet)

        await client.begin(
            interaction, client.event_of(interaction, "slash", clean(question)), with_file
        )

    @tree.command(description="Talk with me in a thread of its own")
    @app_commands.describe(topic="What it is about; I answer it as your first question")
    @app_commands.guild_only()
    async def chat(interaction: At, topic: app_commands.Range[str, 1, 2000] | None = None) -> None:
        client = interaction.client
        title = clean(topic or "") or say.chat_with(interaction.user.display_name)
        event = client.event_of(interaction, "slash", title)

        async def opened() -> str:
            refusal = await client.service.refusal(event)
            if refusal is not None:
                return refusal or say.FAILED
            thread = await _thread(interaction, title)
            if thread is None:
                return say.NO_THREADS
            if topic:
                first = replace(
                    event,
                    channel_id=thread.id,
                    home_id=event.channel_id,
                    continues=True,
                    token=None,
                )
                outlet = MessageOutlet(client, thread.id)
                if work := await client.service.ask(first, outlet):
                    client.spawn(work)
            return say.here(thread.mention)

        if not client.service.ignores(interaction.user.id):
            await client.tell(interaction, opened())

    @tree.command(description="Answer my last question here once more")
    async def retry(interaction: At) -> None:
        client = interaction.client
        event = client.event_of(interaction, "retry")
        await client.begin(interaction, event, lambda e, out: client.service.again(e, out, None))

    @tree.command(description="Two answers to one question: you say which is better")
    @app_commands.describe(question="What you want to know")
    async def compare(interaction: At, question: Text) -> None:
        client = interaction.client
        event = client.event_of(interaction, "compare", clean(question))
        await client.begin(interaction, event, client.service.compare)

    @tree.context_menu(name="Ask about this")
    async def ask_about_this(interaction: At, message: discord.Message) -> None:
        quoted = _quoted(message, bots_too=True)
        if quoted is None:
            with _may_be_too_late():
                await interaction.response.send_message(say.NO_TEXT, ephemeral=True)
            return

        async def submitted(at: Any, question: str) -> None:
            client = interaction.client
            event = replace(
                client.event_of(at, "context", question), answers_to=message.id, quoted=quoted
            )
            await client.begin(at, event, client.service.ask)

        field: discord.ui.TextInput[Any] = discord.ui.TextInput(
            label="What do you want to know?", default="What does this mean?", max_length=1000
        )
        with _may_be_too_late():
            await interaction.response.send_modal(Form("Ask about this", field, submitted))

    @tree.command(description="Stop the answer you are getting here")
    async def stop(interaction: At) -> None:
        client = interaction.client
        stopping = client.service.stop(
            interaction.user.id,
            answer_id=None,
            channel_id=interaction.channel_id or 0,
            admin=False,
        )
        await client.tell(interaction, stopping)


async def _thread(interaction: At, title: str) -> discord.Thread | None:
    """A thread with the member in it; None where there can be none."""
    if not isinstance(interaction.channel, discord.TextChannel):
        return None
    try:
        kind = discord.ChannelType.public_thread
        thread = await interaction.channel.create_thread(name=title[:90], type=kind)
        await thread.add_user(interaction.user)
        return thread
    except discord.HTTPException as error:
        log(LOGGER, "no_thread", error=error)
        return None


def _add_rights(tree: Commands) -> None:
    """What everybody may know and decide."""

    @tree.command(name="help", description="How to talk to me")
    async def help_(interaction: At) -> None:
        with _may_be_too_late():
            await interaction.response.send_message(say.HELP, ephemeral=True)

    @tree.command(description="What people here think of my answers")
    async def stats(interaction: At) -> None:
        client = interaction.client
        await client.tell(interaction, client.opinions.stats(interaction.guild_id))

    @tree.command(description="What I keep of you, and for how long")
    @app_commands.describe(consent="What I may keep and use; leave it out to see what you chose")
    async def privacy(
        interaction: At, consent: Literal["none", "chat", "train"] | None = None
    ) -> None:
        client = interaction.client
        await client.tell(interaction, client.opinions.privacy(interaction.user.id, consent))

    @tree.command(name="forget-me", description="Delete everything I keep about you")
    async def forget_me(interaction: At) -> None:
        choices = _view([Action("forget", str(uuid4())), Action("keep", str(uuid4()))])
        with _may_be_too_late():
            await interaction.response.send_message(say.FORGET_ASK, view=choices, ephemeral=True)


def _add_admin(tree: Commands) -> None:
    """What the admins of a guild decide."""

    async def change(interaction: At, said: str = "", **changes: Any) -> None:
        client = interaction.client

        async def changed() -> str:
            rules = await client.service.guilds.change(interaction.guild_id or 0, **changes)
            return said or say.rules([f"<#{id}>" for id in rules.channels], rules.feedback)

        await client.tell(interaction, changed())

    @tree.command(description="How I should behave in this server (for admins)")
    @app_commands.describe(text="Instructions that I always see; leave it out to use my usual ones")
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def system(interaction: At, text: app_commands.Range[str, 1, 2000] | None = None) -> None:
        said = say.SYSTEM_SET if text else say.SYSTEM_CLEARED
        await change(interaction, said, system=clean(text) if text else None)

    @tree.command(description="Where I answer, and whether I ask for opinions (for admins)")
    @app_commands.describe(
        channel="Answer in this channel; the first one ends my answering everywhere",
        everywhere="Answer in every channel again",
        feedback="Show 👍 👎 under my answers",
    )
    @app_commands.default_permissions(manage_guild=True)
    @app_commands.guild_only()
    async def settings(
        interaction: At,
        channel: discord.TextChannel | None = None,
        everywhere: bool | None = None,
        feedback: bool | None = None,
    ) -> None:
        changes: dict[str, Any] = {}
        if feedback is not None:
            changes["feedback"] = feedback
        if everywhere:
            changes["channels"] = []
        if channel:
            changes["add_channel"] = channel.id
        await change(interaction, **changes)
