"""A bot's account: what Discord says of it, and Discord's refusals in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import discord

from guildgpt.bot.operating.check import Account
from guildgpt.errors import GuildError

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
