"""PostgreSQL behind the store, through asyncpg."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

_ALONE = 0x6775696C64  # our advisory lock: shared to write, exclusive to be alone
_LOCK_ALONE = text(f"SELECT pg_advisory_xact_lock({_ALONE})")
_LOCK_SHARED = text(f"SELECT pg_advisory_xact_lock_shared({_ALONE})")


class Postgres:
    """A database on a PostgreSQL server."""

    def __init__(self, url: URL):
        self._engine = create_async_engine(
            url,
            hide_parameters=True,  # errors must not carry them: they are what members wrote
            pool_size=5,
            max_overflow=5,
            pool_pre_ping=True,
            connect_args={"timeout": 10, "server_settings": {"application_name": "guildgpt"}},
        )
        # What is read in one unit is of one moment, as on SQLite.
        self._reading = self._engine.execution_options(isolation_level="REPEATABLE READ")

    async def read(self, work: Work[T]) -> T:
        """Do the work in a transaction that sees one moment."""
        async with self._reading.begin() as connection:
            return await work(connection)

    async def write(self, work: Work[T], *, alone: bool) -> T:
        """Do the work in a transaction; `alone`: while nobody else writes."""
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK_ALONE if alone else _LOCK_SHARED)
            return await work(connection)

    async def rewrite(self) -> None:
        """The server sees to its own pages (autovacuum) and its log."""

    async def empty_log(self) -> bool:
        """See `rewrite`."""
        return True

    async def close(self) -> None:
        """Let go of all connections."""
        await self._engine.dispose()
