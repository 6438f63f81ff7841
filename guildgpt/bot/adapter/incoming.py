"""What of all that comes from Discord is meant for the bot, and the text in a message: its words,
what stands in embeds, components and polls, and its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import discord

from guildgpt.bot.adapter.reaching import delivered
from guildgpt.bot.answers.events import Asker, Event
from guildgpt.bot.answers.outlet import Undeliverable
from guildgpt.bot.operating.logs import EventLog
from guildgpt.bot.operating.settings import BotSettings
from guildgpt.bot.text.files import Unseen, kind_of, not_seen, read_attachment
from guildgpt.text.visible import clean

log = EventLog(__name__)
LARGEST = 1 << 20  # bytes of a file of which at least the beginning is read
SAID = (discord.MessageType.default, discord.MessageType.reply)
Said = discord.Message | discord.MessageSnapshot
_ID = "[0-9]{1,20}"
_MARK = re.compile(
    rf"<(?:a?:(?P<emoji>\w{{1,32}}):{_ID}"
    rf"|@&(?P<role>{_ID})"
    rf"|#(?P<channel>{_ID})"
    r"|t:(?P<moment>-?[0-9]{1,13})(?::\w)?"
    rf"|/(?P<command>[^:<>\n]{{1,100}}):{_ID}"
    rf"|id:(?P<page>[\w-]{{1,32}})(?::{_ID})?)>"
)


def is_for_us(message: discord.Message, me: discord.ClientUser | None) -> bool:
    """Whether somebody talks to the bot: by its name, in a reply, in its thread, directly."""
    if message.author.bot or message.webhook_id or message.type not in SAID:
        return False
    if message.guild is None or me in message.mentions or calls_our_role(message):
        return True
    if is_thread_of(message.channel, me):
        return True
    answered = replied_to(message)
    return answered is not None and answered.author == me


def replied_to(message: discord.Message) -> discord.Message | None:
    """The message that is replied to, if it is at hand."""
    resolved = message.reference.resolved if message.reference else None
    return resolved if isinstance(resolved, discord.Message) else None


def calls_our_role(message: discord.Message) -> bool:
    """Whether it mentions the role that Discord made for the bot, which looks like its name."""
    role = message.guild.self_role if message.guild else None
    return role is not None and (
        role in message.role_mentions or role.id in message.raw_role_mentions
    )


def is_thread_of(channel: Any, me: discord.ClientUser | None) -> bool:
    """Whether the bot opened the thread: all of it is one conversation."""
    return me is not None and isinstance(channel, discord.Thread) and channel.owner_id == me.id


def starter_id(channel: Any, me: discord.ClientUser | None) -> int | None:
    """The id of the message that somebody's thread began with: it is the thread's own. The bot's
    threads begin with nothing."""
    is_theirs = isinstance(channel, discord.Thread) and not is_thread_of(channel, me)
    return channel.id if is_theirs else None


def is_hidden(
    message: discord.Message, me: discord.ClientUser | None, settings: BotSettings
) -> bool:
    """Whether Discord keeps the text of a message from the bot: an empty one says nothing then. Of
    a server's messages the bot gets the text of those that mention it as a user, and not of others
    in its threads or that call its role."""
    return not (settings.message_content_intent or message.guild is None or me in message.mentions)


def edited_out(message: discord.Message) -> Event:
    """A message that the bot may no longer read: it says nothing any more."""
    return Event(
        id=message.id,
        kind="message",
        asker=asker(message.author),
        channel_id=message.channel.id,
        edited_at=message.edited_at,
    )


def interaction_event(
    interaction: discord.Interaction[Any], kind: str, text: str = "", *, again: str | None = None
) -> Event:
    """A command, a click or a form as an event; `again`: see `Event`."""
    channel: Any = interaction.channel
    return Event(
        id=interaction.id,
        kind=kind,
        asker=asker(interaction.user),
        channel_id=interaction.channel_id or 0,
        guild_id=interaction.guild_id,
        text=readable(text, interaction.guild),
        continues=interaction.guild_id is None or is_thread_of(channel, interaction.client.user),
        home_id=getattr(channel, "parent_id", None),
        starter_id=starter_id(channel, interaction.client.user),
        token=interaction.token,
        again=again,
    )


def asker(user: discord.User | discord.Member) -> Asker:
    """Who asks."""
    return Asker(user.id, clean(user.display_name))


# The text in a message


def readable(text: str, guild: discord.Guild | None) -> str:
    """The text without what cannot be seen, and with Discord's marks in words: `:emoji:`, `@role`,
    `#channel`, `/command` and times in UTC. Things go by the names that the guild has for them;
    people stay `<@id>`: their names go when they go."""

    def worded(found: re.Match[str]) -> str:
        match found.lastgroup:
            case "emoji":
                return f":{found['emoji']}:"
            case "role":
                return f"@{_named(guild and guild.get_role(int(found['role'])), 'unknown role')}"
            case "channel":
                id = int(found["channel"])
                return f"#{_named(guild and guild.get_channel_or_thread(id), 'unknown')}"
            case "moment":
                return _moment(int(found["moment"])) or found[0]
            case "command":
                return f"/{found['command']}"
        return f"#{found['page']}"  # a page of the server, such as its guide

    return clean(_MARK.sub(worded, text))


def _named(thing: Any, unknown: str) -> str:
    return clean(thing.name if thing else "") or unknown


def _moment(seconds: int) -> str | None:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # nobody's calendar has it
        return None
    return f"{moment:%H:%M UTC} on {moment.date().isoformat()}"


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
    """The text of the first attached files, of each its beginning; and the other files."""
    texts: list[str] = []
    unseen: list[Unseen] = []
    most = settings.attachment_bytes
    for index, one in enumerate(attachments):
        text = None
        if index < settings.attachments and one.size <= max(most, LARGEST):
            try:
                data = await delivered(one.read)
                text = read_attachment(one.filename, one.content_type, data, most)
            except Undeliverable as error:
                log("attachment_failed", error=error)
        if text is None:
            unseen.append(Unseen(kind_of(one.content_type), one.filename))
        else:
            texts.append(text)
    if unseen:
        log("attachments_left_out", count=len(unseen))
    return texts, unseen


def may_be_text(said: Said) -> bool:
    """Whether one of its files may hold text, by what the files say of themselves."""
    return any(kind_of(one.content_type) == "file" for one in said.attachments)


def stickers(said: Said) -> list[Unseen]:
    """A message's stickers: pictures that nobody here can see."""
    return [Unseen("sticker", one.name) for one in said.stickers]


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
