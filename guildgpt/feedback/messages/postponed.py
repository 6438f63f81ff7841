"""What the store could not take at once is written as soon as it can: nothing is lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from guildgpt.errors import RecordGone, StoreError

Write = Callable[[], Awaitable[object]]


class Log(Protocol):
    """Takes events with their fields, as the bot's log and the server's do."""

    def __call__(self, event: str, *, level: int = logging.INFO, **fields: Any) -> None:
        """Log an event."""

    def unforeseen(self, what: str, error: BaseException) -> None:
        """Log an error that nobody has foreseen, and where it was raised."""


class Postponed:
    """Writes in their order; once one has to wait, those after it wait as well.

    It is held in memory: what waits when the process is killed belongs to events that are not
    finished in the store either, and are taken up again.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
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
                self._log("store_failed", error=error)
        self._waiting.append(write)
        return True

    async def catch_up(self) -> None:
        """Write what waits; raises `StoreError` while the store takes nothing."""
        while self._waiting:
            try:
                await self._waiting[0]()
            except RecordGone:
                self._log("erased_meanwhile")
            except StoreError:
                raise
            except Exception as error:  # it must not hold up those behind it
                self._log.unforeseen("postponed write failed", error)
            self._waiting.popleft()
