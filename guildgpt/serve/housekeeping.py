"""What a server does beside answering, so that nothing stays that should not: what expired is
deleted, chats that are too old go, and so does on disk what was erased in the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from guildgpt.errors import StoreError
from guildgpt.feedback.erasing.purging import purge
from guildgpt.feedback.store import Store

log = logging.getLogger(__name__)
EVERY_SECONDS = 60.0
CLEAN_SECONDS = 3600.0  # between two times that what is too old is deleted
REWRITE_SECONDS = 15 * 60.0  # between two times that a SQLite file is written anew
REWRITE_AT_LATEST = 3600.0  # though there may be somebody to answer


@dataclass(eq=False)
class Housekeeping:
    """`store` tells of the store once it is open, and `busy` whether somebody is being answered.
    Chats of the web page are kept for so many `days`; what else there is, is the bot's to keep."""

    store: Callable[[], Store | None]
    busy: Callable[[], bool]
    days: int
    clock: Callable[[], float] = time.monotonic
    _cleaned: float = float("-inf")
    _rewritten: float = float("-inf")
    _traces_since: float | None = None

    async def keep(self) -> None:
        """Go on for ever."""
        while True:
            if store := self.store():
                try:
                    await self.once(store)
                except (StoreError, OSError) as error:  # it is tried again
                    log.warning("what is too old could not be deleted: %s", error)
            await asyncio.sleep(EVERY_SECONDS)

    async def once(self, store: Store) -> None:
        """What is due now."""
        if self.clock() - self._cleaned > CLEAN_SECONDS:
            await store.privacy.retain(self.days, kinds=("web",), scrub=False)
            self._cleaned = self.clock()
        await purge(store)
        await self._scrub(store)

    async def _scrub(self, store: Store) -> None:
        """Take what was deleted out of the store's files: out of the log soon, out of the file,
        which nobody can write to meanwhile, when nobody waits for an answer; at last in any case.
        """
        if store.traces.in_log:
            await store.traces.empty_log()
        if not store.traces.in_file:
            self._traces_since = None
            return
        now = self.clock()
        if self._traces_since is None:
            self._traces_since = now
        is_late = now - self._traces_since > REWRITE_AT_LATEST
        if now - self._rewritten > REWRITE_SECONDS and (is_late or not self.busy()):
            await store.traces.scrub()
            self._rewritten, self._traces_since = now, None
