"""Up to which message everything has been read, so that none is lost while the bot is away.

There is a mark for each channel that something was written in, and one for all channels together.
What lies behind a mark was claimed, or was not meant for the bot: a mark never passes a message
that is still being claimed, and none is moved while anything may be missing anywhere. So of a
channel without one the common mark tells what is new in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from guildgpt.bot.adapter.discord_time import DiscordTime, first_id
from guildgpt.bot.operating.postponed import insist
from guildgpt.feedback.store import Store

CATCH_UP_SECONDS = 24 * 3600.0  # what is older when the bot comes back is not answered any more
LATE_SECONDS = 300.0  # Discord tells of a message within that time, or its line is known to be dead
STEP_SECONDS = 60.0  # by which the common mark moves at least
EVERYWHERE = 0  # the common mark stands in the store as that of a channel with this number


@dataclass
class _Channel:
    guild_id: int | None
    newest: int = 0
    open: set[int] = field(default_factory=set)  # messages being claimed

    @property
    def read(self) -> int:
        """The newest message with nothing unread before it."""
        return min([self.newest, *(message - 1 for message in self.open)])


@dataclass(frozen=True)
class Missed:
    """Where reading goes on in each channel: after which message."""

    marks: Mapping[int, tuple[int | None, int]]  # channel: its guild, the newest message read
    oldest: int

    def after(self, channel_id: int) -> int:
        """Where it goes on in a channel."""
        marks = [self.marks.get(id, (None, 0))[1] for id in (channel_id, EVERYWHERE)]
        return max(*marks, self.oldest)

    @property
    def direct(self) -> set[int]:
        """The channels of direct messages."""
        return {channel for channel, (guild, _) in self.marks.items() if guild is None} - {
            EVERYWHERE
        }


@dataclass
class Marks:
    """The marks of this process, written to the store every now and then by `save`.

    What comes after a gap must not let the gap pass for read: nothing is saved before all
    `shards` have caught up, nor while one of them is `behind`.
    """

    store: Store
    time: DiscordTime
    is_first: bool = False  # start of all
    _channels: dict[int, _Channel] = field(default_factory=dict)
    _changed: set[int] = field(default_factory=set)  # whose marks have moved
    _everywhere: int = 0  # what the store has, as far as it is known here
    shards: frozenset[int] = frozenset()  # that this process has
    _caught_up: set[int] = field(default_factory=set)
    # Two at once would forget what the other just saw.
    _saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @contextmanager
    def handling(self, channel_id: int, message_id: int, guild_id: int | None) -> Iterator[None]:
        """While the block runs, the message counts as unread; if it fails, for good."""
        channel = self._channels.setdefault(channel_id, _Channel(guild_id))
        channel.open.add(message_id)
        channel.newest = max(channel.newest, message_id)
        yield
        channel.open.discard(message_id)
        self._changed.add(channel_id)

    def is_open(self, channel_id: int, message_id: int) -> bool:
        """Whether the message is being claimed at this moment."""
        channel = self._channels.get(channel_id)
        return channel is not None and message_id in channel.open

    def forget(self, channel_id: int) -> None:
        """The channel is no more."""
        self._channels.pop(channel_id, None)

    def forget_guild(self, guild_id: int) -> None:
        """The bot is no longer in the guild."""
        for id in [id for id, one in self._channels.items() if one.guild_id == guild_id]:
            self.forget(id)

    def behind(self, shard_id: int) -> None:
        """The shard may be missing something."""
        self._caught_up.discard(shard_id)

    def caught_up(self, shard_id: int) -> None:
        """It missed nothing, or that has been read."""
        self._caught_up.add(shard_id)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing anywhere."""
        return bool(self.shards) and self.shards <= self._caught_up

    async def begin(self) -> None:
        """When the bot starts for the first time, nothing was missed: what was written before this
        moment is not for it. Waits for the store as long as it takes."""
        if not any(read for _, read in (await insist(self.store.places.marks)).values()):
            self.is_first = True
            await insist(
                lambda: self.store.places.see_all({EVERYWHERE: (None, first_id(self.time.now()))})
            )

    async def missed(self) -> Missed:
        """Where to read what was written meanwhile; waits for the store as long as it takes."""
        return Missed(
            await insist(self.store.places.marks), first_id(self.time.now() - CATCH_UP_SECONDS)
        )

    async def pass_over(self, newest: Mapping[int, tuple[int | None, int]]) -> None:
        """Everything up to these messages is old (for each channel its guild and the message),
        except where something has come since the start."""
        old = {id: mark for id, mark in newest.items() if id not in self._channels}
        await insist(lambda: self.store.places.see_all(old))

    async def save(self) -> None:
        """Write what has changed; raises `StoreError`, and then tries again the next time."""
        async with self._saving:
            if not self.complete:
                return
            changed, self._changed = self._changed, set()
            known = {id: self._channels[id] for id in changed & self._channels.keys()}
            marks = {id: (channel.guild_id, channel.read) for id, channel in known.items()}
            # Up to where everything was told, and nothing of it is still being claimed.
            told = first_id(self.time.now() - LATE_SECONDS)
            claimed = [message for channel in self._channels.values() for message in channel.open]
            everywhere = min([told, *(message - 1 for message in claimed)])
            if everywhere >= self._everywhere + (int(STEP_SECONDS * 1000) << 22):
                marks[EVERYWHERE] = None, everywhere
            try:
                await self.store.places.see_all(marks)
            except BaseException:
                self._changed |= changed
                raise
            _, self._everywhere = marks.get(EVERYWHERE, (None, self._everywhere))
            for id, channel in known.items():
                if not channel.open and id not in self._changed:
                    self._channels.pop(id, None)  # the store knows it now
