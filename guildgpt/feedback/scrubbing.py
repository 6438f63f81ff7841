"""What was deleted leaves traces in a SQLite file and its log, and they are taken out.

The log (`-wal`) holds pages as they were before: emptying it is quick. In the file `secure_delete`
overwrites what is deleted where it stands, but rows that moved to another page before left a copy
behind; only writing the whole file anew is sure to leave nothing. While that lasts others read, and
writers wait. So whoever keeps the store open does the first soon and the second now and then.
PostgreSQL sees to its own pages (autovacuum) and log.
"""

from __future__ import annotations

import logging

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from guildgpt.errors import StoreError
from guildgpt.feedback.part import Part, new_id
from guildgpt.feedback.schema import facts

LOGGER = logging.getLogger("guildgpt.feedback")
_UNSCRUBBED = "unscrubbed"  # the fact that a file still has traces of what was deleted


class Scrubbing(Part):
    """The store's file without what was ever deleted in it."""

    async def empty_log(self) -> bool:
        """Take what was deleted out of the log; False if somebody reads an older state now."""
        emptied = await self._database.empty_log()
        self.log_has_traces = self.log_has_traces and not emptied
        return emptied

    async def scrub(self) -> None:
        """Write the file anew if something was deleted since the last time.

        What cannot be done now is done the next time, or when the store is opened again.
        """
        due = facts.c.name == _UNSCRUBBED

        async def look(connection: AsyncConnection) -> str | None:
            return (await connection.execute(select(facts.c.value).where(due))).scalar()

        async def done(connection: AsyncConnection) -> None:
            # Not if something else was deleted while the file was written.
            await connection.execute(delete(facts).where(due, facts.c.value == last))

        try:
            if last := await self._database.read(look):
                self.log_has_traces = self.file_has_traces = False  # what is deleted from now on
                if await self._database.scrub():
                    await self._database.write(done)
                    return
                LOGGER.warning("the store's file is read all the time: scrubbed later")
                self.log_has_traces = self.file_has_traces = True
        except StoreError as error:
            self.log_has_traces = self.file_has_traces = True
            LOGGER.warning("the store's file could not be scrubbed: %s", error.what)

    async def _note_traces(self, connection: AsyncConnection) -> None:
        """Something is being deleted: the file has to be scrubbed."""
        if self._database.is_sqlite:
            last = {"value": new_id()}
            due = self._insert(facts).values(name=_UNSCRUBBED, **last)
            due = due.on_conflict_do_update(index_elements=["name"], set_=last)
            await connection.execute(due)
            self.log_has_traces = self.file_has_traces = True
