"""`guildgpt bot --check`: what is there, what is missing, and how to invite the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from guildgpt.bot.answers.systems import check_operators
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.engines.llamacpp_process import check_llamacpp
from guildgpt.errors import GuildError
from guildgpt.feedback.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.model.gguf_file import check_whole
from guildgpt.model.locate import Located, locate
from guildgpt.talk.fitting import room_beside
from guildgpt.talk.opened import open_model


@dataclass(frozen=True, slots=True)
class Account:
    """What Discord says of a token's bot; `lacking`: the permissions each guild does not give."""

    name: str
    invite: str
    public: bool
    reads_content: bool
    lacking: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; without it the bot does not run, or only partly."""

    what: str
    ok: bool
    says: str
    needed: bool = True


async def check(
    settings: BotSettings, inquire: Callable[[str], Awaitable[Account]]
) -> tuple[list[Finding], str | None]:
    """Look at token, intents, guilds, model and store; the findings and the invite link."""
    token = settings.token.get_secret_value()
    account = None
    findings = []
    if not token:
        findings.append(
            Finding(
                "token",
                False,
                "there is none: set DISCORD_TOKEN to that of your bot, from "
                "https://discord.com/developers/applications, page Bot, button Reset Token",
            )
        )
    else:
        try:
            account = await inquire(token)
            findings.append(Finding("token", True, f"it is that of {account.name}"))
        except GuildError as error:
            findings.append(Finding("token", False, f"{error.what}. {error.remedy}"))
    if account:
        findings += [_intents(settings, account), *_guilds(account)]
    findings += [*await _model(settings), await _store(settings)]
    return findings, account.invite if account else None


def _intents(settings: BotSettings, account: Account) -> Finding:
    name = "message content intent"
    if settings.message_content_intent and not account.reads_content:
        return Finding(
            name,
            False,
            "it is on in your settings but off at Discord: switch on MESSAGE CONTENT INTENT in "
            "the developer portal, page Bot, or set message_content_intent = false",
        )
    if settings.message_content_intent:
        return Finding(name, True, "on: I read whole threads")
    return Finding(
        name, True, "off: I read what mentions me or replies to me, commands and direct messages"
    )


def _guilds(account: Account) -> list[Finding]:
    if not account.lacking:
        says = "I am in none yet: open the invite link below"
        return [Finding("guilds", False, says, needed=False)]
    return [
        Finding(
            f"guild {name}",
            not lacking,
            f"I lack: {', '.join(lacking)}" if lacking else "I have the permissions I need",
            needed=False,
        )
        for name, lacking in account.lacking.items()
    ]


async def _model(settings: BotSettings) -> list[Finding]:
    try:
        found = locate(settings.model)
        check_whole(found.gguf)
    except GuildError as error:
        return [Finding("model", False, f"{error.what}. {error.remedy or ''}".strip())]
    size = f"{found.gguf.stat().st_size / 2**20:.0f} MiB"
    engine = await asyncio.to_thread(_engine)
    findings = [Finding("model", True, f"{found.name} ({size})"), engine]
    if engine.ok and settings.system.strip():
        findings.append(await _system(settings, found))
    return findings


def _engine() -> Finding:
    try:
        check_llamacpp()
    except GuildError as error:
        return Finding("engine", False, f"{error.what}. {error.remedy or ''}".strip())
    return Finding("engine", True, "llama.cpp starts")


async def _system(settings: BotSettings, found: Located) -> Finding:
    """The operator's system text, counted by the model itself."""
    try:
        model = open_model(found, context=settings.context)
        try:
            room = room_beside(model, settings.system, settings.max_tokens)
        finally:
            await model.engine.close()
        check_operators(room)
    except GuildError as error:
        return Finding("system", False, f"{error.what}. {error.remedy or ''}".strip())
    return Finding("system", True, f"it takes {room.takes:,} of {room.context:,} tokens")


async def _store(settings: BotSettings) -> Finding:
    try:
        async with await Store.open(settings.store, key=member_key(settings.store)):
            return Finding("store", True, "it opens, and its tables are up to date")
    except GuildError as error:
        return Finding("store", False, f"{error.what}. {error.remedy or ''}".strip())
