"""What the fake Discord knows: users, guilds, channels, threads and messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from simguild.fake.limits import Limits
from simguild.fake.permissions import ALL, EVERYONE, Permission, resolve

Json = dict[str, Any]

# Kinds of channels, flags of messages and intents, by Discord's numbers.
TEXT, DM, VOICE, CATEGORY, NEWS, STAGE, FORUM, MEDIA = 0, 1, 2, 4, 5, 13, 15, 16
NEWS_THREAD, PUBLIC_THREAD, PRIVATE_THREAD = 10, 11, 12
HAS_THREAD, EPHEMERAL, LOADING = 1 << 5, 1 << 6, 1 << 7
GUILDS, MEMBERS, PRESENCES, CONTENT = 1 << 0, 1 << 1, 1 << 8, 1 << 15
MESSAGES, REACTIONS, DM_MESSAGES, DM_REACTIONS = 1 << 9, 1 << 10, 1 << 12, 1 << 13

EPOCH = 1_420_070_400_000  # the first millisecond of 2015, from which Discord counts
_PAST = 157_766_400_000  # 2020, since when the simulated users and guilds have existed


@dataclass(eq=False)
class User:
    """An account."""

    id: int
    name: str
    bot: bool = False
    webhook: bool = False  # not an account: the id and name that a webhook writes under
    blocks_dms: bool = False  # the bot may not write to them

    @property
    def mention(self) -> str:
        """`<@id>`."""
        return f"<@{self.id}>"


@dataclass(eq=False)
class Role:
    """A role; the one with the guild's own id is @everyone."""

    id: int
    name: str
    permissions: int
    position: int
    managed_by: User | None = None

    @property
    def mention(self) -> str:
        """`<@&id>`."""
        return f"<@&{self.id}>"


@dataclass(eq=False)
class Member:
    """A user in a guild."""

    user: User
    roles: list[Role]
    joined: float


@dataclass(eq=False)
class Attachment:
    """A file, and what the fake's own CDN serves."""

    id: int
    channel_id: int
    filename: str
    content: bytes = field(repr=False)
    content_type: str
    voice_seconds: float | None = None  # of a voice message


@dataclass(eq=False)
class FakeMessage:
    """A message. `edits` are the contents it was given later, the last one being `content`."""

    id: int
    channel: Channel = field(repr=False)
    author: User
    content: str
    sent: float = field(repr=False)  # on the world's clock
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    reference: FakeMessage | None = None
    snapshots: list[Json] = field(default_factory=list)  # of a forward; `reference` is the original
    stickers: list[Json] = field(default_factory=list)
    poll: Json | None = None
    edits: list[str] = field(default_factory=list)
    deleted: bool = False
    attachments: list[Attachment] = field(default_factory=list)
    flags: int = 0
    kind: int = 0
    nonce: str | None = None
    mentions: list[User] = field(default_factory=list)
    role_mentions: list[Role] = field(default_factory=list)
    everyone: bool = False
    thread: Channel | None = None
    interaction: Interaction | None = field(default=None, repr=False)
    reactions: dict[str, list[User]] = field(default_factory=dict)
    edited: float | None = None  # seconds since 1970
    reacted_ms: float | None = None  # from its sending to the bot's first sign of life

    @property
    def ephemeral(self) -> bool:
        """Whether only the user of the interaction sees it."""
        return bool(self.flags & EPHEMERAL)

    @property
    def loading(self) -> bool:
        """Whether it is the "… is thinking" of a deferred answer."""
        return bool(self.flags & LOADING)

    @property
    def buttons(self) -> list[Json]:
        """Its buttons, row by row, as the bot sent them."""
        return [part for row in self.components for part in row["components"] if part["type"] == 2]


@dataclass(eq=False)
class Interaction:
    """What one person did, and how the bot answered."""

    id: int
    token: str = field(repr=False)
    kind: int
    user: User
    channel: Channel
    data: Json
    started: float = field(repr=False)  # on the world's clock
    source: FakeMessage | None = None  # the message with the button
    acknowledged_ms: float | None = None  # to the first response; None while there is none
    answer: int | None = None  # the kind of the first response
    message: FakeMessage | None = None  # what the bot knows as @original
    modal: Json | None = None  # the form that opened
    expired: bool = False
    undelivered: bool = False  # no client was there to hear of it, so the bot may be late
    sent: list[FakeMessage] = field(default_factory=list, repr=False)
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def responses(self) -> list[FakeMessage]:
        """The messages it was answered with, ephemeral ones too, in order; none "is thinking"."""
        return [message for message in self.sent if not message.loading]

    @property
    def failed(self) -> bool:
        """Whether the user reads "This interaction failed" (or "… did not respond")."""
        world = self.channel.world
        late = world.clock() - self.started > world.limits.interaction_seconds
        return self.acknowledged_ms is None and (late or self.expired)


class Publish(Protocol):
    """Tells connected clients; returns how many heard it at once."""

    def __call__(
        self,
        name: str,
        payload: Json,
        *,
        guild: Guild | None = None,
        channel: Channel | None = None,
        intent: int = 0,
        bare: Json | None = None,
    ) -> int: ...


class Tell(Protocol):
    """Tells connected clients of a guild or what is in it; the event decides what they read, to
    which `more` is added."""

    def __call__(
        self, event: str, about: Guild | Channel | Role | Member | User, guild: Guild, **more: Any
    ) -> None: ...


@dataclass(eq=False)
class Channel:
    """A channel of a guild, a thread or a direct conversation with the bot."""

    world: World = field(repr=False)
    id: int
    name: str
    kind: int = TEXT
    guild: Guild | None = field(default=None, repr=False)
    parent: Channel | None = None
    recipient: User | None = None
    owner: User | None = None
    members: list[User] = field(default_factory=list)  # of a thread
    overwrites: dict[int, tuple[int, int]] = field(default_factory=dict)
    messages: list[FakeMessage] = field(default_factory=list, repr=False)  # deleted ones, too
    archived: bool = False
    locked: bool = False
    typed: int = 0  # how often the bot showed that it is typing
    waiting: list[FakeMessage] = field(default_factory=list, repr=False)  # the bot is still silent

    @property
    def is_thread(self) -> bool:
        """Whether it hangs from another channel."""
        return self.kind in (NEWS_THREAD, PUBLIC_THREAD, PRIVATE_THREAD)

    @property
    def mention(self) -> str:
        """`<#id>`."""
        return f"<#{self.id}>"

    def by(self, author: User) -> list[FakeMessage]:
        """The messages of one author that are still there, oldest first."""
        return [one for one in self.messages if one.author is author and not one.deleted]

    def permissions(self, user: User) -> int:
        """What `user` may do here."""
        if self.guild is None:
            return ALL if user is self.recipient or user is self.world.bot else 0
        return self.guild.permissions(user, (self.parent or self).overwrites)

    def can(self, user: User, permission: Permission | int) -> bool:
        """Whether `user` has all of `permission` here."""
        needed = int(permission)
        return self.permissions(user) & needed == needed

    def deny(self, target: User | Role, permission: Permission | int) -> None:
        """Take permissions from a member or role in this channel."""
        self._overwrite(target, deny=int(permission))

    def allow(self, target: User | Role, permission: Permission | int) -> None:
        """Give permissions to a member or role in this channel."""
        self._overwrite(target, allow=int(permission))

    def _overwrite(self, target: User | Role, *, allow: int = 0, deny: int = 0) -> None:
        before = self.overwrites.get(target.id, (0, 0))
        self.overwrites[target.id] = (before[0] & ~deny | allow, before[1] & ~allow | deny)
        self.tell("CHANNEL_UPDATE")

    def tell(self, event: str) -> None:
        """Publish the channel as it is now."""
        assert self.guild
        self.world.tell(event, self, self.guild)


@dataclass(eq=False)
class Guild:
    """A server and its members."""

    world: World = field(repr=False)
    id: int
    name: str
    owner: User
    created: float
    everyone: Role
    admin: Role
    bot_role: Role
    roles: list[Role] = field(default_factory=list)
    channels: list[Channel] = field(default_factory=list, repr=False)
    members: dict[int, Member] = field(default_factory=dict, repr=False)
    has_bot: bool = True
    available: bool = True  # Discord has no trouble with it
    blocked_words: list[str] = field(default_factory=list)  # AutoMod's, in lower case

    @property
    def threads(self) -> list[Channel]:
        """Its threads that are not archived."""
        return [one for one in self.channels if one.is_thread and not one.archived]

    def add_channel(self, name: str, *, kind: int = TEXT, parent: Channel | None = None) -> Channel:
        """A new text channel, or one of another kind."""
        return self.world.add_channel(name, guild=self, kind=kind, parent=parent)

    def add_role(self, name: str, permissions: Permission | int = 0) -> Role:
        """A new role, given to nobody."""
        role = Role(self.world.new_id(), name, int(permissions), len(self.roles))
        self.roles.append(role)
        self.world.tell("GUILD_ROLE_CREATE", role, self)
        return role

    def join(self, user: User, admin: bool = False, roles: tuple[Role, ...] = ()) -> Member:
        """Make `user` a member; an admin may do everything."""
        held = [self.everyone, *([self.admin] if admin else []), *roles]
        member = self.members[user.id] = Member(user, held, self.world.time())
        self.world.tell("GUILD_MEMBER_ADD", member, self)
        return member

    def leave(self, user: User) -> None:
        """The user goes; what they wrote stays."""
        del self.members[user.id]
        self.world.tell("GUILD_MEMBER_REMOVE", user, self)

    def come_back(self) -> None:
        """Discord's trouble with it is over."""
        self.available = True
        self.world.tell("GUILD_CREATE", self, self, unavailable=False)

    def remove_bot(self) -> None:
        """An admin throws the bot out."""
        self.world.tell("GUILD_DELETE", self, self)
        self.has_bot = False
        del self.members[self.world.bot.id]

    def invite_bot(self) -> None:
        """An admin lets the bot in again."""
        roles = [self.everyone, self.bot_role]
        self.members[self.world.bot.id] = Member(self.world.bot, roles, self.world.time())
        self.has_bot = True
        self.world.tell("GUILD_CREATE", self, self)

    def fail(self) -> None:
        """An outage at Discord: the guild is not to be reached, and nobody was thrown out."""
        self.available = False
        self.world.tell("GUILD_DELETE", self, self, unavailable=True)

    def permissions(self, user: User, overwrites: dict[int, tuple[int, int]] | None = None) -> int:
        """What `user` may do in the guild, or in a channel of it with these overwrites."""
        if user is self.owner:
            return ALL
        member = self.members.get(user.id)
        if member is None:
            return 0
        roles = {role.id: role.permissions for role in member.roles}
        return resolve(roles, self.id, user.id, overwrites)


class World:
    """Everything there is, and the settings of the application in the developer portal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock  # seconds; for durations only, messages carry the time of day
        self._ahead = 0.0
        self.limits = Limits()
        self.message_content = True  # the privileged intents, as switched in the portal
        self.members_intent = False
        self.presences_intent = False
        self.cdn = ""  # the address under which attachments are served
        self.violations: list[str] = []
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.messages: dict[int, FakeMessage] = {}
        self.files: dict[int, Attachment] = {}
        self.publish: Publish = _nobody_listens
        self.tell: Tell = _nobody_hears
        self._last_id = 0
        self._past = _past_ids()
        self.bot = self.add_user("guildgpt", bot=True)
        self.owner = self.add_user("operator")
        self.application_id = self.bot.id

    def time(self) -> float:
        """Discord's time of day, in seconds since 1970."""
        return time.time() + self._ahead

    @property
    def ahead(self) -> float:
        """By how many seconds Discord's clock is ahead of this machine's."""
        return self._ahead

    @ahead.setter
    def ahead(self, seconds: float) -> None:
        self._ahead, self._last_id = seconds, 0

    def new_id(self) -> int:
        """A snowflake of this moment, larger than all before."""
        now = (int(self.time() * 1000) - EPOCH) << 22
        self._last_id = max(now, self._last_id + 1)
        return self._last_id

    def add_user(self, name: str, *, bot: bool = False) -> User:
        """A new account, in no guild yet."""
        user = User(next(self._past), name, bot)
        self.users[user.id] = user
        return user

    def add_guild(self, name: str, *, bot_permissions: int = EVERYONE) -> Guild:
        """A new server with the bot and the operator in it, and no channel."""
        id = next(self._past)
        everyone = Role(id, "@everyone", EVERYONE, 0)
        admin = Role(self.new_id(), "admin", int(Permission.ADMINISTRATOR), 2)
        bot_role = Role(self.new_id(), self.bot.name, int(bot_permissions), 1, self.bot)
        guild = Guild(self, id, name, self.owner, self.time(), everyone, admin, bot_role)
        guild.roles += [everyone, admin, bot_role]
        for user, roles in ((self.owner, [everyone]), (self.bot, [everyone, bot_role])):
            guild.members[user.id] = Member(user, roles, guild.created)
        self.guilds[id] = guild
        self.tell("GUILD_CREATE", guild, guild)
        return guild

    def add_channel(self, name: str, *, guild: Guild | None = None, **more: Any) -> Channel:
        """A new channel; `more` are fields of `Channel`."""
        channel = Channel(self, more.pop("id", None) or self.new_id(), name, guild=guild, **more)
        self.channels[channel.id] = channel
        if guild is not None:
            guild.channels.append(channel)
            if not channel.is_thread:
                channel.tell("CHANNEL_CREATE")
        return channel

    def remove_channel(self, channel: Channel) -> None:
        """A guild's channel or thread goes, with its threads and messages."""
        guild = channel.guild
        assert guild
        for gone in [one for one in guild.channels if channel in (one, one.parent)]:
            guild.channels.remove(gone)
            del self.channels[gone.id]
            for message in gone.messages:
                message.deleted = True
        channel.tell("THREAD_DELETE" if channel.is_thread else "CHANNEL_DELETE")

    def open_dm(self, user: User) -> Channel:
        """The direct conversation between `user` and the bot."""
        for channel in self.channels.values():
            if channel.recipient is user:
                return channel
        return self.add_channel(user.name, kind=DM, recipient=user)


def _past_ids() -> Iterator[int]:
    """Ids of users and guilds: a millisecond apart, so that guilds spread over all shards."""
    moment = _PAST
    while True:
        moment += 1
        yield moment << 22


def _nobody_listens(*_: object, **__: object) -> int:
    return 0


def _nobody_hears(*_: object, **__: object) -> None:
    pass
