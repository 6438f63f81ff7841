"""SQLite behind the store: a thread runs each unit of work whole, its commit included.

The usual asynchronous driver sends its thread on an errand for every call, ten and more a unit; on
a machine whose cores are taken each of them waits for its turn, and writes pile up behind one
another.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import QueuePool, StaticPool

T = TypeVar("T")
Work = Callable[[Connection], T]

_READERS = 3  # connections to a file that read beside the one that writes
_PRAGMAS = (
    "busy_timeout = 100",  # milliseconds; then we wait ourselves, without holding the thread
    "journal_mode = WAL",  # readers and the writer do not wait for each other
    "synchronous = NORMAL",  # outlasts kill -9; a power cut may take the last moments, never more
    "foreign_keys = ON",
    "secure_delete = ON",  # what is deleted is overwritten
)


class Sqlite:
    """A SQLite file, or a database in memory: one connection there, with one thread for all."""

    insert = staticmethod(insert)

    def __init__(self, url: URL):
        in_memory = url.database in (None, "", ":memory:")
        if not in_memory:
            _make_private(Path(str(url.database)))
        size = {} if in_memory else {"pool_size": _READERS + 1, "max_overflow": 0}
        self.engine = create_engine(
            url,
            hide_parameters=True,  # errors must not carry them: they are what members wrote
            poolclass=StaticPool if in_memory else QueuePool,
            connect_args={"check_same_thread": False},  # but only one at a time
            pool_reset_on_return=None,  # every unit of work commits or rolls back itself
            **size,
        )
        event.listen(self.engine, "connect", _set_up)
        event.listen(self.engine, "begin", _begin)
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = self._writer if in_memory else ThreadPoolExecutor(_READERS, "store-reader")
        self._writing = self.engine.execution_options(writes=True)

    async def look(self) -> None:
        """Nothing can be wrong with it that opening would not show."""

    async def read(self, work: Work[T]) -> T:
        """Do the work in a transaction that sees one moment."""
        return await _in_a_thread(self._readers, _unit, self.engine, work)

    async def read_aside(self, work: Work[T]) -> T:
        """The same: it is in a thread."""
        return await self.read(work)

    async def write(self, work: Work[T], *, alone: bool) -> T:
        """Do the work in a transaction; here a writer always is alone."""
        return await _in_a_thread(self._writer, _unit, self._writing, work)

    async def rewrite(self) -> None:
        """Write the file anew, without what was deleted in it."""
        await _in_a_thread(self._writer, self._outside, "VACUUM")

    async def empty_log(self) -> bool:
        """Whether the log could be emptied; not while somebody reads an older state."""
        emptying = "PRAGMA wal_checkpoint(TRUNCATE)"
        rows = await _in_a_thread(self._writer, self._outside, emptying)
        return not rows[0][0]

    async def close(self) -> None:
        """Close the file, its log written back into it."""
        await asyncio.to_thread(self.engine.dispose)
        for threads in (self._readers, self._writer):
            threads.shutdown()

    def _outside(self, statement: str) -> list[Any]:
        """A statement outside of any transaction."""
        with self.engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            return list(driver.execute(statement))


async def _in_a_thread(threads: Executor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function, *arguments)


def _unit(engine: Engine, work: Work[T]) -> T:
    with engine.begin() as connection:
        return work(connection)


def _make_private(path: Path) -> None:
    """A new file is for its owner only; SQLite gives its log the same mode."""
    with suppress(OSError):  # of which SQLite will say more
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _set_up(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where sqlite3 thinks
    try:
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()  # the pool never gets to see it
        raise


def _begin(connection: Connection) -> None:
    # A writer that begins as a reader can find itself locked out without having waited.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
