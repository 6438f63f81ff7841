"""Reaching Discord: what passes is waited for, and what does not pass is told apart. And what
Discord says of a bot's account."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, chain, repeat
from json import JSONDecodeError
from types import SimpleNamespace
from typing import Any, TypeVar

import aiohttp
import discord

from guildgpt.bot.adapter.discord_time import DiscordTime
from guildgpt.bot.answers.outlet import Undeliverable, Why
from guildgpt.bot.answers.pacing import Pacer
from guildgpt.bot.operating.check import Account
from guildgpt.bot.operating.logs import EventLog
from guildgpt.errors import GuildError

log = EventLog(__name__)
T = TypeVar("T")

PATIENCE_SECONDS = 600.0  # for which what has to be written is tried
PAUSES = (1, 2, 5, 10, 30)  # seconds between tries; the last one again and again
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0  # the same for what is tried for ever, twice each time
FAULTS = (discord.HTTPException, aiohttp.ClientError, OSError, JSONDecodeError)
"""All that a request to Discord may raise."""

_CHANNEL = re.compile(r"/channels/(\d+)/messages")
_NO_PERMISSION = 403
_GONE = 404
_WITHHELD = {200000, 200001, 240000}  # Discord's codes: AutoMod (text, title), links filter
_CLOSED = {50083, 160005}  # ... an archived thread, a locked one


async def delivered(call: Callable[[], Awaitable[T]], *, patient: bool = True) -> T:
    """Call Discord; what it refuses for good becomes `Undeliverable`.

    While it cannot be reached, or it is called too often, it is called again, for ten minutes if
    `patient`; `Undeliverable` with `unreachable` when that is over.
    """
    pauses = chain(PAUSES, repeat(PAUSES[-1]))
    try:
        return await _tried(call, "discord_unreachable", pauses, PATIENCE_SECONDS * patient)
    except FAULTS as error:
        raise undeliverable(error) from error


async def insisted(
    call: Callable[[], Awaitable[T]],
    event: str,
    hopeful: Callable[[BaseException], bool] | None = None,
) -> T:
    """Call Discord for as long as it takes, each failure logged as `event`; raises what is not
    `hopeful`, by default what does not pass."""
    pauses = accumulate(repeat(FIRST_PAUSE), lambda pause, _: min(2 * pause, LONGEST_PAUSE))
    return await _tried(call, event, pauses, float("inf"), hopeful)


async def _tried(
    call: Callable[[], Awaitable[T]],
    event: str,
    pauses: Iterable[float],
    patience: float,
    hopeful: Callable[[BaseException], bool] | None = None,
) -> T:
    """Call Discord again after each of the pauses, until `patience` seconds are over."""
    end = time.monotonic() + patience
    for pause in pauses:
        try:
            return await call()
        except (*FAULTS, discord.GatewayNotFound, discord.app_commands.AppCommandError) as error:
            if not (hopeful or passes)(error):
                raise
            seconds = max(pause, retry_after(error))
            log(event, error=error, again_in=seconds)
            if time.monotonic() + seconds > end:
                raise
            await asyncio.sleep(seconds)
    raise AssertionError("the pauses never end")


def listening(clock: DiscordTime, pacer: Pacer) -> aiohttp.TraceConfig:
    """What hears every answer of Discord's. It tells its time. And it may say 429: discord.py
    waits; so must those who come after."""

    async def ended(session: Any, context: Any, request: Any) -> None:
        answer = request.response
        clock.answered(answer.headers.get("Date"))
        if answer.status != 429:
            return
        channel = _CHANNEL.search(request.url.path)
        seconds = wait_of(answer.headers) or 1.0
        if "Via" not in answer.headers:  # not Discord's own, but Cloudflare's, about everything
            pacer.hold_off(seconds)
        elif channel:
            pacer.slow_down(int(channel[1]), seconds)

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(ended)
    return trace


def once(session: aiohttp.ClientSession) -> Any:
    """A session for what must not be done twice: discord.py repeats by itself what a server says
    it could not do, though that may be done. Who asks looks before it asks again."""
    return SimpleNamespace(request=partial(session.request, raise_for_status=_raise_servers))


async def _raise_servers(response: aiohttp.ClientResponse) -> None:
    if response.status >= 500:
        raise discord.DiscordServerError(response, await response.text(errors="replace"))


def passes(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later.

    A page of HTML is not Discord's own word, whatever its status: it comes from what stands
    before it.
    """
    if not isinstance(error, discord.HTTPException):
        return isinstance(error, (*FAULTS, discord.GatewayNotFound))
    is_page = not error.code and error.text.lstrip().startswith("<")
    return error.status >= 500 or error.status == 429 or is_page


def retry_after(error: BaseException) -> float:
    """How many seconds it asks to wait; 0 if it does not say."""
    response = getattr(error, "response", None)
    return wait_of(response.headers) if response is not None else 0.0


def wait_of(headers: Mapping[str, str]) -> float:
    """The seconds in `Retry-After`; 0 without it, or where it is a date."""
    try:
        return max(float(headers.get("Retry-After", 0)), 0.0)
    except ValueError:
        return 0.0


def undeliverable(error: BaseException) -> Undeliverable:
    """Discord's refusal, in our words."""
    if passes(error) or not isinstance(error, discord.HTTPException):
        return Undeliverable("Discord cannot be reached", why="unreachable")
    why: Why = "refused"
    if error.code in _WITHHELD:
        why = "withheld"
    elif error.status == _GONE:
        why = "gone"
    elif error.status == _NO_PERMISSION or error.code in _CLOSED:
        why = "forbidden"
    return Undeliverable(f"{why} (status {error.status}, code {error.code})", why, error.code)


# The bot's account

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


@contextmanager
def explained() -> Iterator[None]:
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
    with explained():
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
