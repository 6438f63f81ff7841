"""What the store could not take at once is written as soon as it can: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from guildgpt.bot.operating.logs import EventLog
from guildgpt.errors import RecordGone, StoreError

log = EventLog(__name__)
T = TypeVar("T")
RETRY_SECONDS = 2.0  # until the store is asked again
Write = Callable[[], Awaitable[object]]


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """What the store says to `work`, however long it takes until it says something."""
    while True:
        try:
            return await work()
        except StoreError as error:
            log("store_failed", error=error)
            await asyncio.sleep(RETRY_SECONDS)


async def or_else(otherwise: T, work: Awaitable[T]) -> T:
    """What the store says, or `otherwise` while it is in trouble."""
    try:
        return await work
    except StoreError as error:
        log("store_failed", error=error)
        return otherwise


class Postponed:
    """Writes in their order; once one has to wait, those after it wait as well.

    It is held in memory: what waits when the process is killed belongs to events that are not
    finished in the store either, and are taken up again.
    """

    def __init__(self) -> None:
        self._waiting: deque[Write] = deque()

    def __len__(self) -> int:
        """Writes that wait."""
        return len(self._waiting)

    async def do(self, write: Write) -> bool:
        """Write now, or as soon as it can be; False if what it is about was erased."""
        if not self._waiting:
            try:
                await write()
                return True
            except RecordGone:
                return False
            except StoreError as error:
                log("store_failed", error=error)
        self._waiting.append(write)
        return True

    async def catch_up(self) -> None:
        """Write what waits; raises `StoreError` while the store takes nothing."""
        while self._waiting:
            try:
                await self._waiting[0]()
            except RecordGone:
                log("erased_meanwhile")
            except StoreError:
                raise
            except Exception as error:  # it must not hold up those behind it
                log.unforeseen("postponed write failed", error)
            self._waiting.popleft()
