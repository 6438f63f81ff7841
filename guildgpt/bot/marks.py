"""Up to which message each channel has been read, so that none is lost while the bot is away.

A mark never passes a message that is still being claimed: whatever lies behind a mark has been
claimed or was not meant for the bot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from guildgpt.bot.logs import log
from guildgpt.errors import StoreError
from guildgpt.feedback.store import Store

LOGGER = logging.getLogger(__name__)
CATCH_UP_SECONDS = 24 * 3600.0  # what is older when the bot comes back is not answered any more
RETRY_SECONDS = 2.0  # until the store is asked again
_EPOCH = 1_420_070_400  # the first second of 2015, from which Discord counts


@dataclass
class _Channel:
    guild_id: int | None
    newest: int = 0
    open: set[int] = field(default_factory=set)  # messages being claimed
    changed: bool = False

    @property
    def read(self) -> int:
        """The newest message with nothing unread before it."""
        return min([self.newest, *(message - 1 for message in self.open)])


@dataclass(frozen=True)
class Missed:
    """Where reading goes on in each channel: after which message."""

    marks: Mapping[int, tuple[int | None, int]]  # channel: its guild, the newest message read
    elsewhere: int
    oldest: int

    def after(self, channel_id: int) -> int:
        """Where it goes on in a channel. Where nothing was ever read, what came after the last
        words anywhere is new."""
        _, read = self.marks.get(channel_id, (None, self.elsewhere))
        return max(read, self.oldest)

    @property
    def direct(self) -> list[int]:
        """The channels of direct messages."""
        return [channel for channel, (guild, _) in self.marks.items() if guild is None]


class Marks:
    """The marks of this process, written to the store every now and then by `save`.

    What is heard after a gap must not let the gap pass for read: between `behind` and `caught_up`
    nothing is saved.
    """

    def __init__(self, store: Store):
        self._store = store
        self._channels: dict[int, _Channel] = {}
        self._behind: set[int] = set()  # shards
        self._saving = asyncio.Lock()  # two at once would forget what the other just saw
        self._begun = _snowflake(time.time())

    @contextmanager
    def handling(self, channel_id: int, message_id: int, guild_id: int | None) -> Iterator[None]:
        """While the block runs, the message counts as unread; if it fails, for good."""
        channel = self._channels.setdefault(channel_id, _Channel(guild_id))
        channel.open.add(message_id)
        channel.newest = max(channel.newest, message_id)
        yield
        channel.open.discard(message_id)
        channel.changed = True

    def is_open(self, channel_id: int, message_id: int) -> bool:
        """Whether the message is being claimed at this moment."""
        channel = self._channels.get(channel_id)
        return channel is not None and message_id in channel.open

    def behind(self, shard_id: int) -> None:
        """The shard may be missing something."""
        self._behind.add(shard_id)

    def caught_up(self, shard_id: int) -> None:
        """It missed nothing, or that has been read."""
        self._behind.discard(shard_id)

    async def missed(self) -> Missed:
        """Where to read what was written meanwhile; waits for the store as long as it takes."""
        while True:
            try:
                marks = await self._store.channel_marks()
                break
            except StoreError as error:
                log(LOGGER, "store_failed", error=error)
                await asyncio.sleep(RETRY_SECONDS)
        elsewhere = max((read for _, read in marks.values()), default=self._begun)
        return Missed(marks, elsewhere, _snowflake(time.time() - CATCH_UP_SECONDS))

    async def save(self) -> None:
        """Write what has changed; raises `StoreError`, and then tries again the next time."""
        async with self._saving:
            if self._behind:
                return
            changed = {id: channel for id, channel in self._channels.items() if channel.changed}
            for channel in changed.values():
                channel.changed = False
            try:
                await self._store.see_all(
                    {id: (channel.guild_id, channel.read) for id, channel in changed.items()}
                )
            except BaseException:
                for channel in changed.values():
                    channel.changed = True
                raise
            for channel_id, channel in changed.items():
                if not channel.open and not channel.changed:
                    del self._channels[channel_id]  # the store knows it now


def _snowflake(unix_seconds: float) -> int:
    """The smallest id that Discord gives at a time."""
    return int((unix_seconds - _EPOCH) * 1000) << 22
