"""The feedback store: one object, its methods in parts that each tell one story.

`Members` who they are and what they chose, `Conversations` what was said, `Revisions` and `Places`
what is deleted and edited on Discord, `Deliveries` what is being answered, `Opinions` votes and
ratings, `Reports` what somebody should look at, `Statistics` the counts, `Snapshots` exports and
imports, `Privacy` erasure and retention, `OwnData` what a member may see of it. Every method raises
StoreError, in words, when the database is locked, full, read-only, damaged or gone; each write is
one transaction, done whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from guildgpt.errors import StoreError
from guildgpt.feedback.conversations import Conversations
from guildgpt.feedback.database import Database
from guildgpt.feedback.deliveries import Deliveries
from guildgpt.feedback.opinions import Opinions
from guildgpt.feedback.own_data import OwnData
from guildgpt.feedback.part import utcnow
from guildgpt.feedback.places import Places
from guildgpt.feedback.privacy import Privacy
from guildgpt.feedback.reports import Reports
from guildgpt.feedback.snapshots import Snapshots
from guildgpt.feedback.statistics import Statistics


class Store(
    Privacy, OwnData, Places, Conversations, Deliveries, Opinions, Reports, Statistics, Snapshots
):
    """The store; opened with `Store.open`, closed with `close` or by leaving its `async with`."""

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        key: bytes,
        clock: Callable[[], datetime] = utcnow,
        patience: float = 5.0,
    ) -> Self:
        """Open a store, or make it, and bring its tables up to date.

        `url` is sqlite:///feedback.db, postgresql://user:password@host/database, `sqlite://` for
        one in memory, or the path of a SQLite file. `key` turns members into hashes; it must be the
        one that the store was made with. For `patience` seconds a database is waited for that is
        locked or gone. Raises StoreError.
        """
        database = await Database.open(url, patience=patience)
        store = cls(database, key=key, clock=clock)
        try:
            if not await store._fits():
                raise StoreError(
                    "this is not the key that the store was made with",
                    where=database.where,
                    remedy="Put the right one back: with another, no member is found again.",
                )
            await store.scrub()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Finish what is being written, and let go of the database."""
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
