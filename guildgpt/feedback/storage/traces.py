"""What was deleted leaves traces in a SQLite file and its log, and they are taken out.

The log (`-wal`) holds pages as they were before: emptying it is quick. In the file `secure_delete`
overwrites what is deleted where it stands, but rows that moved to another page before left a copy
behind; only writing the whole file anew is sure to leave nothing. While that lasts others read, and
writers wait. So whoever keeps the store open does the first soon and the second now and then.
PostgreSQL sees to its own pages (autovacuum) and log.
"""

from __future__ import annotations

import logging

from sqlalchemy import Connection, delete, select

from guildgpt.errors import StoreError
from guildgpt.feedback.storage.database import Database
from guildgpt.feedback.storage.rows import new_id
from guildgpt.feedback.storage.schema import facts

LOGGER = logging.getLogger("guildgpt.feedback")
_UNSCRUBBED = "unscrubbed"  # the fact that a file still has traces of what was deleted


class Traces:
    """What was deleted and is still in the store's files: `in_log`, `in_file`, as far as known."""

    def __init__(self, database: Database):
        self._database = database
        self.in_log = self.in_file = False

    def note(self, connection: Connection) -> None:
        """In a unit of work: something is being deleted, so the file has to be scrubbed."""
        if self._database.is_sqlite:
            last = {"value": new_id()}
            due = self._database.insert(facts).values(name=_UNSCRUBBED, **last)
            connection.execute(due.on_conflict_do_update(index_elements=["name"], set_=last))
            self.in_log = self.in_file = True

    async def empty_log(self) -> bool:
        """Take what was deleted out of the log; False if somebody reads an older state now."""
        self.in_log = False  # what is deleted from now on
        emptied = await self._database.empty_log()
        self.in_log = self.in_log or not emptied
        return emptied

    async def scrub(self) -> None:
        """Write the file anew if something was deleted since the last time.

        What cannot be done now is done the next time, or when the store is opened again.
        """
        due = facts.c.name == _UNSCRUBBED
        try:
            last = await self._database.value(select(facts.c.value).where(due))
            if last is None:
                return
            self.in_log = self.in_file = False  # what is deleted from now on
            done = delete(facts).where(due, facts.c.value == last)
            if not await self._database.scrub():
                LOGGER.warning("the store's file is read all the time: scrubbed later")
            elif await self._database.execute(done):
                return  # else something was deleted meanwhile, and may have said so before
        except StoreError as error:
            LOGGER.warning("the store's file could not be scrubbed: %s", error.what)
        self.in_log = self.in_file = True
