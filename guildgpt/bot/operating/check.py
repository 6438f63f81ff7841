"""`guildgpt bot --check`: what is there, what is missing, and how to invite the bot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from guildgpt.bot.answers.systems import check_operators
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.engines.llamacpp_process import check_llamacpp
from guildgpt.engines.served_at import served_at
from guildgpt.errors import GuildError
from guildgpt.feedback.storage.location import member_key
from guildgpt.feedback.store import Store
from guildgpt.model.locate import Located, locate
from guildgpt.model.version import check_model
from guildgpt.talk.fitting import room_beside
from guildgpt.talk.fleet import open_model


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
    findings: list[Finding] = []
    account = None
    if token:
        with _told(findings, "token"):
            account = await inquire(token)
            findings.append(Finding("token", True, f"it is that of {account.name}"))
            findings += [_intents(settings, account), *_guilds(account)]
    else:
        says = (
            "there is none: set DISCORD_TOKEN to that of your bot, from "
            "https://discord.com/developers/applications, page Bot, button Reset Token"
        )
        findings.append(Finding("token", False, says))
    with _told(findings, "model"):
        found = locate(settings.model)
        check_model(found.gguf)
        size = f"{found.gguf.stat().st_size / 2**20:.0f} MiB"
        findings.append(Finding("model", True, f"{found.name} ({size})"))
        with _told(findings, "engine"):
            findings.append(await asyncio.to_thread(_engine, settings, found))
        if findings[-1].ok and settings.system.strip():
            with _told(findings, "system"):
                findings.append(await _system(settings, found))
    with _told(findings, "store"):
        async with await Store.open(settings.store, key=member_key(settings.store)) as store:
            findings.append(Finding("store", True, "it opens, and its tables are up to date"))
            released = await _released(store)
        if any(one.ok for one in released):  # the settings' model is for when none of these starts
            findings[:] = [
                replace(one, needed=one.needed and one.what != "model") for one in findings
            ]
        findings += released
    return findings, account.invite if account else None


@contextmanager
def _told(findings: list[Finding], what: str) -> Iterator[None]:
    """What is wrong with one thing becomes a finding."""
    try:
        yield
    except GuildError as error:
        findings.append(Finding(what, False, f"{error.what}. {error.remedy or ''}".strip()))


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
        return [
            Finding("guilds", False, "I am in none yet: open the invite link below", needed=False)
        ]
    return [
        Finding(
            f"guild {name}",
            not lacking,
            f"I lack: {', '.join(lacking)}" if lacking else "I have the permissions I need",
            needed=False,
        )
        for name, lacking in account.lacking.items()
    ]


async def _released(store: Store) -> list[Finding]:
    """The versions of the newest release: it goes before the model of the settings."""
    known = {version.id: version for version in await store.versions.all()}
    findings = []
    for one in await store.releases.current():
        what, version = f"version {one.version_id}", known.get(one.version_id)
        if version and version.trouble:
            says = f"it did not start: {version.trouble}"
            findings.append(Finding(what, False, says, needed=False))
            continue
        try:
            check_model(Path(version.path if version else ""))
        except GuildError as error:
            findings.append(Finding(what, False, f"it is left out: {error.what}", needed=False))
        else:
            findings.append(Finding(what, True, f"it answers {one.share:.0%}", needed=False))
    return findings


def _engine(settings: BotSettings, found: Located) -> Finding:
    """Whether llama.cpp starts here, or the settings' server answers; raises GuildError."""
    if at := served_at(settings.engine):
        model = open_model(found, context=settings.context, at=at)
        asyncio.run(model.engine.close())
        return Finding("engine", True, f"{at.url} serves it")
    check_llamacpp()
    return Finding("engine", True, "llama.cpp starts")


async def _system(settings: BotSettings, found: Located) -> Finding:
    """The operator's system text, counted by the model itself."""
    at = served_at(settings.engine)
    model = await asyncio.to_thread(open_model, found, context=settings.context, at=at)
    try:
        room = room_beside(model, settings.system, settings.max_tokens)
    finally:
        await model.engine.close()
    check_operators(room)
    return Finding("system", True, f"it takes {room.takes:,} of {room.context:,} tokens")
