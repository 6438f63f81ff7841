"""The text in a message: its words, what stands in embeds, components and polls, and its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import discord

from guildgpt.bot.adapter.reaching import delivered
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text.files import Attached, Unseen, not_seen, read_files
from guildgpt.bot.text.markup import in_words
from guildgpt.text.visible import clean

Said = discord.Message | discord.MessageSnapshot


def readable(text: str, guild: discord.Guild | None) -> str:
    """The text without what cannot be seen, and with Discord's marks in words: things go by the
    names that the guild has for them."""

    def name(thing: Any) -> str | None:
        return thing.name if thing else None

    return clean(
        in_words(
            text,
            role=lambda id: name(guild and guild.get_role(id)),
            channel=lambda id: name(guild and guild.get_channel_or_thread(id)),
        )
    )


def words(said: Said, guild: discord.Guild | None) -> str:
    """What people read in a message, its files aside."""
    parts = [readable(part, guild) for part in (said.content, *_shown(said))]
    return "\n\n".join(part for part in parts if part)


async def contents(said: Said, guild: discord.Guild | None, settings: BotSettings) -> str:
    """All the text in a message, and a line on what of it cannot be seen; '' without any text."""
    texts, unseen = await files(said.attachments, settings)
    found = [part for part in (words(said, guild), *texts) if part]
    if found:
        found.append(not_seen([*unseen, *stickers(said)]))
    return "\n\n".join(part for part in found if part)


async def files(
    attachments: Sequence[discord.Attachment], settings: BotSettings
) -> tuple[list[str], list[Unseen]]:
    """The text in attached files, and those without any; see `guildgpt.bot.text.files`."""
    return await read_files(
        [_attached(one) for one in attachments],
        most=settings.attachments,
        limit_bytes=settings.attachment_bytes,
    )


def may_be_text(said: Said) -> bool:
    """Whether one of its files may hold text, by what the files say of themselves."""
    return any(_attached(one).kind == "file" for one in said.attachments)


def stickers(said: Said) -> list[Unseen]:
    """A message's stickers: pictures that nobody here can see."""
    return [Unseen("sticker", one.name) for one in said.stickers]


def _attached(one: discord.Attachment) -> Attached:
    return Attached(one.filename, one.content_type, one.size, partial(delivered, one.read))


def _shown(said: Said) -> Iterator[str]:
    """What a message shows beside its content. A link's preview is an embed, too."""
    for embed in said.embeds:
        fields = [f"{field.name}: {field.value}" for field in embed.fields]
        parts = [embed.author.name, embed.title, embed.description, *fields, embed.footer.text]
        yield "\n".join(part for part in parts if part)
    yield from _displayed(said.components)
    yield poll(said)


def poll(said: Said) -> str:
    """What is asked in a poll, and what can be chosen; '' without one. Forwards carry none."""
    found = getattr(said, "poll", None)
    return "\n".join([found.question, *(f"- {one.text}" for one in found.answers)]) if found else ""


def _displayed(components: Sequence[Any]) -> Iterator[str]:
    for component in components:
        if isinstance(component, discord.TextDisplay):
            yield component.content
        yield from _displayed(getattr(component, "children", ()))
