"""The JSON shapes of Discord's API, version 10."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from simguild.fake.world import (
    Attachment,
    Channel,
    FakeMessage,
    Guild,
    Interaction,
    Member,
    Role,
    User,
    World,
)

Json = dict[str, Any]

# What channels of some kinds have beside what all have, by Discord's numbers.
_VOICE: Json = {"bitrate": 64000, "user_limit": 0, "rtc_region": None}
_FORUM: Json = {
    "available_tags": [],
    "default_reaction_emoji": None,
    "default_sort_order": None,
    "default_forum_layout": 0,
    "default_thread_rate_limit_per_user": 0,
}
_MORE = {2: _VOICE, 13: _VOICE, 15: _FORUM, 16: _FORUM}


def moment(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def created(id: int) -> str | None:
    """When something with this id was made."""
    return moment(((id >> 22) + 1_420_070_400_000) / 1000)


def user(who: User) -> Json:
    """A user."""
    return {
        "id": str(who.id),
        "username": who.name,
        "global_name": None,
        "discriminator": "0000" if who.bot else "0",
        "avatar": None,
        "bot": who.bot,
        "public_flags": 0,
    }


def member_part(who: Member) -> Json:
    """A member without the user inside, as messages carry it."""
    return {
        "roles": [str(role.id) for role in who.roles[1:]],  # @everyone is never listed
        "joined_at": moment(who.joined),
        "nick": None,
        "avatar": None,
        "premium_since": None,
        "deaf": False,
        "mute": False,
        "pending": False,
        "flags": 0,
    }


def member(who: Member) -> Json:
    """A member."""
    return {**member_part(who), "user": user(who.user)}


def role(one: Role) -> Json:
    """A role."""
    payload: Json = {
        "id": str(one.id),
        "name": one.name,
        "permissions": str(one.permissions),
        "position": one.position,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        "hoist": False,
        "managed": one.managed_by is not None,
        "mentionable": False,
        "flags": 0,
    }
    if one.managed_by is not None:
        payload["tags"] = {"bot_id": str(one.managed_by.id)}
    return payload


def channel(one: Channel) -> Json:
    """A channel of a guild, a thread or a direct conversation."""
    payload: Json = {
        "id": str(one.id),
        "type": one.kind,
        "last_message_id": str(one.messages[-1].id) if one.messages else None,
        "flags": 0,
    }
    if one.recipient is not None:
        return {**payload, "recipients": [user(one.recipient)]}
    assert one.guild is not None
    payload |= {"guild_id": str(one.guild.id), "name": one.name, "rate_limit_per_user": 0}
    if one.parent is not None and one.is_thread:
        return payload | _thread(one, one.parent)
    roles = {role.id for role in one.guild.roles}
    payload["permission_overwrites"] = [
        {"id": str(id), "type": int(id not in roles), "allow": str(allow), "deny": str(deny)}
        for id, (allow, deny) in one.overwrites.items()
    ]
    payload |= {"position": 0, "topic": None, "nsfw": False, "parent_id": None}
    return payload | _MORE.get(one.kind, {})


def _thread(one: Channel, parent: Channel) -> Json:
    payload: Json = {
        "parent_id": str(parent.id),
        "owner_id": str((one.owner or one.world.bot).id),
        "message_count": len(one.messages),
        "total_message_sent": len(one.messages),
        "member_count": len(one.members),
        "thread_metadata": {
            "archived": one.archived,
            "locked": one.locked,
            "auto_archive_duration": 1440,
            "archive_timestamp": created(one.id),
            "create_timestamp": created(one.id),
        },
    }
    if one.world.bot in one.members:
        payload["member"] = {
            "id": str(one.id),
            "user_id": str(one.world.bot.id),
            "join_timestamp": created(one.id),
            "flags": 0,
        }
    return payload


def guild(one: Guild) -> Json:
    """A server as GUILD_CREATE tells of it."""
    return {
        "id": str(one.id),
        "name": one.name,
        "owner_id": str(one.owner.id),
        "icon": None,
        "roles": [role(item) for item in one.roles],
        "emojis": [],
        "stickers": [],
        "features": [],
        "channels": [channel(item) for item in one.channels if not item.is_thread],
        "threads": [channel(item) for item in one.threads],
        "members": [member(item) for item in one.members.values()],
        "member_count": len(one.members),
        "joined_at": moment(one.created),
        "large": False,
        "presences": [],
        "voice_states": [],
        "stage_instances": [],
        "guild_scheduled_events": [],
        "verification_level": 0,
        "default_message_notifications": 0,
        "explicit_content_filter": 0,
        "mfa_level": 0,
        "nsfw_level": 0,
        "premium_tier": 0,
        "preferred_locale": "en-US",
        "system_channel_id": None,
        "system_channel_flags": 0,
        "afk_timeout": 300,
    }


def change(event: str, about: Any, of: Guild) -> Json:
    """What an event tells of a guild or of what changed in it: of a channel, if nothing else."""
    place = {"guild_id": str(of.id)}
    match event:
        case "GUILD_CREATE":
            return guild(about)
        case "GUILD_DELETE":
            return {"id": str(about.id)}
        case "GUILD_ROLE_CREATE":
            return {**place, "role": role(about)}
        case "GUILD_MEMBER_ADD":
            return {**member(about), **place}
        case "GUILD_MEMBER_REMOVE":
            return {**place, "user": user(about)}
        case "THREAD_DELETE":
            told = channel(about)
            return {key: told[key] for key in ("id", "guild_id", "parent_id", "type")}
    return channel(about)


def attachment(one: Attachment, world: World) -> Json:
    """A file of a message, with the address of the fake's own CDN."""
    url = f"{world.cdn}/attachments/{one.channel_id}/{one.id}/{quote(one.filename)}"
    payload: Json = {
        "id": str(one.id),
        "filename": one.filename,
        "size": len(one.content),
        "content_type": one.content_type,
        "url": url,
        "proxy_url": url,
    }
    if one.voice_seconds is not None:
        payload |= {"duration_secs": one.voice_seconds, "waveform": "AAAA"}
    return payload


_HIDDEN: Json = {"content": "", "embeds": [], "attachments": [], "components": []}


def message(one: FakeMessage, *, content: bool = True, nested: bool = True) -> Json:
    """A message as REST gives it.

    Without `content`, as the bot sees it that lacks the message content intent: empty, unless it
    is its own, mentions it, or came in a direct conversation.
    """
    world = one.channel.world
    shown = content or _exempt(one)
    payload: Json = {
        "id": str(one.id),
        "channel_id": str(one.channel.id),
        "author": user(one.author),
        "content": one.content if shown else "",
        "timestamp": created(one.id),
        "edited_timestamp": moment(one.edited),
        "type": one.kind,
        "flags": one.flags,
        "embeds": one.embeds if shown else [],
        "components": one.components if shown else [],
        "attachments": [attachment(file, world) for file in one.attachments] if shown else [],
        "mentions": [_mention(one, who) for who in one.mentions],
        "mention_roles": [str(item.id) for item in one.role_mentions],
        "mention_everyone": one.everyone,
        "pinned": False,
        "tts": False,
    }
    if one.nonce is not None:
        payload["nonce"] = one.nonce
    if one.thread is not None:
        payload["thread"] = channel(one.thread)
    if one.reactions:
        payload["reactions"] = [
            {
                "emoji": {"id": None, "name": emoji},
                "count": len(users),
                "count_details": {"normal": len(users), "burst": 0},
                "me": world.bot in users,
                "me_burst": False,
                "burst_colors": [],
            }
            for emoji, users in one.reactions.items()
        ]
    if one.interaction is not None:
        payload |= _origin(one, one.interaction)
    if one.author.webhook:
        payload["webhook_id"] = str(one.author.id)
    if one.poll is not None and shown:
        payload["poll"] = one.poll
    if one.stickers:
        payload["sticker_items"] = one.stickers
    if one.snapshots:
        payload["message_snapshots"] = [
            {"message": shot if shown else {**shot, **_HIDDEN}} for shot in one.snapshots
        ]
    if one.reference is not None:
        payload["message_reference"] = reference(one.reference, forwarded=bool(one.snapshots))
        if nested and not one.snapshots:
            there = not one.reference.deleted
            payload["referenced_message"] = (
                message(one.reference, content=content, nested=False) if there else None
            )
    return payload


def snapshot(one: FakeMessage) -> Json:
    """A message as a forward carries it: as it is now, without its author and its id."""
    whole = message(one, nested=False)
    kept = ("type", "content", "embeds", "attachments", "timestamp", "edited_timestamp", "flags")
    more = ("mentions", "mention_roles", "sticker_items", "components")
    return {key: whole[key] for key in (*kept, *more) if key in whole}


def reference(one: FakeMessage, *, forwarded: bool = False) -> Json:
    """Which message another one answers, or forwards."""
    payload: Json = {
        "type": int(forwarded),
        "message_id": str(one.id),
        "channel_id": str(one.channel.id),
    }
    if one.channel.guild is not None:
        payload["guild_id"] = str(one.channel.guild.id)
    return payload


def gateway_message(one: FakeMessage, *, content: bool = True) -> Json:
    """A message as events tell of it: with its guild and the author as member."""
    payload = message(one, content=content)
    guild = one.channel.guild
    if guild is not None:
        payload["guild_id"] = str(guild.id)
        author = guild.members.get(one.author.id)
        if author is not None:
            payload["member"] = member_part(author)
    return payload


def hides(one: FakeMessage) -> bool:
    """Whether it, or what it answers, looks otherwise without the message content intent."""
    return not (_exempt(one) and (one.reference is None or _exempt(one.reference)))


def _exempt(one: FakeMessage) -> bool:
    bot = one.channel.world.bot
    return one.channel.guild is None or one.author is bot or bot in one.mentions


def _mention(one: FakeMessage, who: User) -> Json:
    member = one.channel.guild.members.get(who.id) if one.channel.guild else None
    return {**user(who), "member": member_part(member)} if member else user(who)


def _origin(one: FakeMessage, interaction: Interaction) -> Json:
    application = str(interaction.channel.world.application_id)
    metadata: Json = {
        "id": str(interaction.id),
        "type": interaction.kind,
        "user": user(interaction.user),
        "authorizing_integration_owners": {},
    }
    if interaction.message is not None and interaction.message is not one:
        metadata["original_response_message_id"] = str(interaction.message.id)
    return {
        "application_id": application,
        "webhook_id": application,
        "interaction_metadata": metadata,
    }


def interaction(one: Interaction) -> Json:
    """INTERACTION_CREATE: a command, a click or a submitted modal."""
    world = one.channel.world
    guild = one.channel.guild
    payload: Json = {
        "id": str(one.id),
        "application_id": str(world.application_id),
        "type": one.kind,
        "token": one.token,
        "version": 1,
        "data": one.data,
        "channel_id": str(one.channel.id),
        "channel": {**channel(one.channel), "permissions": str(one.channel.permissions(one.user))},
        "app_permissions": str(one.channel.permissions(world.bot)),
        "attachment_size_limit": world.limits.upload_bytes,
        "locale": "en-US",
        "entitlements": [],
        "authorizing_integration_owners": {"0": str(guild.id) if guild else "0"},
        "context": 0 if guild else 1,
    }
    if one.source is not None:
        payload["message"] = message(one.source)
    if guild is None:
        return payload | {"user": user(one.user)}
    who = guild.members[one.user.id]
    return payload | {
        "guild_id": str(guild.id),
        "guild": {"id": str(guild.id), "locale": "en-US", "features": []},
        "guild_locale": "en-US",
        "member": {**member(who), "permissions": str(one.channel.permissions(one.user))},
    }


def application(world: World) -> Json:
    """The bot's application; its flags tell which privileged intents are switched on."""
    flags = world.presences_intent << 13 | world.members_intent << 15 | world.message_content << 19
    return {
        "id": str(world.application_id),
        "name": world.bot.name,
        "description": "",
        "icon": None,
        "bot_public": True,
        "bot_require_code_grant": False,
        "verify_key": "0" * 64,
        "owner": user(world.owner),
        "flags": flags,
        "approximate_guild_count": len(world.guilds),
    }


def command_channel(one: Channel, permissions: int) -> Json:
    """A channel as a command's option resolves it."""
    return {**channel(one), "permissions": str(permissions)}
