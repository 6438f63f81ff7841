"""PostgreSQL behind the store, through asyncpg: a server of one's own, a hoster's, or a pooler."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from guildgpt.feedback.storage.postgres_url import PostgresURL
from guildgpt.feedback.storage.sqlite import T, Work
from guildgpt.feedback.storage.trouble import Known, Trouble, refused

SECONDS_TO_BEGIN = 10.0
_ALONE = 0x6775696C64  # our advisory lock: shared to write, exclusive to be alone
_LOCK_ALONE = text(f"SELECT pg_advisory_xact_lock({_ALONE})")
_LOCK_SHARED = text(f"SELECT pg_advisory_xact_lock_shared({_ALONE})")
_LOOK = "SELECT current_setting('server_encoding'), pg_backend_pid()"
# A pooler gives the next transaction to another session, which knows nothing of what was prepared
# in the last one: then a statement is prepared without a name, and again each time.
_UNPREPARED: dict[str, Any] = {
    "statement_cache_size": 0,  # asyncpg's, and SQLAlchemy's over it
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": lambda: "",
}


class Postgres:
    """A database on a PostgreSQL server; `look` comes first."""

    def __init__(self, url: PostgresURL):
        import asyncpg  # if it is not there, this says so at once
        from sqlalchemy.dialects.postgresql import insert

        self.insert = insert
        self._asyncpg: Any = asyncpg
        self._connection_class = _impatient(asyncpg.Connection)
        self._url = url
        self._prepared: dict[str, Any] = {}
        self._engine = self._engine_for(self._prepared)
        self._reading = self._engine

    async def look(self) -> None:
        """See whether the database can hold the store, and whether a pooler stands before it."""
        connection = await self._connect(statement_cache_size=0)
        try:
            async with connection.transaction():
                encoding, session = await connection.fetchrow(_LOOK)
            if encoding != "UTF8":
                raise Known(
                    Trouble(
                        f"the database's encoding is {encoding}: it cannot hold every text",
                        "Make one in UTF8, `createdb -E UTF8 -T template0 NAME`, and name it in "
                        "the store's URL.",
                    )
                )
        finally:
            await connection.close(timeout=2)
        # A pooler has one session for many, so the number that it gives us is its own.
        pooled = self._url.pooled or session != connection.get_server_pid()
        await self.close()
        self._prepared = _UNPREPARED if pooled else {}
        self._engine = self._engine_for(self._prepared)
        self._reading = _of_one_moment(self._engine)

    async def read(self, work: Work[T]) -> T:
        """Do the work in a transaction that sees one moment."""
        async with self._reading.begin() as connection:
            return await connection.run_sync(work)

    async def read_aside(self, work: Work[T]) -> T:
        """The same in a thread with a loop and a connection of its own: what is made of many rows
        would keep this loop."""

        async def aside() -> T:
            engine = self._engine_for(self._prepared)
            try:
                async with _of_one_moment(engine).begin() as connection:
                    return await connection.run_sync(work)
            finally:
                await engine.dispose()

        return await asyncio.to_thread(asyncio.run, aside())

    async def write(self, work: Work[T], *, alone: bool) -> T:
        """Do the work in a transaction; `alone`: while nobody else writes."""
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK_ALONE if alone else _LOCK_SHARED)
            return await connection.run_sync(work)

    async def rewrite(self) -> None:
        """The server sees to its own pages (autovacuum) and its log."""

    async def empty_log(self) -> bool:
        """See `rewrite`."""
        return True

    async def close(self) -> None:
        """Let go of all connections."""
        await self._engine.dispose()

    def _engine_for(self, prepared: dict[str, Any]) -> AsyncEngine:
        """Connections that were cut meanwhile are not looked for: that would take longer than the
        unit of work, and what fails because of it is done again (see `Database`)."""
        return create_async_engine(
            "postgresql+asyncpg://",
            hide_parameters=True,  # errors must not carry them: they are what members wrote
            pool_size=5,
            max_overflow=5,
            connect_args={"async_creator_fn": self._connect, **prepared},
        )

    async def _connect(self, **options: Any) -> Any:
        """A connection to the first host that takes one; asyncpg's own list has one time limit for
        all, which a machine that is off uses up."""
        hosts = self._url.hosts or ((None, None),)
        for host, port in hosts:
            try:
                connection = await self._asyncpg.connect(
                    host=host,
                    port=port,
                    connection_class=self._connection_class,
                    **self._url.arguments,
                    **options,
                )
                break
            except (OSError, self._asyncpg.CannotConnectNowError) as error:
                failed: Exception = error
            except self._asyncpg.TargetServerAttributeNotMatched:
                failed = Known(
                    Trouble(
                        "no server of the store's URL can be written to",
                        "Name the primary server; after a failover it takes a moment until there "
                        "is one.",
                        passing=True,
                    )
                )
            except self._asyncpg.PostgresError as error:
                raise Known(refused(error)) from error
            except (self._asyncpg.InterfaceError, RuntimeError, ValueError) as error:
                # asyncpg cannot do what a server asks for, or what a variable such as PGPORT says.
                raise Known(
                    Trouble(
                        f"the connection to the database cannot be set up: {error}",
                        "Look at the server's pg_hba.conf, and at environment variables that "
                        "begin with PG.",
                    )
                ) from error
        else:
            raise failed
        client = connection._transport.get_extra_info("socket")
        for level, option, value in self._url.socket_options:
            client.setsockopt(level, option, value)
        return connection


def _of_one_moment(engine: AsyncEngine) -> AsyncEngine:
    """The engine for units that only read: what they see is of one moment, as on SQLite."""
    return engine.execution_options(isolation_level="REPEATABLE READ")


def _impatient(connection: Any) -> Any:
    """A class of connections that wait for the beginning of a transaction, but not for ever: a
    pooler whose server is gone lets one wait for minutes, a router that forgot us for longer."""

    class Impatient(connection):  # type: ignore[misc]
        async def execute(self, query: str, *args: Any, **options: Any) -> Any:
            if not query.startswith("BEGIN"):
                return await super().execute(query, *args, **options)
            try:
                async with asyncio.timeout(SECONDS_TO_BEGIN):
                    return await super().execute(query, *args, **options)
            except TimeoutError:
                self.terminate()
                raise

    return Impatient
