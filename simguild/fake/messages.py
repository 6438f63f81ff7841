"""Messages come, change and go, and the clients hear of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simguild.fake import limits, payloads
from simguild.fake.errors import ApiError, Fault, invalid_form
from simguild.fake.forms import check_message, empty_message, unknown_keys
from simguild.fake.permissions import Permission
from simguild.fake.world import (
    DM_MESSAGES,
    EPHEMERAL,
    LOADING,
    MESSAGES,
    Attachment,
    Channel,
    FakeMessage,
    Role,
    User,
    World,
)

Json = dict[str, Any]
_USER, _ROLE = re.compile(r"<@!?(\d+)>"), re.compile(r"<@&(\d+)>")
_EVERYONE = re.compile(r"@(everyone|here)\b")
_BOT_MAY_SET = 1 << 2 | EPHEMERAL | 1 << 12  # no link previews, ephemeral, silent


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in."""

    filename: str
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


@dataclass(slots=True)
class Pings:
    """Who a content calls."""

    users: list[User] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    everyone: bool = False

    def __bool__(self) -> bool:
        return bool(self.users or self.roles or self.everyone)


def called(content: str, channel: Channel) -> Pings:
    """Whom the text names, whether or not they will be pinged."""
    world = channel.world
    ids = dict.fromkeys(int(id) for id in _USER.findall(content))
    users = [world.users[id] for id in ids if id in world.users]
    if channel.guild is None:
        return Pings(users)
    named = {int(id) for id in _ROLE.findall(content)}
    roles = [role for role in channel.guild.roles if role.id in named]
    return Pings(users, roles, bool(_EVERYONE.search(content)))


def allowed(pings: Pings, rule: Json | None) -> Pings:
    """What `allowed_mentions` lets through; everything where it was left out."""
    if rule is None:
        return pings
    parse = rule.get("parse") or []
    users = {int(id) for id in rule.get("users") or []}
    roles = {int(id) for id in rule.get("roles") or []}
    return Pings(
        [user for user in pings.users if "users" in parse or user.id in users],
        [role for role in pings.roles if "roles" in parse or role.id in roles],
        pings.everyone and "everyone" in parse,
    )


def post(world: World, message: FakeMessage, *, ping_reply: bool) -> FakeMessage:
    """Put a message of which the pings are known into its channel, and tell the clients."""
    target = message.reference
    if ping_reply and target is not None and target.author not in message.mentions:
        message.mentions.append(target.author)
    if message.ephemeral:
        return message
    channel = message.channel
    channel.messages.append(message)
    world.messages[message.id] = message
    if message.author is not world.bot:
        channel.waiting.append(message)
    elif message.interaction is None:
        notice(channel, target)
    _tell(message, "MESSAGE_CREATE")
    return message


def notice(channel: Channel, target: FakeMessage | None = None) -> None:
    """The bot showed a sign of life: to the author of `target`, or to all who wait here."""
    now = channel.world.clock()
    for message in list(channel.waiting):
        if target is None or message is target:
            message.reacted_ms = (now - message.sent) * 1000
            channel.waiting.remove(message)


def write(
    channel: Channel,
    body: Json,
    files: dict[int, Upload],
    *,
    known: set[str],
    reference: FakeMessage | None = None,
    kind: int = 0,
    flags: int = 0,
    allow_empty: bool = False,
) -> FakeMessage:
    """The message that the bot's `body` asks for, checked, not yet posted."""
    world = channel.world
    note_unknown(world, "a message", body, known)
    check_message(body)
    _check_files(world, files)
    content = (body.get("content") or "").strip()  # Discord trims
    _moderate(channel, content)
    pings = _pings(channel, content, body)
    message = FakeMessage(
        world.new_id(),
        channel,
        world.bot,
        content,
        world.clock(),
        embeds=body.get("embeds") or [],
        components=body.get("components") or [],
        reference=reference,
        flags=body.get("flags", 0) & _BOT_MAY_SET | flags,
        kind=kind,
        nonce=str(body["nonce"]) if body.get("nonce") is not None else None,
        mentions=pings.users,
        role_mentions=pings.roles,
        everyone=pings.everyone,
    )
    message.attachments = attach(channel, list(files.values()))
    if not (allow_empty or _shows_something(message)):
        raise empty_message()
    return message


def rewrite(message: FakeMessage, body: Json, files: dict[int, Upload], known: set[str]) -> None:
    """Change a message of the bot as `body` asks, and tell the clients."""
    world = message.channel.world
    note_unknown(world, "an edit", body, known)
    check_message(body)
    _check_files(world, files)
    content = message.content
    if "content" in body:
        content = (body["content"] or "").strip()
    kept = message.attachments
    if body.get("attachments") is not None:
        ids = {int(one["id"]) for one in body["attachments"]}
        kept = [one for one in kept if one.id in ids]
    embeds = body["embeds"] or [] if "embeds" in body else message.embeds
    components = body["components"] or [] if "components" in body else message.components
    if not (content or embeds or components or kept or files):
        raise empty_message()
    _moderate(message.channel, content)
    pings = _pings(message.channel, content, body)
    message.content, message.embeds, message.components = content, embeds, components
    message.attachments = kept + attach(message.channel, list(files.values()))
    message.mentions, message.role_mentions = pings.users, pings.roles
    message.everyone = pings.everyone
    message.flags &= ~LOADING
    if "content" in body:
        message.edits.append(content)
    message.edited = world.time()
    tell_edit(message)


def tell_edit(message: FakeMessage) -> None:
    """MESSAGE_UPDATE, unless only one user sees the message."""
    if not message.ephemeral:
        _tell(message, "MESSAGE_UPDATE")


def remove(message: FakeMessage) -> None:
    """Delete a message and tell the clients; it stays in its channel's list, marked."""
    _mark_deleted(message)
    if not message.ephemeral:
        _tell_deleted(message.channel, "MESSAGE_DELETE", {"id": str(message.id)})


def remove_many(gone: Sequence[FakeMessage]) -> None:
    """The same for 2 to 100 messages of a guild's channel, told at once."""
    (channel,) = {message.channel for message in gone}
    assert 2 <= len(gone) <= limits.HISTORY
    assert channel.guild
    for message in gone:
        _mark_deleted(message)
    ids = [str(message.id) for message in gone]
    _tell_deleted(channel, "MESSAGE_DELETE_BULK", {"ids": ids})


def _mark_deleted(message: FakeMessage) -> None:
    message.deleted = True
    if message in message.channel.waiting:
        message.channel.waiting.remove(message)


def _tell_deleted(channel: Channel, event: str, which: Json) -> None:
    payload = {**which, "channel_id": str(channel.id)}
    if channel.guild is not None:
        payload["guild_id"] = str(channel.guild.id)
    channel.world.publish(
        event, payload, guild=channel.guild, channel=channel, intent=_intent(channel)
    )


def attach(channel: Channel, uploads: list[Upload]) -> list[Attachment]:
    """Put files on the fake's own CDN."""
    world = channel.world
    done = []
    for file in uploads:
        one = Attachment(world.new_id(), channel.id, file.filename, file.content, file.content_type)
        world.files[one.id] = one
        done.append(one)
    return done


def note_unknown(world: World, what: str, body: Json, known: set[str]) -> None:
    """Record keys that Discord would ignore in silence."""
    world.violations += [f"{what} has an unknown key: {key}" for key in unknown_keys(body, known)]


def may_call_everyone(channel: Channel, user: User) -> bool:
    """Whether @everyone works for `user` here."""
    return channel.guild is not None and channel.can(user, Permission.MENTION_EVERYONE)


def _pings(channel: Channel, content: str, body: Json) -> Pings:
    pings = allowed(called(content, channel), body.get("allowed_mentions"))
    if pings:
        channel.world.violations.append(f"a message that pings: {content[:80]!r}")
    pings.everyone = pings.everyone and may_call_everyone(channel, channel.world.bot)
    return pings


def _moderate(channel: Channel, content: str) -> None:
    """AutoMod: what a guild does not want said is neither posted nor edited into a message."""
    blocked = channel.guild.blocked_words if channel.guild else []
    if any(word in content.casefold() for word in blocked):
        raise ApiError(400, 200000, "Message was blocked by automatic moderation")


def _check_files(world: World, files: dict[int, Upload]) -> None:
    if len(files) > limits.FILES:
        raise invalid_form([Fault("files", "BASE_TYPE_BAD_LENGTH", f"At most {limits.FILES}.")])
    if sum(len(file.content) for file in files.values()) > world.limits.upload_bytes:
        words = "a file that is too large"
        raise ApiError(413, 40005, "Request entity too large", violation=words)


def _shows_something(message: FakeMessage) -> bool:
    return bool(message.content or message.embeds or message.components or message.attachments)


def _intent(channel: Channel) -> int:
    return DM_MESSAGES if channel.guild is None else MESSAGES


def _tell(message: FakeMessage, event: str) -> None:
    hides = payloads.hides(message)
    channel = message.channel
    channel.world.publish(
        event,
        payloads.gateway_message(message),
        guild=channel.guild,
        channel=channel,
        intent=_intent(channel),
        bare=payloads.gateway_message(message, content=False) if hides else None,
    )
