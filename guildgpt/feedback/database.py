"""One database, SQLite or PostgreSQL: opened, migrated, read and written to, its errors in words.

A unit of work is a function of a connection. It runs in one transaction, and again from its start
when the database was locked or gone for a moment; so it makes its ids and times outside itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, TextClause, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from guildgpt.errors import RecordGone, StoreError
from guildgpt.feedback.schema import HEAD, VERSION_TABLE, metadata
from guildgpt.feedback.trouble import GONE, diagnose

T = TypeVar("T")
Work = Callable[[AsyncConnection], Awaitable[T]]

_PAUSE = 0.02  # seconds between two tries
_READERS = 4  # connections to a SQLite file: one writes, the others read
_ALONE = 0x6775696C64  # our advisory lock on PostgreSQL: shared to write, exclusive to be alone
_PRAGMAS = (
    "busy_timeout = 100",  # milliseconds; then we wait ourselves, without holding a thread
    "journal_mode = WAL",  # readers and the writer do not wait for each other
    "synchronous = NORMAL",  # outlasts kill -9; a power cut may take the last moments, never more
    "foreign_keys = ON",
    "secure_delete = ON",  # what is deleted is overwritten
)


class Database:
    """Open one with `Database.open`; every method may raise StoreError."""

    def __init__(self, engine: AsyncEngine, where: str, patience: float):
        """`where` names the database for people, without a password; `patience` in seconds."""
        self.engine = engine
        self.where = where
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._reading = engine
        if not self.is_sqlite:  # what is read in one unit is of one moment, as on SQLite
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ")
        self._writing = engine.execution_options(writes=True)
        self._patience = patience
        self._gate: AbstractAsyncContextManager[object] = (
            asyncio.Lock() if self.is_sqlite else nullcontext()
        )
        self._running: set[asyncio.Future[Any]] = set()
        self._inserts: ModuleType | None = None

    @classmethod
    async def open(cls, url: str, *, patience: float) -> Database:
        """Connect, and bring the schema up to date."""
        parsed = parse(url)
        database = cls(_engine(parsed), _shown(parsed), patience)
        try:
            await database._prepare()
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Let what is being written come to its end, and disconnect."""
        while self._running:
            await asyncio.wait(self._running)
        await self.engine.dispose()

    async def read(self, work: Work[T]) -> T:
        """Do the work in a transaction that sees one moment."""
        return await self._to_its_end(self._run(self._reading, work, nullcontext()))

    async def write(self, work: Work[T], *, alone: bool = False) -> T:
        """Do the work in a transaction; `alone`: while no other process writes either.

        On SQLite a writer always is alone.
        """
        lock = _LOCK_ALONE if alone else _LOCK_SHARED
        return await self._to_its_end(self._run(self._writing, work, self._gate, lock=lock))

    def insert(self, table: Any) -> Any:
        """An INSERT that can say what happens `on_conflict`: the dialects agree, SQLAlchemy does
        not know."""
        if self._inserts is None:
            if self.is_sqlite:
                from sqlalchemy.dialects import sqlite as dialect
            else:
                from sqlalchemy.dialects import postgresql as dialect  # type: ignore[no-redef]
            self._inserts = dialect
        return self._inserts.insert(table)

    async def scrub(self) -> bool:
        """Rewrite a SQLite file without what was ever deleted in it, the log included.

        `secure_delete` does not do: when rows move to another page, copies stay behind in the first
        one. False if somebody was reading what was deleted all the while. PostgreSQL sees to its
        own pages (autovacuum) and its log.
        """
        return not self.is_sqlite or await self._to_its_end(self._scrub())

    async def _scrub(self) -> bool:
        await self._run(self.engine, _vacuum, self._gate, begin=False)
        for _ in range(max(1, round(self._patience / _PAUSE))):
            if await self._run(self.engine, _empty_log, self._gate, begin=False):
                return True
            await asyncio.sleep(_PAUSE)
        return False

    async def _run(
        self,
        engine: AsyncEngine,
        work: Work[T],
        gate: AbstractAsyncContextManager[object],
        *,
        lock: TextClause | None = None,
        begin: bool = True,
    ) -> T:
        deadline = asyncio.get_running_loop().time() + self._patience
        while True:
            try:
                async with gate, engine.begin() if begin else engine.connect() as connection:
                    if lock is not None and not self.is_sqlite:
                        await connection.execute(lock)
                    return await work(connection)
            except Exception as error:
                trouble = diagnose(error)
                if trouble is None:
                    raise
                late = asyncio.get_running_loop().time() >= deadline
                if late or not trouble.passing:
                    kind = RecordGone if trouble is GONE else StoreError
                    raise kind(trouble.what, where=self.where, remedy=trouble.remedy) from error
            await asyncio.sleep(_PAUSE)

    async def _to_its_end(self, work: Awaitable[T]) -> T:
        """Await, so that a cancelled caller breaks no transaction off: it would take the
        connection along, and with it a database in memory."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen: if the caller is gone, nobody else asks

    async def _prepare(self) -> None:
        if await self.read(_revision) != HEAD:
            await self.write(lambda connection: connection.run_sync(self._migrate), alone=True)

    def _migrate(self, connection: Connection) -> None:
        # Another process may have been faster while we waited for our turn.
        tables = set(inspect(connection).get_table_names())
        if VERSION_TABLE not in tables and (
            tables & set(metadata.tables) or (tables and self.is_sqlite)
        ):
            raise StoreError(
                f"this database holds something else (the table {min(tables)})",
                where=self.where,
                remedy="Name the store's database, or an empty one.",
            )
        from alembic.util import CommandError

        try:
            migrate(connection)
        except CommandError as error:
            raise StoreError(
                "a newer GuildGPT wrote this store",
                where=self.where,
                remedy="Update this one: pip install -U guildgpt",
            ) from error


_LOCK_ALONE = text(f"SELECT pg_advisory_xact_lock({_ALONE})")
_LOCK_SHARED = text(f"SELECT pg_advisory_xact_lock_shared({_ALONE})")


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision`, inside the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "guildgpt.feedback:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def parse(url: str) -> URL:
    """The URL with its driver, from what people write; anything without "://" is a file's path."""
    if "://" not in url:
        return URL.create("sqlite+aiosqlite", database=str(Path(url).expanduser()))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError("the store's URL cannot be read", remedy=_FORMS) from error
    kind = parsed.drivername.partition("+")[0]
    if kind == "sqlite":
        return parsed.set(drivername="sqlite+aiosqlite")
    if kind not in ("postgresql", "postgres"):
        raise StoreError(f"{kind} is no database that the store knows", remedy=_FORMS)
    query = dict(parsed.query)
    if "sslmode" in query:  # libpq's name for it, which everybody knows
        query["ssl"] = query.pop("sslmode")
    return parsed.set(drivername="postgresql+asyncpg", query=query)


_FORMS = "Write sqlite:///path/to/feedback.db or postgresql://user:password@host/database."


def _shown(url: URL) -> str:
    if url.drivername.startswith("sqlite"):
        return url.database or "sqlite in memory"
    return url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def _engine(url: URL) -> AsyncEngine:
    # Errors must not carry parameters: they are what members wrote.
    if url.drivername.startswith("postgresql"):
        try:
            return create_async_engine(
                url,
                hide_parameters=True,
                pool_size=5,
                max_overflow=5,
                pool_pre_ping=True,
                connect_args={"timeout": 10, "server_settings": {"application_name": "guildgpt"}},
            )
        except ModuleNotFoundError as error:
            raise StoreError(
                "PostgreSQL needs a driver that is not installed",
                where=_shown(url),
                remedy="pip install 'guildgpt[postgres]'",
            ) from error
    in_memory = url.database in (None, "", ":memory:")
    if not in_memory:
        _make_private(Path(str(url.database)))
    engine = create_async_engine(
        url,
        hide_parameters=True,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=1 if in_memory else _READERS,
        max_overflow=0,
        pool_timeout=600,
        pool_reset_on_return=None,  # every unit of work commits or rolls back itself
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """A new file is for its owner only; SQLite gives its log the same mode."""
    with suppress(OSError):  # of which SQLite will say more
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where sqlite3 thinks
    cursor = connection.cursor()
    try:
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
    except BaseException:
        connection.close()  # the pool never gets to see it
        raise


def _begin_sqlite(connection: Connection) -> None:
    # A writer that begins as a reader can find itself locked out without having waited.
    writes = connection.get_execution_options().get("writes")
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    # Straight to the driver: a statement of SQLAlchemy's is three errands for SQLite's thread.
    connection.connection.run_async(lambda driver: driver.execute(begin))


async def _revision(connection: AsyncConnection) -> str | None:
    """The migration that the database has; None if it has none."""
    if not await connection.run_sync(lambda sync: inspect(sync).has_table(VERSION_TABLE)):
        return None
    found = await connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    return None if found is None else str(found)


async def _vacuum(connection: AsyncConnection) -> None:
    await (await _driver(connection)).execute("VACUUM")


async def _empty_log(connection: AsyncConnection) -> bool:
    """Whether the log could be emptied; not while somebody reads an older state."""
    rows = await (await _driver(connection)).execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    return not next(iter(rows))[0]


async def _driver(connection: AsyncConnection) -> Any:
    """SQLite's own connection, without a transaction."""
    return (await connection.get_raw_connection()).driver_connection
